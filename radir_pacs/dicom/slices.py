"""The planes of a CT series: where each lies and how its stored values become Hounsfield units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from radir_pacs.dicom.grayscale import is_colour, rescaled
from radir_pacs.dicom.header import read_attributes
from radir_pacs.dicom.json_model import Readable, numbers, text, value, values
from radir_pacs.types import InstanceHeader

F64 = npt.NDArray[np.float64]

AIR_HU, HIGHEST_HU = -1024.0, 32767.0
_NOT_A_SLICE = {"LOCALIZER", "SCOUT", "TOPOGRAM"}


@dataclass(frozen=True, kw_only=True)
class Plane:
    """One plane of one instance (PS3.3 C.7.6.2): geometry in patient LPS mm.

    origin: centre of the first voxel. row, column: unit vectors along increasing column and row index. spacing_mm:
    (between rows, between columns). frame: index within its instance.
    """

    header: InstanceHeader
    path: Path
    frame: int
    size_px: tuple[int, int]
    origin: F64
    row: F64
    column: F64
    spacing_mm: tuple[float, float]
    slope: float | None
    intercept: float | None
    rescale_type: str
    phase: str
    instance_number: int

    @property
    def normal(self) -> F64:
        normal: F64 = np.cross(self.row, self.column)
        return normal


def is_localizer(header: InstanceHeader) -> bool:
    """Whether Image Type says scout (PS3.3 C.8.2.1.1.1)."""
    return any(str(word).upper() in _NOT_A_SLICE for word in values(header.attributes, "ImageType") if word)


def planes_of(header: InstanceHeader, path: Path) -> list[Plane]:
    """The planes of one instance that have a usable geometry; none for scouts and colour pictures."""
    if is_localizer(header) or is_colour(header) or not header.rows_px or not header.columns_px:
        return []
    if header.frames == 1 and "52009229" not in header.attributes:
        attributes: Readable = header.attributes
        frames: list[Sequence[Readable]] = [(attributes,)]
    else:
        attributes = read_attributes(path)
        shared = _groups(values(attributes, "SharedFunctionalGroupsSequence")[:1])
        each = values(attributes, "PerFrameFunctionalGroupsSequence")
        if len(each) != header.frames:
            return []
        frames = [(*_groups([item]), *shared, attributes) for item in each]
    planes = (_plane(header, path, index, sources) for index, sources in enumerate(frames))
    return [plane for plane in planes if plane is not None]


def _groups(items: Sequence[Readable]) -> list[Readable]:
    """The items of all functional group macros in ``items``."""
    return [
        inner for item in items for group in item.values() for inner in group.get("Value", ()) if group["vr"] == "SQ"
    ]


def _plane(header: InstanceHeader, path: Path, frame: int, sources: Sequence[Readable]) -> Plane | None:
    orientation = _first(sources, "ImageOrientationPatient", 6)
    position = _first(sources, "ImagePositionPatient", 3)
    spacing = _first(sources, "PixelSpacing", 2)
    if orientation is None or position is None or spacing is None or not 0.01 < min(spacing) <= max(spacing) < 20:
        return None
    row, column = np.asarray(orientation[:3]), np.asarray(orientation[3:])
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if not all(0.9 < length < 1.1 for length in lengths) or abs(row @ column) > 0.01:
        return None
    if any(str(word).upper() in _NOT_A_SLICE for source in sources for word in values(source, "FrameType") if word):
        return None
    slope, intercept = _first(sources, "RescaleSlope", 1), _first(sources, "RescaleIntercept", 1)
    return Plane(
        header=header,
        path=path,
        frame=frame,
        size_px=(int(header.rows_px or 0), int(header.columns_px or 0)),
        origin=np.asarray(position),
        row=row / lengths[0],
        column=column / lengths[1],
        spacing_mm=(spacing[0], spacing[1]),
        slope=slope[0] if slope else None,
        intercept=intercept[0] if intercept else None,
        rescale_type=_text(sources, "RescaleType").upper(),
        phase="/".join(_text(sources, k) for k in ("AcquisitionNumber", "TemporalPositionIndex", "AcquisitionTime")),
        instance_number=header.instance_number or 0,
    )


def _first(sources: Sequence[Readable], keyword: str, count: int) -> list[float] | None:
    return next((found for source in sources if (found := numbers(source, keyword, count)) is not None), None)


def _text(sources: Sequence[Readable], keyword: str) -> str:
    return next((found for source in sources if (found := text(source, keyword))), "")


def hounsfield(stored: npt.NDArray[Any], plane: Plane) -> npt.NDArray[np.float32]:
    """``stored`` [rows, columns] in HU; padding and everything below air becomes -1024 (PS3.3 C.11.1.1.2).

    Raises DicomRefused when the rescale slope and intercept give no finite numbers.
    """
    found = rescaled(stored, plane.slope, plane.intercept)
    low = value(plane.header.attributes, "PixelPaddingValue")
    if isinstance(low, int):
        found[stored == low] = AIR_HU
    return np.clip(found, AIR_HU, HIGHEST_HU)
