"""A table's separator is detected from its header."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from radir_pacs.pictures.image_table import open_table
from radir_pacs.reports.tables import TextRow, read_reports
from radir_pacs.separators import decoded, opened, separator
from radir_pacs.types import ImageKind
from radir_training.datasets import sources


@pytest.mark.parametrize(
    ("text", "wanted", "parted"),
    [
        ("id,text\n1,a;b;c\n", (), ","),
        ("id;text\n1;a, b, c\n", (), ";"),
        ("id\ttext\n", (), "\t"),
        ("text\nno, none, nothing\n", (), ","),
        ("", (), ","),
        ('id,"a; b;\nc; d",text\n', (), ","),
        ('id;"a, b,\nc, ""d"", e";text\n', (), ";"),
        ("id,text (a; b; c)\n", ("id",), ","),
        ("id;text, long\n", ("id",), ";"),
        ('size 5";image;patient\n1;a,b;2\n', (), ";"),
        ('"id";"text"\n', ("id", "text"), ";"),
    ],
)
def test_the_separator_of_a_header(text: str, wanted: tuple[str, ...], parted: str) -> None:
    assert separator(text, wanted) == parted


ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252")
LINES = ("image", "patient", "view", "report"), ("a.png", "P1", "PA", "L\u00e9g\u00e8re cardiom\u00e9galie")


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("lead", ["", "\n", "{end}{end}", "sep=;{end}", ";;;{end}"])
def test_every_reader_of_tables_reads_what_spreadsheets_write(
    encoding: str, end: str, lead: str, tmp_path: Path
) -> None:
    text = lead.format(end=end) + end.join(";".join(line) for line in LINES) + end
    table = tmp_path / "table.csv"
    table.write_bytes(text.encode(encoding))
    (row,) = read_reports(table, "image", ["report"])
    assert isinstance(row, TextRow) and (row.id, row.text) == ("a.png", LINES[1][-1])
    header, rows = open_table(table)
    assert (tuple(header), [list(found.values()) for _, found in rows]) == (LINES[0], [list(LINES[1])])
    (case,) = sources.table(
        table, id_column="image", text_columns=["report"], patient_column="patient", kind=ImageKind.CXR
    )
    assert isinstance(case, sources.Case) and (case.patient, case.text) == ("P1", LINES[1][-1])
    packed = tmp_path / "table.csv.gz"
    packed.write_bytes(gzip.compress(table.read_bytes()))
    with opened(packed) as file:
        assert LINES[1][-1] in file.read()


def test_one_byte_of_another_encoding_spoils_no_other() -> None:
    assert decoded("Müller; ".encode() + b"caf\xe9") == "Müller; café"


def test_rows_are_named_by_their_line(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("\n\nid,text\n1,a\n2,b,c\n")
    rows = list(read_reports(tmp_path / "t.csv", "id", ["text"]))
    assert [row.where for row in rows] == ["line 4", "line 5"]
    _, numbered = open_table(tmp_path / "t.csv")
    assert [line for line, _ in numbered] == [4, 5]
