"""What parts a table's columns is told from its header."""

from __future__ import annotations

import pytest

from radir_pacs.separators import separator


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
