"""Sections and sentences of reports in the styles they come in."""

from __future__ import annotations

import pytest

from radir_pacs.reports.lexicon import load
from radir_pacs.reports.sections import split_sections
from radir_pacs.reports.sentences import sentences


def cut(text: str) -> list[str]:
    return [text[start:end] for start, end in sentences(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Heart normal. Lungs clear.", ["Heart normal", "Lungs clear"]),
        ("1. Small effusion. 2. No change.", ["Small effusion", "No change"]),
        ("Seen in the apex.There is no effusion.", ["Seen in the apex", "There is no effusion"]),
        ("A nodule of 2.5 cm. Stable.", ["A nodule of 2.5 cm", "Stable"]),
        ("Dr. Smith was called. Clear.", ["Dr. Smith was called", "Clear"]),
        ("fluid (mediastinitis?) is seen. End.", ["fluid (mediastinitis?) is seen", "End"]),
        ('Normal. "Cardiomegaly" "Nodules', ["Normal", "Cardiomegaly", "Nodules"]),
        ("Opacity in the\nright base.\n\nNo effusion", ["Opacity in the\nright base", "No effusion"]),
        ("- clear lungs\n- normal heart", ["clear lungs", "normal heart"]),
        ("", []),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert cut(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FINDINGS: a\nIMPRESSION: b", [("findings", "a"), ("impression", "b")]),
        ("Findings -\na\n\n**Impression**\nb", [("findings", "a"), ("impression", "b")]),
        (
            "INDICATION: pain. FINDINGS: a. IMPRESSION: b.",
            [("indication", "pain."), ("findings", "a."), ("impression", "b.")],
        ),
        ("No headings at all.", [("report", "No headings at all.")]),
        ("Lead text\nCONCLUSION: x", [("report", "Lead text"), ("impression", "x")]),
    ],
)
def test_sections(text: str, expected: list[tuple[str, str]]) -> None:
    found = split_sections(text, load().headings)
    assert [(section.name, text[section.start : section.end].strip()) for section in found] == expected
