"""What is offered for a query without an answer."""

from __future__ import annotations

import pytest

from radir_pacs import anatomy
from radir_pacs.query.nearest import neighbours, related
from radir_pacs.types import ImageKind

CXR = frozenset({ImageKind.CXR})


@pytest.mark.parametrize(
    ("region", "first", "among", "last"),
    [
        (
            "right_lower_lobe",
            "left_lower_lobe",
            {"right_upper_lobe", "right_middle_lobe", "right_lung", "lungs"},
            "chest",
        ),
        ("left_pleura", "right_pleura", {"pleura"}, "chest"),
        ("heart", "anterior_mediastinum", {"mediastinum"}, "chest"),  # it has no other side
    ],
)
def test_the_other_side_comes_first_and_the_chest_last(region: str, first: str, among: set[str], last: str) -> None:
    keys = [found.key for found in neighbours(anatomy.region(region), CXR)]
    assert keys[0] == first and keys[-1] == last and among <= set(keys)
    assert region not in keys and len(set(keys)) == len(keys)


def test_only_regions_that_the_images_show_are_near() -> None:
    for region in anatomy.regions(ImageKind.CXR):
        assert all(ImageKind.CXR in found.kinds for found in neighbours(region, CXR)), region.key


def test_the_whole_chest_has_no_neighbours() -> None:
    assert neighbours(anatomy.region(anatomy.ROOT), CXR) == ()


def test_broader_findings_come_before_narrower_and_those_beside() -> None:
    near = related("consolidation")
    assert near[0] == "airspace_disease" and "infiltrate" in near
    assert "consolidation" not in near and "abnormality" not in near
    assert related("no_such_finding") == ()
