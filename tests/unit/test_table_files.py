"""Files of tables say what is wrong with them in one sentence that names the setting."""

from __future__ import annotations

from pathlib import Path

import pytest

from radir_pacs.errors import SettingError
from radir_pacs.table_files import tables_of, text_of


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff", "it is not UTF-8"),
        (b"[[rule]\n", "is not TOML"),
        (b"", "something else than"),
        (b"rule = [1]\n", "something else than"),
        (b"[[rule]]\nname = 'a'\n[[other]]\n", "something else than"),
    ],
)
def test_what_is_no_file_of_such_tables_is_refused(content: bytes, said: str, tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    file.write_bytes(content)
    with pytest.raises(SettingError, match=f"^rules_file: .*{said}"):
        tables_of("rules_file", str(file), text_of("rules_file", str(file)), "rule")


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(SettingError, match="rules_file: /nowhere cannot be read: No such file"):
        text_of("rules_file", "/nowhere")


def test_the_tables_come_in_their_order() -> None:
    assert tables_of("rules_file", "", "[[rule]]\nname = 'a'\n[[rule]]\nname = 'b'\n", "rule") == [
        {"name": "a"},
        {"name": "b"},
    ]
