"""Files of the administrator's that hold tables of one name in TOML, such as rules: ``[[rule]]``, and nothing else."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from radir_pacs.errors import SettingError


def text_of(setting: str, file: str) -> str:
    """The text of the file that ``setting`` names. Raises SettingError."""
    try:
        return Path(file).expanduser().read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SettingError(f"{setting}: {file} cannot be read: {why}") from None


def tables_of(setting: str, file: str, text: str, name: str) -> list[dict[str, Any]]:
    """The tables ``[[name]]`` of such a text, in order. Raises SettingError."""
    try:
        said = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingError(f"{setting}: {file} is not TOML: {error}") from None
    tables = said.get(name)
    if set(said) != {name} or not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise SettingError(f"{setting}: {file} holds something else than [[{name}]] tables")
    return tables
