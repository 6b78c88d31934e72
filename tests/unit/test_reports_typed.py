"""What a person types where a region is asked for."""

from __future__ import annotations

import pytest

from radir_pacs.errors import UnknownRegion
from radir_pacs.query.notices import worded
from radir_pacs.reports import read_question


@pytest.mark.parametrize(
    ("text", "region", "noted"),
    [
        ("RUL", "right_upper_lobe", None),
        ("lower lobe of left lung", "left_lower_lobe", None),
        ("RUL consolidation", "right_upper_lobe", "'consolidation'"),
        ("no pneumothorax", "pleura", "'no pneumothorax'"),
    ],
)
def test_a_finding_beside_the_region_is_named_in_a_notice(text: str, region: str, noted: str | None) -> None:
    read = read_question(text)
    assert read.region.key == region
    told = worded(read.notice) if read.notice else None
    assert told is None if noted is None else noted in (told or "")


def test_a_misspelt_region_is_told_its_nearest_names() -> None:
    with pytest.raises(UnknownRegion, match="nearest: left lower lobe"):
        read_question("left lowr lobe")


def test_a_miss_with_no_near_name_says_where_the_list_is() -> None:
    with pytest.raises(UnknownRegion, match="/api/regions or `radir regions`"):
        read_question("xyzzy")


@pytest.mark.parametrize(
    "text", ["effusion rigth", "lefft effusion", "consolidation lfet lower lobe", "RUL lowr nodule"]
)
def test_a_misspelt_side_beside_a_finding_is_not_dropped(text: str) -> None:
    with pytest.raises(UnknownRegion):
        read_question(text)


@pytest.mark.parametrize("text", ["light effusion", "right effusion", "left-sided effusion", "fight effusion left"])
def test_other_words_near_a_side_are_no_slips(text: str) -> None:
    assert read_question(text).concept == "pleural_effusion"
