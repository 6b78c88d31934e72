"""A stored header as a pydicom data set, for code that writes DICOM: nothing that was stored makes it fail."""

from __future__ import annotations

from typing import Any

from pydicom import config
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from radir_pacs.dicom.elements import NUMBER_VRS, TEXT_VRS
from radir_pacs.dicom.json_model import Readable
from radir_pacs.dicom.number_text import number_in

_NUMBERS = NUMBER_VRS | {"DS", "IS"}
_WHOLE = NUMBER_VRS - {"FD", "FL"} | {"IS"}
_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
_DEPTH = 32


def dataset_of(attributes: Readable, depth: int = _DEPTH) -> Dataset:
    """The data set that ``attributes`` (DICOM JSON model, PS3.18 F) describe.

    `Dataset.from_json` raises on the first value that its VR does not allow, such as a DS of "120 kV", and one such
    image would fail every answer that names it. Here such a value is left out, and nothing raises. So are binary
    values and attribute tags, which no writer of ours reads.
    """
    ds = Dataset()
    for name, stored in attributes.items():
        tag, vr = _tag(name), stored.get("vr") if isinstance(stored, dict) else None
        found = stored.get("Value") if isinstance(stored, dict) else None
        values = found if isinstance(found, list) else []
        if tag is None or not isinstance(vr, str):
            continue
        if vr == "SQ":
            items = [dataset_of(item, depth - 1) for item in values if isinstance(item, dict)] if depth else []
            ds.add(DataElement(tag, vr, Sequence(items)))
        elif vr in _NUMBERS or vr in TEXT_VRS:
            kept = [_value(vr, value) for value in values]
            # Without validation, since pydicom's warnings quote the value.
            ds.add(DataElement(tag, vr, _together(vr, kept), validation_mode=config.IGNORE))
    return ds


def _tag(name: str) -> int | None:
    try:
        return int(name, 16) if len(name) == 8 else None
    except ValueError:
        return None


def _together(vr: str, kept: list[Any]) -> Any:
    """Several values as a list, one as itself; where one of several numbers cannot be read, no value."""
    if vr in _NUMBERS and any(value is None for value in kept):
        return None
    texts = ["" if value is None else value for value in kept]
    return texts if len(texts) > 1 else texts[0] if texts else None


def _value(vr: str, value: Any) -> Any:
    """One value as pydicom accepts it; None for one that it would refuse."""
    if vr in _NUMBERS:
        number = number_in("IS" if vr in _WHOLE else "DS", str(value)) if _is_scalar(value) else None
        return None if isinstance(number, str) else number
    if vr == "PN":
        groups = [str(value.get(group) or "") for group in _GROUPS] if isinstance(value, dict) else [str(value or "")]
        return "=".join(groups).rstrip("=")
    return str(value) if _is_scalar(value) else None


def _is_scalar(value: Any) -> bool:
    return isinstance(value, (str, int, float)) and not isinstance(value, bool)
