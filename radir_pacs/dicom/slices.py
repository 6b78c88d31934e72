"""The planes of a CT series: where each lies and how its stored values become Hounsfield units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
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


class Cause(StrEnum):
    """What is wrong with an attribute that a slice needs; the value is its wording in a reason."""

    MISSING = "is missing"
    UNREADABLE = "cannot be read"
    IMPOSSIBLE = "is impossible"
    OTHER_UNIT = "is not HU"


@dataclass(frozen=True, kw_only=True)
class Flaw:
    """Why an image is not a usable slice; ``cause`` is None for what is not a slice at all, such as a localizer."""

    keyword: str
    cause: Cause | None

    def words(self) -> str:
        return f"{self.keyword} {self.cause}" if self.cause else self.keyword


LOCALIZER = Flaw(keyword="localizer", cause=None)
NO_GREY_IMAGE = Flaw(keyword="no grey image", cause=None)


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
    not_hounsfield: Flaw | None
    phase: str
    instance_number: int

    @property
    def normal(self) -> F64:
        normal: F64 = np.cross(self.row, self.column)
        return normal


def is_localizer(header: InstanceHeader) -> bool:
    """Whether Image Type marks a scout image (PS3.3 C.8.2.1.1.1)."""
    return any(str(word).upper() in _NOT_A_SLICE for word in values(header.attributes, "ImageType") if word)


def planes_of(header: InstanceHeader, path: Path) -> list[Plane | Flaw]:
    """The planes of one instance, each usable or named by its flaw; a scout or colour picture is one flaw."""
    if is_localizer(header):
        return [LOCALIZER]
    if is_colour(header) or not header.rows_px or not header.columns_px:
        return [NO_GREY_IMAGE]
    if header.frames == 1 and "52009229" not in header.attributes:
        attributes: Readable = header.attributes
        frames: list[Sequence[Readable]] = [(attributes,)]
    else:
        attributes = read_attributes(path)
        shared = _groups(values(attributes, "SharedFunctionalGroupsSequence")[:1])
        each = values(attributes, "PerFrameFunctionalGroupsSequence")
        if len(each) != header.frames:
            cause = Cause.IMPOSSIBLE if each else Cause.MISSING
            return [Flaw(keyword="PerFrameFunctionalGroupsSequence", cause=cause)]
        frames = [(*_groups([item]), *shared, attributes) for item in each]
    return [_plane(header, path, index, sources) for index, sources in enumerate(frames)]


def _groups(items: Sequence[Readable]) -> list[Readable]:
    """The items of all functional group macros in ``items``."""
    groups = [group for item in items for group in item.values() if group["vr"] == "SQ"]
    return [inner for group in groups for inner in group.get("Value", ())]


def _plane(header: InstanceHeader, path: Path, frame: int, sources: Sequence[Readable]) -> Plane | Flaw:
    orientation = _first(sources, "ImageOrientationPatient", 6)
    position = _first(sources, "ImagePositionPatient", 3)
    spacing = _first(sources, "PixelSpacing", 2)
    for keyword, found in (
        ("ImageOrientationPatient", orientation),
        ("ImagePositionPatient", position),
        ("PixelSpacing", spacing),
    ):
        if found is None:
            return _unread(sources, keyword)
    assert orientation is not None and position is not None and spacing is not None
    if not 0.01 < min(spacing) <= max(spacing) < 20:
        return Flaw(keyword="PixelSpacing", cause=Cause.IMPOSSIBLE)
    row, column = np.asarray(orientation[:3]), np.asarray(orientation[3:])
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if not all(0.9 < length < 1.1 for length in lengths) or abs(row @ column) > 0.01:
        return Flaw(keyword="ImageOrientationPatient", cause=Cause.IMPOSSIBLE)
    if any(str(word).upper() in _NOT_A_SLICE for source in sources for word in values(source, "FrameType") if word):
        return LOCALIZER
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
        not_hounsfield=_not_hounsfield(sources),
        phase="/".join(_text(sources, k) for k in ("AcquisitionNumber", "TemporalPositionIndex", "AcquisitionTime")),
        instance_number=header.instance_number or 0,
    )


def _unread(sources: Sequence[Readable], keyword: str) -> Flaw:
    written = any(values(source, keyword) for source in sources)
    return Flaw(keyword=keyword, cause=Cause.UNREADABLE if written else Cause.MISSING)


def _not_hounsfield(sources: Sequence[Readable]) -> Flaw | None:
    """Why stored values do not become Hounsfield units (PS3.3 C.8.2.1.1.7); None when they do."""
    if _first(sources, "RescaleSlope", 1) is None:
        return _unread(sources, "RescaleSlope")
    if _first(sources, "RescaleIntercept", 1) is None and any(values(each, "RescaleIntercept") for each in sources):
        return Flaw(keyword="RescaleIntercept", cause=Cause.UNREADABLE)
    if _text(sources, "RescaleType").upper() not in ("", "HU"):
        return Flaw(keyword="RescaleType", cause=Cause.OTHER_UNIT)
    return None


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
