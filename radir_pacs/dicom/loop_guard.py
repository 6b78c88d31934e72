"""Recognises objects that we made, so that our own reports never trigger work.

A PACS sends back what it was given: a report that we returned arrives at our listener as a new instance. The marks
below are in every object that we make for a PACS; the file meta information may be lost.
"""

from __future__ import annotations

from pydicom.dataset import Dataset

from radir_pacs.anatomy import PRIVATE_SCHEME
from radir_pacs.dicom.json_model import Readable, text, values
from radir_pacs.types import InstanceHeader

MANUFACTURER = "RadIR-PACS"
MODEL_NAME = "Similar case search"
CODING_SCHEME_UID = "2.25.279430105842306938364938127345710432897"


def is_own_object(ds: Dataset | Readable) -> bool:
    """Whether we made this object: by manufacturer and model, or by our coding scheme declared in (0008,0110).

    ``ds`` is a data set, or the same as DICOM JSON model (PS3.18 annex F).
    """
    attributes = _marks(ds) if isinstance(ds, Dataset) else ds
    if text(attributes, "Manufacturer") == MANUFACTURER and text(attributes, "ManufacturerModelName") == MODEL_NAME:
        return True
    return any(
        text(item, "CodingSchemeDesignator") == PRIVATE_SCHEME and text(item, "CodingSchemeUID") == CODING_SCHEME_UID
        for item in values(attributes, "CodingSchemeIdentificationSequence")
    )


def is_own_header(header: InstanceHeader) -> bool:
    """Whether we made the object that ``header`` was read from."""
    return is_own_object(header.attributes)


def _marks(ds: Dataset) -> Readable:
    """The identifying attributes of a data set, in the DICOM JSON model."""
    schemes = [
        {"00080102": _value(item, "CodingSchemeDesignator"), "0008010C": _value(item, "CodingSchemeUID")}
        for item in ds.get("CodingSchemeIdentificationSequence") or ()
    ]
    return {
        "00080070": _value(ds, "Manufacturer"),
        "00081090": _value(ds, "ManufacturerModelName"),
        "00080110": {"vr": "SQ", "Value": schemes},
    }


def _value(ds: Dataset, keyword: str) -> dict[str, object]:
    return {"Value": [str(ds.get(keyword, "")).strip()]}
