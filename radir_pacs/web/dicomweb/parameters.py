"""Query parameters (PS3.18 8.3.4): matching keys, includefield, paging. Unknown: ignored; malformed: refused."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from flask import request
from pydicom.datadict import dictionary_VR, tag_for_keyword

from radir_pacs.errors import BadInput
from radir_pacs.similar_cases import Match

PARAMETERS_MAX = 200
VALUE_CHARACTERS = 16 * 1024
UIDS_MAX = 500
OFFSET_MAX = 1_000_000_000

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")
_TAG = re.compile(r"[0-9A-Fa-f]{8}\Z")
_PATH_STEPS = 8
_LIST_VRS = frozenset({"UI", "CS"})  # a list gives alternatives; PS3.4 C.2.2.2.2 defines this for UIDs only
_UNMATCHABLE = frozenset({"SQ", "OB", "OD", "OF", "OL", "OV", "OW", "UN", "AT"})
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, kw_only=True)
class Key:
    """An attribute named by a parameter: its path of tags and the VR of the last one."""

    path: tuple[str, ...]
    vr: str


def key_of(name: str) -> Key | None:
    """The attribute that ``name`` identifies: a tag, a keyword or a dotted path of them. None when there is none."""
    steps = name.split(".")
    if len(steps) > _PATH_STEPS:
        return None
    path, vr = [], ""
    for at, step in enumerate(steps):
        tag = int(step, 16) if _TAG.match(step) else tag_for_keyword(step)
        if tag is None:
            return None
        try:
            vr = dictionary_VR(tag).split(" or ")[0]
        except KeyError:
            return None
        if at < len(steps) - 1 and vr != "SQ":
            return None
        path.append(f"{tag:08X}")
    return Key(path=tuple(path), vr=vr)


def check_size() -> None:
    """Refuse a query string with far too many parameters before it is parsed any further."""
    if request.query_string.count(b"&") >= PARAMETERS_MAX:
        raise BadInput(f"more than {PARAMETERS_MAX} query parameters")


def matches(own: frozenset[str]) -> tuple[Match, ...]:
    """The matching keys of the request; ``own`` names the parameters that are not keys. Raises BadInput."""
    return tuple(_matches(own))


def unknown(own: frozenset[str]) -> Iterator[str]:
    """Names of parameters that are neither ``own`` nor keys that can be matched; odd ones are not repeated."""
    for name in request.args:
        key = key_of(name) if name not in own else None
        if name not in own and (key is None or key.vr in _UNMATCHABLE) and _NAME.match(name):
            yield name


def _matches(own: frozenset[str]) -> Iterator[Match]:
    for name, given in request.args.lists():
        key = key_of(name) if name not in own else None
        if key is None or key.vr in _UNMATCHABLE:
            continue
        values = [value for text in given for value in _values(name, key, text)]
        if not values or values == ["*"]:
            continue  # universal matching (PS3.4 C.2.2.2.3)
        if len(values) > 1 and key.vr not in _LIST_VRS:
            raise BadInput(f"{name} is given more than once")
        if len(values) > UIDS_MAX:
            raise BadInput(f"{name} lists more than {UIDS_MAX} values")
        yield Match(path=key.path, vr=key.vr, values=tuple(values))


def _values(name: str, key: Key, text: str) -> list[str]:
    if len(text) > VALUE_CHARACTERS:
        raise BadInput(f"the value of {name} is too long")
    if _CONTROL.search(text):
        raise BadInput(f"the value of {name} has control characters")
    text = unicodedata.normalize("NFC", text)  # some systems send accents as separate characters
    pieces = re.split(r"[\\,]", text) if key.vr in _LIST_VRS else [text]
    return [piece.strip() for piece in pieces if piece.strip()]


def included() -> tuple[frozenset[str], bool]:
    """The tags that includefield asks for, and whether it asks for all."""
    names = [name.strip() for text in request.args.getlist("includefield") for name in text.split(",")]
    keys = (key_of(name) for name in names if name != "all")
    tags = {name.upper() for name in names if _TAG.match(name)}  # includes private tags, which no dictionary lists
    return frozenset(tags | {key.path[0] for key in keys if key is not None}), "all" in names


def one(name: str) -> str | None:
    """The single value of a parameter, None when absent. Raises BadInput when it is repeated."""
    given = request.args.getlist(name)
    if len(given) > 1:
        raise BadInput(f"{name} is given more than once")
    return given[0] if given else None


def count(name: str, default: int, *, low: int = 0, high: int) -> int:
    """A whole number of at least ``low``; greater ones are reduced to ``high``. Raises BadInput."""
    text = one(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit()) or len(text) > 18 or int(text) < low:
        raise BadInput(f"{name} is a whole number, {low} or more")
    return min(int(text), high)


def flag(name: str) -> bool:
    """A true or false parameter, false when absent."""
    text = one(name)
    if text not in (None, "true", "false"):
        raise BadInput(f"{name} is true or false")
    return text == "true"
