"""Attributes as the native DICOM model in XML (PS3.19 A.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree as ET

from pydicom.datadict import keyword_for_tag

MEDIA_TYPE = "application/dicom+xml"


def to_xml(attributes: Mapping[str, Any]) -> bytes:
    """``attributes`` is the DICOM JSON model of one data set."""
    root = ET.Element("NativeDicomModel", {"xml:space": "preserve"})
    _fill(root, attributes)
    written: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return written


def _fill(parent: ET.Element, attributes: Mapping[str, Any]) -> None:
    for tag in sorted(attributes):
        vr = attributes[tag]["vr"]
        names = {"tag": tag, "vr": vr}
        if keyword := keyword_for_tag(int(tag, 16)):
            names["keyword"] = keyword
        child = ET.SubElement(parent, "DicomAttribute", names)
        for number, value in enumerate(attributes[tag].get("Value", ()), start=1):
            _value(child, vr, value, str(number))


def _value(parent: ET.Element, vr: str, value: Any, number: str) -> None:
    if vr == "SQ":
        _fill(ET.SubElement(parent, "Item", {"number": number}), value)
    elif value is not None:
        ET.SubElement(parent, "Value", {"number": number}).text = str(value)
