"""A structured report as lines of text: its content tree in document order (PS3.3 C.17.3)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from radir_pacs.dicom.json_model import Readable, text, value, values

_DEPTH = 32
_TEXT_OF = {
    "TEXT": "TextValue",
    "DATE": "Date",
    "TIME": "Time",
    "DATETIME": "DateTime",
    "UIDREF": "UID",
}
_REFERENCES = frozenset({"COMPOSITE", "IMAGE", "WAVEFORM"})
_COORDINATES = frozenset({"SCOORD", "SCOORD3D", "TCOORD"})


@dataclass(frozen=True, kw_only=True)
class Line:
    """One content item: its depth (0 is the document title), concept name and value."""

    depth: int
    name: str
    value: str


def report_lines(attributes: Readable) -> Iterator[Line]:
    """The items of the content tree in document order."""
    return _lines(attributes, 0)


def _lines(item: Readable, depth: int) -> Iterator[Line]:
    if depth > _DEPTH:
        return
    line = Line(depth=depth, name=_meaning(item, "ConceptNameCodeSequence"), value=_value(item))
    if line.name or line.value:
        yield line
    for child in values(item, "ContentSequence"):
        if isinstance(child, Mapping):
            yield from _lines(child, depth + 1)


def _value(item: Readable) -> str:
    kind = text(item, "ValueType")
    if kind in _TEXT_OF:
        return text(item, _TEXT_OF[kind])
    if kind == "CODE":
        return _meaning(item, "ConceptCodeSequence")
    if kind == "PNAME":
        return person_name(value(item, "PersonName"))
    if kind == "NUM":
        measured = _first(item, "MeasuredValueSequence")
        unit = text(_first(measured, "MeasurementUnitsCodeSequence"), "CodeValue")
        return " ".join(part for part in (text(measured, "NumericValue"), "" if unit == "1" else unit) if part)
    if kind in _REFERENCES:
        return f"{kind.lower()} {text(_first(item, 'ReferencedSOPSequence'), 'ReferencedSOPInstanceUID')}"
    if kind in _COORDINATES:
        return text(item, "GraphicType" if kind.startswith("S") else "TemporalRangeType").lower()
    return ""


def person_name(found: Any) -> str:
    """A person name for display: family name first, component groups separated by slashes."""
    if not isinstance(found, Mapping):
        return ""
    groups = (str(found.get(group, "")) for group in ("Alphabetic", "Ideographic", "Phonetic"))
    return " / ".join(" ".join(part for part in group.split("^") if part) for group in groups if group)


def _meaning(item: Readable, keyword: str) -> str:
    return text(_first(item, keyword), "CodeMeaning")


def _first(item: Readable, keyword: str) -> Readable:
    found = value(item, keyword)
    return found if isinstance(found, Mapping) else {}
