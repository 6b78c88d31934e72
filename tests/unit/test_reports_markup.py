"""Markup becomes lines and words: idempotently, whatever the input, in linear time."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from radir_pacs.reports import mine
from radir_pacs.reports.markup import plain_text
from tests.examples import examples

PARTS = [
    "<p>",
    "</p>",
    "<br>",
    "<b>",
    "&amp;",
    "&lt;",
    "&nbsp;",
    "&#160;",
    "\\.br\\",
    "\\T\\",
    "\\E\\",
    "~",
    "{\\rtf1 ",
    "}",
    "\\par ",
    "[ ]",
    "[x]",
    "☐",
    "☒",
    "|",
    "\t",
    "   ",
    "...",
    "No",
    "yes",
    "Pneumothorax",
    "No evidence of the following:",
    "(Yes/No)",
    "nein",
    "Effusion, no. ",
    "o\u0308",
    ": ",
    "\n",
    "\r\n",
    "- ",
    "+ ",
    "<!--",
    "-->",
    "*",
    "**",
    "<td>",
    "</td>",
    "</tr>",
    " ",
    "x",
    "?",
    '"',
]


@settings(max_examples=examples(300), deadline=None)
@given(st.lists(st.sampled_from(PARTS), max_size=25).map("".join))
@example("&amp;amp;lt;p&gt;")
@example("[x]Effusion, no. ")
def test_a_second_time_changes_nothing_that_is_read(text: str) -> None:
    once = plain_text(text)
    report = mine(once)
    assert [(f.concept, f.polarity) for f in mine(text).findings] == [(f.concept, f.polarity) for f in report.findings]
    for finding in report.findings:
        assert 0 <= finding.span[0] < finding.span[1] <= len(report.text)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("No markup at all: 5 mm < 6 mm.", "No markup at all: 5 mm < 6 mm."),
        ("Das Herz ist vergro\u0308\u00dfert.", "Das Herz ist vergrößert."),
        ("A &amp;lt;b&amp;gt; C", "A C"),
        ("in\N{LATIN SMALL LIGATURE FI}ltrate\N{NO-BREAK SPACE}\N{SOFT HYPHEN}here", "infiltrate here"),
        ("a\rb\x0bc\N{LINE SEPARATOR}d", "a\nb\nc\nd"),
        ("approximately ~5 mm~No effusion", "approximately ~5 mm\nNo effusion"),
        ("[**Hospital 1**] **bold** text", "[**Hospital 1**] bold text"),
    ],
)
def test_what_is_left(text: str, plain: str) -> None:
    assert plain_text(text) == plain


@pytest.mark.parametrize(
    "part",
    [
        "<!--",
        "<a ",
        "</",
        "<!",
        "<![CDATA[",
        "&#",
        "{\\rtf1 ",
        "[ ] ",
        "a. ",
        "abc: ",
        'a "b ',
        "\\X",
        "*a",
        "? ",
        "no effusion and\n",
        "a\t",
    ],
)
def test_hostile_texts_end(part: str) -> None:
    """A hundred thousand characters; a reader that scanned them again for each part would take minutes."""
    began = time.process_time()
    mine("<p>" + part * (100_000 // len(part)))
    assert time.process_time() - began < 20
