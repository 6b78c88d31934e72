"""The answer in a terminal says each thing once, and an empty one says why it is empty and what to try."""

from __future__ import annotations

from dataclasses import replace

import pytest

from radir_pacs import anatomy
from radir_pacs.cli.output import counted, out
from radir_pacs.cli.similar import _regions, as_json, show
from radir_pacs.errors import BadInput
from radir_pacs.query.nearest import related
from radir_pacs.reports import read_question
from radir_pacs.similar_cases import AnsweredRegion, Filters, FindingNote, Offer, Query
from tests.sr_material import similar_answer


def test_a_concept_is_said_once_as_gravely_as_it_is_put() -> None:
    said = (
        ("fibrosis", "left_lung", None),
        ("opacity", "left_upper_lobe", None),
        ("fibrosis", "right_lung", None),
        ("opacity", "right_lower_lobe", "moderate"),
        ("opacity", "right_upper_lobe", "mild"),
    )
    notes = [FindingNote(concept=c, region=r, polarity="present", severity=s) for c, r, s in said]
    notes.append(FindingNote(concept="opacity", region="lingula", polarity="absent"))
    answer = similar_answer(count=1)
    answer = replace(answer, cases=(replace(answer.cases[0], shared=tuple(notes), contradicting=()),))
    with out.capture() as printed:
        show(answer)
    assert "fibrosis, opacity (moderate), no opacity" in " ".join(printed.get().split())


def test_an_answer_over_several_regions_says_what_each_gave() -> None:
    regions = tuple(
        AnsweredRegion(asked=anatomy.region(key), answered=anatomy.region(key), weight=weight)
        for key, weight in (("left_pleura", 2.0), ("heart", 1.0))
    )
    answer = similar_answer("left_pleura", count=1, regions=regions)
    answer = replace(answer, cases=(replace(answer.cases[0], score=0.9, by_region=(0.95, 0.8)),))
    with out.capture() as printed:
        show(answer)
    said = " ".join(printed.get().split())
    assert "in the left pleura (weight 2), heart (weight 1)" in said and "0.900 0.950 0.800" in said
    told = as_json(answer)
    assert [one["answered"] for one in told["regions"]] == ["left_pleura", "heart"]
    assert told["cases"][0]["by_region"] == [0.95, 0.8]


@pytest.mark.parametrize(
    ("texts", "read"),
    [
        (["left pleura:2,heart"], [("left_pleura", 2.0), ("heart", 1.0)]),
        (["left pleura, heart"], [("left_pleura", 1.0), ("heart", 1.0)]),
        (["left pleura:2", "heart"], [("left_pleura", 2.0), ("heart", 1.0)]),
        (["consolidation, right lower lobe"], [("right_lower_lobe", 1.0)]),
    ],
)
def test_regions_are_named_with_weights_or_one_by_one(texts: list[str], read: list[tuple[str, float]]) -> None:
    assert [(one.region.key, weight) for one, weight in _regions(texts)] == read


@pytest.mark.parametrize("wrong", [["hart"], ["left pleura,hart"], ["heart:0"], ["heart:x"], ["heart"] * 9])
def test_regions_that_cannot_be_read_are_refused(wrong: list[str]) -> None:
    with pytest.raises(BadInput):
        _regions(wrong)


NOTHING = similar_answer(count=0)
OFFERS = (
    Offer(region="right_lower_lobe", finding="consolidation", candidates=1),
    Offer(region="left_lower_lobe", finding=None, candidates=12),
)


@pytest.mark.parametrize(
    ("filters", "why"),
    [
        (Filters(), "no other study has been indexed for it yet"),
        (Filters(exclude_same_patient=False), "no other study has been indexed for it yet"),
        (Filters(modalities=frozenset({"CR"})), "no case passes the filters"),
        (Filters(finding="pleural_effusion"), "affirms pleural effusion there"),
    ],
)
def test_an_empty_answer_explains_itself(filters: Filters, why: str) -> None:
    answer = replace(NOTHING, query=Query(study_uid="1.2.3", region="left_lower_lobe", filters=filters))
    with out.capture() as printed:
        show(answer, offers=OFFERS)
    said = " ".join(printed.get().split())
    assert "no case in the left lower lobe: " in said and why in said
    assert 'try --region "consolidation, right lower lobe": 1 case try --region "left lower lobe": 12 cases' in said
    assert ("--same-patient" in said) == filters.exclude_same_patient
    assert [offer["candidates"] for offer in as_json(answer, OFFERS)["offers"]] == [1, 12]


@pytest.mark.parametrize("finding", ["consolidation", "pleural_effusion", *related("consolidation")])
def test_what_is_offered_is_read_as_it_was_meant(finding: str) -> None:
    asked = read_question(f"{finding.replace('_', ' ')}, right lower lobe")
    assert (asked.affirmed, asked.region.key) == (finding, "right_lower_lobe")


def test_a_number_agrees_with_its_noun() -> None:
    assert [counted(n, "file") for n in (0, 1, 2)] == ["0 files", "1 file", "2 files"]
    assert [counted(n, "study", "studies") for n in (1, 2)] == ["1 study", "2 studies"]
