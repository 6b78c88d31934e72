"""Data sets as the native DICOM model in XML (PS3.19 A.1), to and from the DICOM JSON model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree as ET

from pydicom.datadict import keyword_for_tag

from radir_pacs.errors import BadInput

MEDIA_TYPE = "application/dicom+xml"
_NAMESPACE = "http://dicom.nema.org/PS3.19/models/NativeDICOM"
_DEPTH = 200  # elements within elements; a sequence level takes two
_MOST_LEFT_OUT = 64  # empty values of one attribute: a few bytes of XML must not ask for a long list
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, 2.2
_NAME_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
_NAME_PARTS = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")
_WHOLE = frozenset({"IS", "SL", "SS", "SV", "UL", "US", "UV"})
_DECIMAL = frozenset({"DS", "FD", "FL"})

Attributes = dict[str, Any]


def to_xml(attributes: Mapping[str, Any]) -> bytes:
    """``attributes`` is the DICOM JSON model of one data set."""
    root = ET.Element("NativeDicomModel", {"xmlns": _NAMESPACE, "xml:space": "preserve"})
    _fill(root, attributes)
    written: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return written


def _fill(parent: ET.Element, attributes: Mapping[str, Any]) -> None:
    for tag in sorted(attributes):
        found = attributes[tag]
        names = {"tag": tag, "vr": found["vr"]}
        if keyword := keyword_for_tag(int(tag, 16)):
            names["keyword"] = keyword
        elif creator := _creator(tag, attributes):
            names["privateCreator"] = creator
        child = ET.SubElement(parent, "DicomAttribute", names)
        for number, value in enumerate(found.get("Value", ()), start=1):
            _value(child, found["vr"], value, str(number))
        if "BulkDataURI" in found:
            ET.SubElement(child, "BulkData", {"uri": found["BulkDataURI"]})
        elif "InlineBinary" in found:
            ET.SubElement(child, "InlineBinary").text = found["InlineBinary"]


def _creator(tag: str, attributes: Mapping[str, Any]) -> str | None:
    """The private creator of a private attribute (PS3.5 7.8.1)."""
    if tag[3] not in "13579BDF" or tag[4:6] == "00":
        return None
    values = attributes.get(f"{tag[:4]}00{tag[4:6]}", {}).get("Value", ())
    return _clean(str(values[0])) if values else None


def _value(parent: ET.Element, vr: str, value: Any, number: str) -> None:
    if vr == "SQ":
        _fill(ET.SubElement(parent, "Item", {"number": number}), value or {})
    elif isinstance(value, dict):
        name = ET.SubElement(parent, "PersonName", {"number": number})
        for group in (group for group in _NAME_GROUPS if value.get(group)):
            parts = ET.SubElement(name, group)
            for part, text in zip(_NAME_PARTS, str(value[group]).split("^"), strict=False):
                if text:
                    ET.SubElement(parts, part).text = _clean(text)
    elif value is not None:
        ET.SubElement(parent, "Value", {"number": number}).text = _clean(str(value))


def _clean(text: str) -> str:
    return _NOT_IN_XML.sub(" ", text)


class _Builder(ET.TreeBuilder):
    """Refuses document types, hence entities, and excessive nesting."""

    depth = 0

    def start(self, tag: Any, attrs: Any, /) -> ET.Element:
        self.depth += 1
        if self.depth > _DEPTH:
            raise BadInput("the XML is nested too deeply")
        return super().start(tag, attrs)

    def end(self, tag: str, /) -> ET.Element:
        self.depth -= 1
        return super().end(tag)

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise BadInput("the XML has a document type declaration")


def from_xml(text: bytes) -> Attributes:
    """The data set of one NativeDicomModel, in the DICOM JSON model. Raises BadInput."""
    try:
        root = ET.fromstring(text, ET.XMLParser(target=_Builder()))
    except (ET.ParseError, LookupError, ValueError) as error:
        raise BadInput("the XML is malformed") from error
    if _local(root) != "NativeDicomModel":
        raise BadInput("the XML is not a NativeDicomModel (PS3.19 A.1)")
    return _attributes(root)


def _local(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]


def _attributes(parent: ET.Element) -> Attributes:
    attributes = {}
    for child in parent:
        if _local(child) == "DicomAttribute":
            vr = child.get("vr", "")
            attributes[child.get("tag", "").upper()] = _attribute(child, vr)
    return attributes


def _attribute(element: ET.Element, vr: str) -> Attributes:
    values: list[tuple[ET.Element, Any]] = []
    for child in element:
        match _local(child):
            case "BulkData":
                return {"vr": vr, "BulkDataURI": child.get("uri", child.get("uuid", ""))}
            case "InlineBinary":
                return {"vr": vr, "InlineBinary": (child.text or "").strip()}
            case "Item":
                values.append((child, _attributes(child)))
            case "PersonName":
                values.append((child, _person_name(child)))
            case "Value":
                values.append((child, _from_text(vr, child.text or "")))
    if not values:
        return {"vr": vr}
    numbered = [(_number(child, at), value) for at, (child, value) in enumerate(values, start=1)]
    length = max(number for number, _ in numbered)
    if length > len(numbered) + _MOST_LEFT_OUT:
        raise BadInput("the XML leaves out too many values of an attribute")
    placed: list[Any] = [None] * length
    for number, value in numbered:
        placed[number - 1] = value
    return {"vr": vr, "Value": placed}


def _number(element: ET.Element, at: int) -> int:
    """The position of a value; empty values before it may be left out."""
    text = element.get("number", str(at))
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text[:9]) <= 100_000:
        raise BadInput("the XML has a value with a malformed number attribute")
    return int(text[:9])


def _person_name(element: ET.Element) -> dict[str, str]:
    name = {}
    for group in element:
        parts = {_local(part): part.text or "" for part in group}
        name[_local(group)] = "^".join(parts.get(part, "") for part in _NAME_PARTS).rstrip("^")
    return name


def _from_text(vr: str, text: str) -> str | int | float | None:
    try:
        if vr in _WHOLE:
            return int(text)
        if vr in _DECIMAL:
            return float(text)
    except ValueError:
        raise BadInput(f"the XML has a value of VR {vr} that is not a number") from None
    return text or None
