"""From a chest to voxels: the chest is painted slab by slab, and every slab is yielded before the next is begun."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .abdomen import paint_abdomen
from .body import chest_wall_fat_planes, loose_tissue_hu, paint_body
from .canvas import Axes, Canvas, Size
from .devices import paint_devices
from .lungs import grow_vessels, paint_lungs
from .mediastinum import BLOOD_HU, paint_mediastinum
from .parenchyma import paint_lung_findings
from .patient import Chest
from .pleura import paint_pleural_findings
from .skeleton import paint_skeleton

SLAB_VOXELS = 2_000_000


def axes_of(chest: Chest, size: Size) -> Axes:
    p = chest.patient
    depth = 2 * (p.half_depth_mm + 48 + 1.3 * p.fat_mm + 0.8 * p.breast_mm)
    return Axes.covering(size, depth)


def slabs(chest: Chest, size: Size) -> Iterator[tuple[int, Canvas]]:
    """Painted slabs from the feet up, each with the index of its first plane in z."""
    axes = axes_of(chest, size)
    planes = max(8, SLAB_VOXELS // (len(axes.y) * len(axes.x)))
    rng = np.random.default_rng([chest.patient.seed, 7])
    loose_hu, noise = loose_tissue_hu(chest, rng)
    vessels = grow_vessels(chest, size.voxel_mm)
    for start in range(0, len(axes.z), planes):
        canvas = Canvas(axes.slab(start, min(start + planes, len(axes.z))))
        paint_body(canvas, chest)
        if size.voxel_mm < 2:
            chest_wall_fat_planes(canvas, noise)
        paint_lungs(canvas, chest, loose_hu, noise)
        paint_abdomen(canvas, chest)
        paint_skeleton(canvas, chest)
        paint_mediastinum(canvas, chest)
        share = vessels.fraction(canvas) * canvas.lung
        canvas.hu += share * (BLOOD_HU - canvas.hu)
        paint_lung_findings(canvas, chest)
        paint_pleural_findings(canvas, chest)
        paint_devices(canvas, chest)
        yield start, canvas
