"""CT-RATE's volumes on disk: where a volume of its lists lies, and what its tables of metadata say of it.

The collection ships ``dataset/train/train_1/train_1_a/train_1_a_1.nii.gz`` with blank headers, later
``dataset/train_fixed/…`` with whole ones; ``train_metadata.csv`` and ``validation_metadata.csv`` hold spacing,
orientation and rescaling by ``VolumeName``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from radir_pacs.errors import BadInput
from radir_pacs.pictures.image_table import find_image, open_table

from .nifti import Told

_TABLES = ("train_metadata.csv", "validation_metadata.csv")
_FOLDERS = (".", "metadata", "dataset/metadata")
_INEXACT = 0.01
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


def read_metadata(root: Path) -> dict[str, Told]:
    """By file name, from the tables in ``root``, ``metadata`` or ``dataset/metadata``; none where there are none. Rows
    that cannot be read tell nothing. Raises BadInput for a table that is none."""
    found: dict[str, Told] = {}
    for path in (root / folder / name for folder in _FOLDERS for name in _TABLES):
        if not path.is_file():
            continue
        _, rows = open_table(path)
        for _, row in rows:
            told = _told(row)
            if told is not None:
                found[Path(row.get("VolumeName") or "").name] = told
    return found


def find_volume(root: Path, path: str) -> Path:
    """The file of ``path`` (train/train_1/train_1_a/train_1_a_1.nii.gz) below ``root``, packed or not, as the
    collection names its folders. Raises BadInput."""
    for name in _names(path):
        try:
            return find_image(root, name)
        except BadInput:
            continue
    return find_image(root, path)  # its reason


def _names(path: str) -> Iterator[str]:
    bare = path.removesuffix(".gz")
    split, _, rest = path.partition("/")
    for folder in ("", "dataset/"):
        for name in dict.fromkeys((path, bare, f"{bare}.gz")):
            yield folder + name
        if rest:
            yield f"{folder}{split}_fixed/{rest}"


def _told(row: dict[str, str]) -> Told | None:
    try:
        spacing = (*_numbers(row["XYSpacing"], 2), *_numbers(row["ZSpacing"], 1))
        orientation = _numbers(row.get("ImageOrientationPatient") or "1 0 0 0 1 0", 6)
        position = _numbers(row.get("ImagePositionPatient") or "0 0 0", 3)
        (slope,), (intercept,) = _numbers(row["RescaleSlope"], 1), _numbers(row["RescaleIntercept"], 1)
        if min(spacing) <= 0 or not _perpendicular(orientation[:3], orientation[3:]):
            return None
    except (KeyError, TypeError, ValueError):
        return None
    return Told(
        spacing_mm=(spacing[0], spacing[1], spacing[2]),
        orientation=orientation,
        position=(position[0], position[1], position[2]),
        slope=slope,
        intercept=intercept,
    )


def _perpendicular(row: tuple[float, ...], column: tuple[float, ...]) -> bool:
    """Whether they are unit vectors at right angles, as PS3.3 C.7.6.2.1.1 asks for."""
    axes = np.array([row, column])
    return bool(np.allclose(axes @ axes.T, np.eye(2), rtol=0, atol=_INEXACT))


def _numbers(text: str, count: int) -> tuple[float, ...]:
    """``[0.7, 0.7]`` as numbers. Raises ValueError where there are not ``count`` of them."""
    found = tuple(float(number) for number in _NUMBER.findall(text))
    if len(found) != count or not all(map(math.isfinite, found)):
        raise ValueError(f"{count} numbers are expected")
    return found
