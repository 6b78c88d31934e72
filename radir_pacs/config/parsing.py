"""A setting's value as text, turned into its type."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import Field
from pathlib import Path
from typing import Any

from radir_pacs.errors import SettingError

_TRUE, _FALSE = frozenset({"1", "true", "yes", "on"}), frozenset({"0", "false", "no", "off"})


def _boolean(text: str) -> bool:
    if text.lower() in _TRUE | _FALSE:
        return text.lower() in _TRUE
    raise ValueError("neither true nor false")


def _folder(text: str) -> Path:
    if not text.strip():
        raise ValueError("Path('') would be the current folder")
    return Path(text)


_EMPTY_MEANS_SOMETHING = frozenset({"str", "tuple[str, ...]"})
_PARSERS: Mapping[str, Callable[[str], Any]] = {
    "str": str,
    "int": int,
    "float": float,
    "Path": _folder,
    "bool": _boolean,
    "tuple[str, ...]": lambda text: tuple(part.strip() for part in re.split(r"[,\n]", text) if part.strip()),
}


def parsed(f: Field[Any], value: Any, source: str) -> Any:
    """Turn what a source holds (text, or a TOML value) into the field's type."""
    kind = str(f.type)
    try:
        if kind == "tuple[str, ...]" and isinstance(value, list):
            return tuple(str(part) for part in value)
        if isinstance(value, bool) and kind != "bool":
            raise ValueError("not a boolean setting")
        return _PARSERS[kind](str(value))
    except ValueError:
        shown = "the value" if f.metadata["secret"] else repr(value)
        raise SettingError(f"{f.name}: {shown} from {source} is not of type {kind}") from None


def is_set(f: Field[Any], text: str | None) -> bool:
    """An empty variable, as compose files pass on one that is not set, leaves the default; of text it is a value."""
    return text is not None and (bool(text.strip()) or str(f.type) in _EMPTY_MEANS_SOMETHING)
