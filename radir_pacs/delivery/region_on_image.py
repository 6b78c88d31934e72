"""Where a region lies on an image, in fractions of the stored image or in its pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence

from radir_pacs import anatomy
from radir_pacs.delivery.query_header import numbers
from radir_pacs.dicom.json_model import Readable, text
from radir_pacs.dicom.turns import turn_of_radiograph, turn_of_slice
from radir_pacs.dicom.views import may_be_frontal
from radir_pacs.errors import BadInput
from radir_pacs.types import ImageKind, Region, kind_of_modality

Polyline = npt.NDArray[np.float32]

# The attributes that tell how an image is oriented.
_ASKED = (
    "Modality",
    "ViewCodeSequence",
    "ViewPosition",
    "PatientOrientation",
    "ImageOrientationPatient",
    "SeriesDescription",
    "StudyDescription",
    "ProtocolName",
)


def outlines_on(region: str, attributes: Readable) -> tuple[anatomy.Outline, ...]:
    """Schematic outlines of ``region`` as fractions (column, row) of the stored picture, one in all or one per side.

    They follow a picture that is stored mirrored, upside down or turned by 90 degrees. Empty on a lateral or oblique
    view and on a plane that is not axial, for which there are no outlines.
    """
    if text(attributes, "Modality") == "CT":
        kind, turn = ImageKind.CT, turn_of_slice(attributes)
    else:
        kind, turn = ImageKind.CXR, turn_of_radiograph(attributes) if may_be_frontal(attributes) else None
    if turn is None:
        return ()
    return tuple(tuple(turn.stored(x, y) for x, y in points) for points in anatomy.outlines(region, kind))


def outlines_as_read(region: str, attributes: Readable) -> tuple[anatomy.Outline, ...]:
    """As `outlines_on`, for the picture as it is shown: a radiograph in reading position, a slice as it is stored."""
    if kind_of_modality(text(attributes, "Modality")) is not ImageKind.CXR:
        return outlines_on(region, attributes)
    return anatomy.outlines(region, ImageKind.CXR) if may_be_frontal(attributes) else ()


def closed_polylines(region: Region, image: Dataset) -> list[Polyline]:
    """The outlines of ``region`` as (column, row) pixel coordinates, each with its first point repeated at the end.

    float32 [points, 2], origin at the top left corner of the top left pixel (PS3.3 C.18.6.1.1). Where there are no
    outlines, the chest is outlined. Raises BadInput without Rows and Columns.
    """
    columns, rows = numbers(image, "Columns", 1), numbers(image, "Rows", 1)
    if columns is None or rows is None or columns[0] < 2 or rows[0] < 2:
        raise BadInput("the header of the query image has no Rows and Columns")
    attributes = _attributes(image, _ASKED)
    kind = ImageKind.CT if text(attributes, "Modality") == "CT" else ImageKind.CXR
    found = []
    for outline in outlines_on(region.key, attributes) or (anatomy.outline(anatomy.ROOT, kind),):
        points = np.array([*outline, outline[0]], dtype=np.float64) * (columns[0], rows[0])
        found.append(points.astype(np.float32))
    return found


def _attributes(ds: Dataset, keywords: tuple[str, ...]) -> dict[str, Any]:
    """Some attributes of ``ds`` in the DICOM JSON model, without checking their values."""
    found = {}
    for keyword in keywords:
        tag = tag_for_keyword(keyword)
        value = ds.get(keyword)
        if tag is None or value is None:
            continue
        if isinstance(value, DicomSequence):
            values: list[Any] = [_attributes(item, ("CodeValue",)) for item in value]
        else:
            values = [value] if isinstance(value, str) or not hasattr(value, "__iter__") else list(value)
        found[f"{tag:08X}"] = {"vr": dictionary_VR(tag), "Value": values}
    return found
