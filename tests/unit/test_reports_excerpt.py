"""The words of a report that explain a similar case: of the region asked for, whole sentences, true marks."""

from __future__ import annotations

import pytest

from radir_pacs.reports import Excerpt, Statements, excerpt, explain, mine, whole_report
from radir_pacs.reports.excerpt import EXCERPT_CHARACTERS
from radir_pacs.similar_cases import FindingNote


def of(body: str, region: str, **notes: tuple[FindingNote, ...]) -> Excerpt:
    return excerpt(body, mine(body).findings, region, **notes)


@pytest.mark.parametrize(
    ("body", "region", "expected"),
    [
        ("Cardiomegaly. Left lower lobe nodule. No effusion.", "left_lower_lobe", "Left lower lobe nodule."),
        ("Cardiomegaly. Left lower lobe nodule. No effusion.", "heart", "Cardiomegaly."),
        ("Diffuse opacity in the lungs. Cardiomegaly.", "left_lower_lobe", "Diffuse opacity in the lungs."),
        ("Cardiomegaly. Right rib fracture.", "left_lower_lobe", ""),
        ("<p>Cardiomegaly.</p><p>Left effusion &amp; edema.</p>", "pleura", "Left effusion & edema."),
        ("Pneumothorax: None\nEffusion: Left\nHeart: Enlarged", "heart", "Heart: Enlarged"),
        ("", "heart", ""),
    ],
)
def test_it_speaks_of_the_region(body: str, region: str, expected: str) -> None:
    assert of(body, region).text == expected


def test_it_ends_at_a_sentence_or_says_that_it_goes_on() -> None:
    body = " ".join(f"Nodule number {n} in the left lower lobe measures {n} mm." for n in range(1, 40))
    text = of(body, "left_lower_lobe").text
    assert len(text) <= EXCERPT_CHARACTERS + 3 and text.endswith("mm. …")
    endless = "Nodule in the left lower lobe with " + "spiculated margins and " * 60 + "effusion."
    text = of(endless, "left_lower_lobe").text
    assert len(text) <= EXCERPT_CHARACTERS + 3 and text.endswith((" spiculated …", " margins …", " and …"))


def test_marks_stand_on_the_words_of_the_notes() -> None:
    ours, body = mine("Left effusion. Right lower lobe pneumonia."), "Clear lungs. Large left effusion."
    shared, contradicting = explain(Statements.of(ours.findings), Statements.of(mine(body).findings), "chest")
    found = of(body, "chest", shared=shared, contradicting=contradicting)
    assert [found.text[mark.start : mark.end] for mark in found.marks] == ["Clear", "effusion"]
    assert [mark.absent for mark in found.marks] == [False, False]
    assert [note.words for note in contradicting] == ["no pneumonia"]


@pytest.mark.parametrize("body", ["No effusion or pneumothorax.", "Effusion: none\nPneumothorax: none"])
def test_what_both_reports_deny_is_marked_as_denied(body: str) -> None:
    findings = mine(body).findings
    shared, _ = explain(Statements.of(findings), Statements.of(findings), "chest")
    assert shared and all(note.words.startswith("no ") for note in shared)
    found = of(body, "chest", shared=shared)
    assert found.marks and all(mark.absent for mark in found.marks)
    whole = whole_report(body, findings, "chest", shared=shared)
    assert [mark.absent for mark in whole.marks] == [True] * len(found.marks)
