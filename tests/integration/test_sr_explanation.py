"""The explanation in the structured report: findings coded, bounded, in the words of the ontology."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from radir_pacs import anatomy
from radir_pacs.delivery import codes
from radir_pacs.delivery.check import content_tree as tree
from radir_pacs.delivery.check.template import violations
from radir_pacs.delivery.explanation import MAX_MEANING_CHARS, MAX_OF_A_CASE, note_of, statement
from radir_pacs.dicom.header import read_header
from radir_pacs.reports.lexicon import load
from radir_pacs.similar_cases import FindingNote, SimilarCaseList
from radir_pacs.types import Code
from tests.sr_material import report, similar_answer


def groups(sr: Dataset) -> list[Dataset]:
    return tree.children(tree.children(sr, codes.IMAGING_MEASUREMENTS)[0], codes.MEASUREMENT_GROUP)


def meanings(group: Dataset, name: Code) -> list[str]:
    return [tree.meaning(item, "ConceptCodeSequence") for item in tree.children(group, name)]


def parts(statement: Dataset) -> list[tuple[str, tuple[str, str]]]:
    """Name and code of what stands below a statement, and of the sides below its places."""
    return [
        (tree.code(item, "ConceptNameCodeSequence")[0], tree.code(item, "ConceptCodeSequence"))
        for item in tree.descendants(statement)
    ]


def explained(shared: tuple[FindingNote, ...], count: int = 1, region: str = "heart") -> SimilarCaseList:
    answer = similar_answer(region, count, region_asked=anatomy.region("lingula"))
    return replace(answer, cases=tuple(replace(case, shared=shared, contradicting=()) for case in answer.cases))


@pytest.mark.parametrize("include_other_uids", [True, False])
def test_each_case_says_what_it_shares_and_what_contradicts(include_other_uids: bool) -> None:
    for group in groups(report(include_other_uids=include_other_uids)):
        assert meanings(group, codes.SHARED_FINDING) == ["mild pleural effusion, left pleura"]
        assert meanings(group, codes.CONTRADICTING_FINDING) == [
            "mass, right costophrenic angle",
            "no subcutaneous emphysema, chest",
        ]


def test_the_parts_of_a_statement_are_coded_below_it() -> None:
    group = groups(report())[0]
    (effusion,) = tree.children(group, codes.SHARED_FINDING)
    mass, emphysema = tree.children(group, codes.CONTRADICTING_FINDING)
    assert tree.code(effusion, "ConceptCodeSequence") == ("present:pleural_effusion:left_pleura:mild", "99RADIR")
    assert parts(effusion) == [
        ("FINDING-AFFIRMED", ("60046008", "SCT")),
        ("246112005", ("255604002", "SCT")),
        ("363698007", ("3120008", "SCT")),
        ("272741003", ("7771000", "SCT")),
    ]
    assert parts(mass)[0] == ("FINDING-AFFIRMED", ("RID3874", "RADLEX"))
    assert parts(mass)[1] == ("363698007", ("COSTOPHRENIC", "99RADIR"))
    assert parts(emphysema) == [("FINDING-DENIED", ("22128006", "SCT")), ("363698007", ("816094009", "SCT"))]


def test_no_finding_of_another_is_a_finding_of_the_patient() -> None:
    for item in tree.descendants(report()):
        if tree.code(item, "ConceptNameCodeSequence") == tree.pair(codes.FINDING):
            assert tree.code(item, "ConceptCodeSequence") == tree.pair(codes.SIMILAR_CASE)


def test_every_statement_of_the_ontology_fits_and_reads_back() -> None:
    regions = anatomy.regions()
    for number, (key, concept) in enumerate(load().concepts.items()):
        for region in regions[number % 7 :: 7] + tuple(r for r in regions if r.key in concept.within):
            for polarity, severity in (("present", "moderate"), ("present", None), ("absent", None)):
                note = FindingNote(concept=key, region=region.key, polarity=polarity, severity=severity)
                code = statement(note)
                assert len(code.meaning) <= MAX_MEANING_CHARS and note.words in code.meaning
                assert note_of(code.value) == note


@pytest.mark.parametrize(
    "value", ["", "present", "present:mass", "present:mass:nowhere", "perhaps:mass:heart", "present:mass:heart:vast"]
)
def test_a_code_that_is_no_statement(value: str) -> None:
    assert note_of(value) is None


def test_words_that_the_ontology_does_not_know_stay_out() -> None:
    notes = (
        FindingNote(concept="seen in Somebody Else", region="heart", polarity="present"),
        FindingNote(concept="mass", region="bed 4", polarity="present"),
        FindingNote(concept="mass", region="heart", polarity="present", severity="since 1987"),
        FindingNote(concept="cardiomegaly", region="heart", polarity="present"),
    )
    sr = report(answer=explained(notes))
    assert meanings(groups(sr)[0], codes.SHARED_FINDING) == ["cardiomegaly, heart"]
    assert violations(sr, foreign_texts=["Somebody", "bed 4", "1987"]) == []


def test_a_case_without_findings_is_not_explained() -> None:
    group = groups(report(answer=explained(())))[0]
    assert meanings(group, codes.SHARED_FINDING) == meanings(group, codes.CONTRADICTING_FINDING) == []


@pytest.mark.parametrize("count", [1, 60])
def test_a_long_explanation_is_cut_so_that_the_report_can_be_read(count: int, tmp_path: Path) -> None:
    """The widest statements at the widest site; our own reader of headers bounds what it takes."""
    region = "right_costophrenic_angle"
    notes = tuple(
        FindingNote(concept=key, region=region, polarity="present", severity="mild")
        for key in list(load().concepts)[:50]
    )
    sr = report(answer=explained(notes, count, region))
    sr.save_as(tmp_path / "sr.dcm", enforce_file_format=True)
    read_header(tmp_path / "sr.dcm")
    assert violations(sr) == []
    for group in groups(sr):
        told = len(tree.children(group, codes.SHARED_FINDING))
        texts = [str(item.TextValue) for item in tree.children(group, codes.ALGORITHM_PARAMETERS)]
        assert f"findings_left_out={50 - told}" in texts
        assert told == MAX_OF_A_CASE if count == 1 else 5 <= told < MAX_OF_A_CASE
