"""The order of the slices of a CT, by their positions along the normal of their plane (PS3.3 C.7.6.2.1.1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from radir_pacs.catalogue import StoredInstance
from radir_pacs.dicom.json_model import numbers


def from_head_to_feet(slices: Sequence[StoredInstance]) -> tuple[StoredInstance, ...]:
    """Slices by their place along the normal, the highest first; by Instance Number where they have no place."""
    return tuple(sorted(slices, key=lambda instance: (-height_mm(instance), instance.instance_number or 0)))


def height_mm(instance: StoredInstance) -> float:
    """The position of a slice along its normal, which points to the head; 0 without a position or orientation."""
    position = numbers(instance.attributes, "ImagePositionPatient", 3)
    orientation = numbers(instance.attributes, "ImageOrientationPatient", 6)
    if position is None or orientation is None:
        return 0.0
    normal = np.cross(orientation[:3], orientation[3:])
    return float(normal @ np.asarray(position)) * (1 if normal[2] >= 0 else -1)
