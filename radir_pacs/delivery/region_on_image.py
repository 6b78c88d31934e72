"""Where a region lies on the query image, in that image's pixels."""

from __future__ import annotations

import numpy as np
from pydicom.dataset import Dataset

from radir_pacs.anatomy import ROOT, Outline, outline
from radir_pacs.delivery.query_header import numbers, text
from radir_pacs.errors import BadInput
from radir_pacs.types import ImageKind, Region

_ALONG_AXIS = 0.7  # a row or column this close to a patient axis counts as along it (45 degrees)
_LATERAL_VIEWS = {"LL", "RL", "LATERAL", "LLO", "RLO", "LAO", "RAO", "LPO", "RPO"}


def closed_polyline(region: Region, image: Dataset) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """The schematic outline of ``region`` as (column, row) pixel coordinates, first point repeated at the end.

    float32 [points, 2], origin at the top left corner of the top left pixel (PS3.3 C.18.6.1.1). The outline follows
    an image that is stored mirrored; on a lateral view or another plane, where outlines do not hold, it is the chest's.
    Raises BadInput without Rows and Columns.
    """
    size = numbers(image, "Columns", 1), numbers(image, "Rows", 1)
    if size[0] is None or size[1] is None or size[0][0] < 2 or size[1][0] < 2:
        raise BadInput("the header of the query image has no Rows and Columns")
    kind = ImageKind.CT if text(image, "Modality") == "CT" else ImageKind.CXR
    flips = _flips_ct(image) if kind is ImageKind.CT else _flips_radiograph(image)
    points = np.array(_placed(region, kind, flips), dtype=np.float64)
    points *= (size[0][0], size[1][0])
    return np.vstack([points, points[:1]]).astype(np.float32)


def _placed(region: Region, kind: ImageKind, flips: tuple[bool, bool] | None) -> Outline:
    if flips is None:
        return outline(ROOT, kind)
    mirrored, upside_down = flips
    return tuple((1 - x if mirrored else x, 1 - y if upside_down else y) for x, y in outline(region.key, kind))


def _flips_ct(image: Dataset) -> tuple[bool, bool] | None:
    """Mirrored and upside down against an axial slice seen from the feet; None when it is no axial slice."""
    cosines = numbers(image, "ImageOrientationPatient", 6)
    if cosines is None:
        return (False, False)
    row_x, column_y = cosines[0], cosines[4]
    if abs(row_x) < _ALONG_AXIS or abs(column_y) < _ALONG_AXIS:
        return None
    return (row_x < 0, column_y < 0)


def _flips_radiograph(image: Dataset) -> tuple[bool, bool] | None:
    """Mirrored and upside down against a frontal view with the patient's right at the left; None for other views."""
    if text(image, "ViewPosition").upper() in _LATERAL_VIEWS:
        return None
    orientation = image.get("PatientOrientation") or ()
    if isinstance(orientation, str) or len(orientation) != 2:
        return (False, False)
    row, column = (str(part).upper()[:1] for part in orientation)
    if row not in {"L", "R"} or column not in {"F", "H"}:
        return None
    return (row == "R", column == "H")
