"""Text from outside is only text in a spreadsheet and on a terminal: no formula, no control sequence."""

from __future__ import annotations

import ast
import csv
import io
from pathlib import Path

import pytest

from radir_pacs.printable import TableWriter, cell, counted, printable

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ('=HYPERLINK("http://x","y")', '\'=HYPERLINK("http://x","y")'),
        ("+1+cmd|' /C calc'!A0", "'+1+cmd|' /C calc'!A0"),
        ("-2+3", "'-2+3"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("\r=1", "\ufffd=1"),
        ("\uff1d1", "'\uff1d1"),
        ("-1.0", "-1.0"),
        ("+5", "+5"),
        (-0.25, -0.25),
        (None, None),
        ("a = b", "a = b"),
        ("\x1b[2Jgone", "\ufffd[2Jgone"),
        ("Müller\n2", "Müller\n2"),
        ("a\u202eb", "a\ufffdb"),
    ],
)
def test_a_cell_is_text(given: object, shown: object) -> None:
    assert cell(given) == shown


def test_a_terminal_gets_no_control_characters() -> None:
    assert printable("A\x1b]0;x\x07\x9bB") == "A\ufffd]0;x\ufffd\ufffdB"


def test_a_table_reads_back() -> None:
    file = io.StringIO()
    table = TableWriter(file, ["id", "=bad"])
    table.row({"id": "7", "=bad": "=1", "other": "left out"})
    assert list(csv.reader(io.StringIO(file.getvalue()))) == [["id", "'=bad"], ["7", "'=1"]]


def test_every_table_for_people_goes_through_it() -> None:
    """Lists that only our own training reads are not tables for people."""
    own = {"radir_pacs/printable.py", "training/data/retrieval_set.py"}
    names = {"DictWriter", "to_csv"}
    writers = set()
    for folder in ("radir_pacs", "workers", "training"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text("utf-8")
            if not any(name in text for name in names):  # parsing all files takes seconds
                continue
            if names & {node.attr for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Attribute)}:
                writers.add(str(path.relative_to(ROOT)))
    assert writers == own


def test_nouns_are_counted() -> None:
    assert [counted(n, "patient") for n in (0, 1, 2)] == ["0 patients", "1 patient", "2 patients"]
    assert [counted(n, "study has", "studies have") for n in (1, 2)] == ["1 study has", "2 studies have"]
