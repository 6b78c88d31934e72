"""What two reports share, each thing said once."""

from __future__ import annotations

import pytest

from radir_pacs.reports import explain, mine

Note = tuple[str, str, str | None]


def shared(text: str, region: str) -> set[Note]:
    findings = mine(text).findings
    notes, contradicting = explain(findings, findings, region)
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
    assert shared("No pleural effusion. No left pleural effusion.", "pleura") == {("pleural effusion", "pleura", None)}


def test_what_contradicts_is_noted_once_too() -> None:
    ours = mine("No pneumothorax.").findings
    theirs = mine("Large pneumothorax. Right pneumothorax.").findings
    _, contradicting = explain(ours, theirs, "pleura")
    assert [note.concept for note in contradicting] == ["pneumothorax"]
