"""The text of a report that came as a DICOM structured report (PS3.3 C.17.3: Basic Text, Enhanced, TID 2000)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from radir_pacs.reports.answers import is_answer
from radir_pacs.reports.lexicon import is_heading
from radir_pacs.reports.markup import plain_text

_CONTENT, _VALUE_TYPE, _NAME, _TEXT, _CODE = "0040A730", "0040A040", "0040A043", "0040A160", "0040A168"
_RELATIONSHIP, _MEASURED, _NUMBER, _UNIT = "0040A010", "0040A300", "0040A30A", "004008EA"
_MEANING, _CODE_VALUE = "00080104", "00080100"
_PREDECESSORS, _SERIES, _REFERENCES, _REFERENCED = "0040A360", "00081115", "00081199", "00081155"
_COMPLETION, _PRELIMINARY = "0040A491", "0040A496"
_MOST_ITEMS = 10_000
_MOST_PREDECESSORS = 100
_CONTEXT = frozenset({"HAS CONCEPT MOD", "HAS OBS CONTEXT", "HAS ACQ CONTEXT"})  # language, observer: no statements
_SEMANTIC_TAG = re.compile(
    r"\s*\((?:qualifier value|finding|disorder|morphologic abnormality|body structure|observable entity)\)$"
)
_QUALITIES = re.compile(
    r"(?:presence|existence|status|certainty|likelihood|probability|side|laterality|severity|degree|"
    r"(?:finding )?site|location|anatomic(?:al)? (?:location|site|region)|size|diameter|length|qualifier|value|"
    r"result|finding (?:status|presence))s?",
    re.IGNORECASE,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How a document relates to the other documents of its study (PS3.3 C.17.2)."""

    predecessors: tuple[str, ...]  # SOP Instance UIDs of the documents whose content it includes
    draft: bool  # partial or preliminary


def standing(attributes: Mapping[str, Any]) -> Standing:
    """Which documents this one replaces; an addendum replaces none."""
    replaced = [
        str(_first(reference, _REFERENCED))
        for study in _sequence(attributes, _PREDECESSORS)
        for series in _sequence(study, _SERIES)
        for reference in _sequence(series, _REFERENCES)
        if _first(reference, _REFERENCED)
    ]
    return Standing(
        predecessors=() if _is_addendum(attributes) else tuple(replaced[:_MOST_PREDECESSORS]),
        draft=_first(attributes, _COMPLETION) == "PARTIAL" or _first(attributes, _PRELIMINARY) == "PRELIMINARY",
    )


def sr_text(attributes: Mapping[str, Any]) -> str:
    """Headings and texts of the content tree, in order; empty when it holds no text.

    ``attributes``: the object's header as DICOM JSON model (PS3.18 F), whose depth was bounded when it was read. A
    heading is written as ``FINDINGS:`` on its own line, like those of plain text; a coded item, or a text about a
    single finding, is written as "Pneumothorax: Absent", followed by the properties of a coded item.
    """
    text = "\n".join(_lines(attributes)).strip()
    return f"ADDENDUM:\n{text}" if text and _is_addendum(attributes) else text


def _is_addendum(attributes: Mapping[str, Any]) -> bool:
    return "addendum" in _meaning(attributes, _NAME).lower()


def _lines(root: Mapping[str, Any]) -> Iterator[str]:
    stack = list(reversed(_sequence(root, _CONTENT)))
    seen = 0
    heading = ""
    while stack and seen < _MOST_ITEMS:
        item = stack.pop()
        seen += 1
        name, children = _meaning(item, _NAME), _sequence(item, _CONTENT)
        if _first(item, _RELATIONSHIP) in _CONTEXT:
            continue
        match _first(item, _VALUE_TYPE):
            case "CONTAINER":
                if name and children and all(map(_is_quality, children)):
                    yield _statement(name, "", children)
                    continue
                if name:
                    heading = name.upper()
                    yield f"\n{heading}:"
            case "TEXT":
                text = plain_text(str(_first(item, _TEXT) or "")).strip()
                if name and not is_heading(name, loosely=True):
                    yield f"{name}: {text}"
                    continue
                if name and name.upper() not in {heading, heading.rstrip("S")}:
                    heading = name.upper()
                    yield f"\n{heading}:"
                yield text
            case "CODE":
                about = "" if is_heading(name, loosely=True) or _is_quality(item) else name
                yield _statement(about, _meaning(item, _CODE), [child for child in children if _is_leaf(child)])
                children = [child for child in children if not _is_leaf(child)]
            case "NUM" if name:
                yield f"{name}: {_value(item)}."
        stack.extend(reversed(children))


def _statement(name: str, value: str, properties: list[Mapping[str, Any]]) -> str:
    """A statement such as "Pneumothorax: Absent, Left.", with the answer first."""
    said = [text for text in map(_value, properties) if text]
    said.sort(key=lambda text: not is_answer(text))
    if name:
        said = [value, *said] if value else said
    else:
        name = value
    return f"{name}: {', '.join(said)}." if said else f"{name}."


def _is_leaf(item: Mapping[str, Any]) -> bool:
    return _first(item, _VALUE_TYPE) in {"CODE", "NUM"} and not _sequence(item, _CONTENT)


def _is_quality(item: Mapping[str, Any]) -> bool:
    """Whether an item qualifies the one above it and does not name a finding."""
    return _is_leaf(item) and _QUALITIES.fullmatch(_meaning(item, _NAME)) is not None


def _value(item: Mapping[str, Any]) -> str:
    if _first(item, _VALUE_TYPE) != "NUM":
        return _meaning(item, _CODE)
    measured = _first(item, _MEASURED)
    if not isinstance(measured, Mapping):
        return ""
    unit = _first(measured, _UNIT)
    return f"{_first(measured, _NUMBER) or ''} {_first(unit, _CODE_VALUE) if isinstance(unit, Mapping) else ''}".strip()


def _sequence(item: Mapping[str, Any], tag: str) -> list[Mapping[str, Any]]:
    element = item.get(tag, {})
    return [child for child in element.get("Value", []) if isinstance(child, Mapping)]


def _first(item: Mapping[str, Any], tag: str) -> Any:
    values = item.get(tag, {}).get("Value") or [None]
    return values[0]


def _meaning(item: Mapping[str, Any], tag: str) -> str:
    code = _first(item, tag)
    text = str(_first(code, _MEANING) or "").strip() if isinstance(code, Mapping) else ""
    return _SEMANTIC_TAG.sub("", text)
