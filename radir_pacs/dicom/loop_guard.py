"""Recognising what we wrote ourselves, so that our own reports never make us work again.

A PACS hands back what it was given: a report that we returned arrives at our listener as a new instance. The marks
below stand in every object that we make for a PACS; the object need not have kept its file meta information.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydicom.dataset import Dataset

from radir_pacs.anatomy import PRIVATE_SCHEME
from radir_pacs.types import InstanceHeader

MANUFACTURER = "RadIR-PACS"
MODEL_NAME = "Similar case search"
CODING_SCHEME_UID = "2.25.279430105842306938364938127345710432897"

_MANUFACTURER, _MODEL_NAME, _CODING_SCHEMES = "00080070", "00081090", "00080110"
_SCHEME, _SCHEME_UID = "00080102", "0008010C"


def is_own_object(ds: Dataset | Mapping[str, Any]) -> bool:
    """Whether we made this object: by manufacturer and model, or by our coding scheme declared in (0008,0110).

    ``ds`` is a data set, or the same as DICOM JSON model (PS3.18 annex F).
    """
    attributes = _marks(ds) if isinstance(ds, Dataset) else ds
    if _text(attributes, _MANUFACTURER) == MANUFACTURER and _text(attributes, _MODEL_NAME) == MODEL_NAME:
        return True
    return any(
        _text(item, _SCHEME) == PRIVATE_SCHEME and _text(item, _SCHEME_UID) == CODING_SCHEME_UID
        for item in attributes.get(_CODING_SCHEMES, {}).get("Value", ())
    )


def is_own_header(header: InstanceHeader) -> bool:
    """Whether we made the object that ``header`` was read from."""
    return is_own_object(header.attributes)


def _marks(ds: Dataset) -> dict[str, Any]:
    schemes = [
        {
            _SCHEME: {"Value": [str(item.get("CodingSchemeDesignator", ""))]},
            _SCHEME_UID: {"Value": [str(item.get("CodingSchemeUID", ""))]},
        }
        for item in ds.get("CodingSchemeIdentificationSequence") or ()
    ]
    return {
        _MANUFACTURER: {"Value": [str(ds.get("Manufacturer", ""))]},
        _MODEL_NAME: {"Value": [str(ds.get("ManufacturerModelName", ""))]},
        _CODING_SCHEMES: {"Value": schemes},
    }


def _text(attributes: Mapping[str, Any], tag: str) -> str:
    found = attributes.get(tag, {}).get("Value") or [""]
    return str(found[0]).strip()
