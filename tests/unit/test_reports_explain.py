"""What two reports share, each thing said once."""

from __future__ import annotations

import pytest

from radir_pacs.reports import Statements, explain, mine

Note = tuple[str, str, str | None]


def shared(text: str, region: str) -> set[Note]:
    findings = mine(text).findings
    notes, contradicting = explain(Statements.of(findings), Statements.of(findings), region)
    assert not contradicting
    assert len({(note.concept, note.region) for note in notes}) == len(notes)
    return {(note.concept, note.region, note.severity) for note in notes}


@pytest.mark.parametrize(
    ("text", "noted"),
    [
        ("Opacity in the lungs. Right lower lobe opacity.", {("opacity", "right_lower_lobe", None)}),
        ("Moderate opacity in the lungs. Mild right lower lobe opacity.", {("opacity", "lungs", "moderate")}),
        (
            "Left upper lobe opacity. Moderate right lower lobe opacity. Opacity in the lungs.",
            {("opacity", "left_upper_lobe", None), ("opacity", "right_lower_lobe", "moderate")},
        ),
        (
            "Right lower lobe opacity. Right lower lobe fibrosis.",
            {("opacity", "right_lower_lobe", None), ("fibrosis", "right_lower_lobe", None)},
        ),
    ],
)
def test_a_concept_is_noted_once_at_a_place_and_within_it(text: str, noted: set[Note]) -> None:
    assert shared(text, "lungs") == noted


def test_of_denials_the_widest_is_noted() -> None:
    assert shared("No pleural effusion. No left pleural effusion.", "pleura") == {("pleural_effusion", "pleura", None)}


def test_what_contradicts_is_noted_once_too() -> None:
    ours = mine("No pneumothorax.").findings
    theirs = mine("Large pneumothorax. Right pneumothorax.").findings
    _, contradicting = explain(Statements.of(ours), Statements.of(theirs), "pleura")
    assert [note.concept for note in contradicting] == ["pneumothorax"]


@pytest.mark.parametrize("region", ["lungs", "chest", "heart"])
@pytest.mark.parametrize("query", ["Right lower lobe pneumonia.", "Normal chest. Clear lungs.", "The heart is normal."])
@pytest.mark.parametrize(
    "hit", ["Clear lungs. Cardiomegaly.", "The heart is normal. Left lower lobe nodule.", "Normal chest. Rib fracture."]
)
def test_a_report_with_an_abnormality_is_never_said_to_have_none(region: str, query: str, hit: str) -> None:
    shared, contradicting = explain(Statements.of(mine(query).findings), Statements.of(mine(hit).findings), region)
    assert "no abnormality" not in {note.words for note in (*shared, *contradicting)}


def test_a_normal_report_may_be_said_to_have_none() -> None:
    findings = mine("The lungs are clear. Right chest port.").findings
    shared, _ = explain(Statements.of(findings), Statements.of(findings), "lungs")
    assert [note.words for note in shared] == ["no abnormality"]


def test_where_a_normal_statement_contradicts_it_denies_that_finding() -> None:
    query, hit = mine("Right lower lobe pneumonia."), mine("Clear lungs. Cardiomegaly.")
    _, contradicting = explain(Statements.of(query.findings), Statements.of(hit.findings), "lungs")
    assert [(note.words, note.region) for note in contradicting] == [("no pneumonia", "lungs")]
