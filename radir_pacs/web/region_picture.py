"""Which slice of a CT shows a region, and in which window: what a picture of "the region asked for" means.

Heights are textbook positions along the chest, taken from the frontal outlines, and no measurements of this patient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from radir_pacs import anatomy
from radir_pacs.catalogue import StoredInstance
from radir_pacs.dicom.json_model import numbers
from radir_pacs.types import ImageKind

# Where the slices of a CT of the chest begin and end, as heights on the frontal view that outlines are drawn on.
_TOP, _BOTTOM = 0.06, 0.98
_LUNGS = frozenset({"lungs", "airways", "pleura", "right_hemithorax", "left_hemithorax"})
_BONES = frozenset({"bones"})


@dataclass(frozen=True, kw_only=True)
class Window:
    """A VOI in Hounsfield units (PS3.3 C.11.2.1.2)."""

    center: float
    width: float


LUNG_WINDOW = Window(center=-600, width=1500)
_BONE_WINDOW = Window(center=400, width=1800)
_SOFT_TISSUE_WINDOW = Window(center=40, width=400)


def window_of(region: str) -> Window:
    """The window in which a CT shows ``region`` (a key)."""
    chain = {region, *(above.key for above in anatomy.ancestors(region))}
    if chain & _LUNGS:
        return LUNG_WINDOW
    return _BONE_WINDOW if chain & _BONES else _SOFT_TISSUE_WINDOW


def from_head_to_feet(slices: Sequence[StoredInstance]) -> tuple[StoredInstance, ...]:
    """Slices by their place along the normal, the highest first; by Instance Number where they have no place."""
    return tuple(sorted(slices, key=lambda instance: (-_height(instance), instance.instance_number or 0)))


def slice_of(region: str, ordered: Sequence[str]) -> str | None:
    """Of SOP Instance UIDs from head to feet the one at the height of ``region``; None for the whole chest."""
    if region == anatomy.ROOT or not ordered:
        return None
    heights = [y for _, y in anatomy.outline(region, ImageKind.CXR)]
    height = ((min(heights) + max(heights)) / 2 - _TOP) / (_BOTTOM - _TOP)
    return ordered[round(min(1.0, max(0.0, height)) * (len(ordered) - 1))]


def _height(instance: StoredInstance) -> float:
    attributes = dict(instance.attributes)
    position = numbers(attributes, "ImagePositionPatient", 3)
    orientation = numbers(attributes, "ImageOrientationPatient", 6)
    if position is None or orientation is None:
        return 0.0
    normal = np.cross(orientation[:3], orientation[3:])
    return float(normal @ np.asarray(position)) * (1 if normal[2] >= 0 else -1)
