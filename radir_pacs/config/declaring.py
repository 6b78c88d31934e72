"""How a setting is declared: a field of a dataclass with its words, bounds and choices beside it."""

from __future__ import annotations

from dataclasses import field
from pathlib import Path
from typing import Any

from radir_pacs.errors import SettingError


def setting(
    default: Any,
    doc: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    secret: bool = False,
) -> Any:
    return field(default=default, metadata={"doc": doc, "low": low, "high": high, "choices": choices, "secret": secret})


def expanded(folder: Path | str) -> Path:
    try:
        return Path(folder).expanduser()
    except RuntimeError:  # no HOME, and a user id without a name
        raise SettingError("home: this user has no home folder; name a folder by --home or RADIR_HOME") from None
