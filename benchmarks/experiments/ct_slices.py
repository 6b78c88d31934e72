"""How far from the middle of a region the slice lies on which a CT shows it, on phantoms whose anatomy is known.

    python -m benchmarks.experiments.ct_slices [--patients 40] [--seed 777]

Beside it the middle slice of the series, which was shown for every region before. A region's middle is that of the part
that was scanned; "cuts" is the share of patients in whom the slice passes through the region at all.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np

from radir_pacs import anatomy
from radir_pacs.dicom.lung_landmarks import lung_landmarks
from radir_pacs.types import ImageKind, SliceStack
from radir_training.phantoms import SIZES
from radir_training.phantoms.boxes import frontal_boxes
from radir_training.phantoms.canvas import TOP_MM
from radir_training.phantoms.course import draw_course
from radir_training.phantoms.images import Images, take_images
from radir_training.phantoms.patient import Chest

SIZE = SIZES["small"]


def scans(patients: int, seed: int) -> Iterator[tuple[Chest, Images]]:
    """The first CT of each patient of a hospital, findings included."""
    for index in range(patients):
        course = draw_course(seed, index, frozenset({ImageKind.CT}))
        chest = Chest.of(course.patient, course.visits[0].findings)
        yield chest, take_images(chest, SIZE, np.random.default_rng(index), radiographs=False)


def true_heights_mm(chest: Chest) -> dict[str, tuple[float, float]]:
    """Low and high above the carina, of each region of which they are known."""
    boxes = frontal_boxes(chest, SIZE).items()
    found = {key: (TOP_MM - low * SIZE.field_mm, TOP_MM - high * SIZE.field_mm) for key, (_, high, _, low) in boxes}
    found["liver"] = (-1000.0, chest.right_dome_mm)
    found["right_lung_apex"] = (chest.patient.apex_mm - 28, chest.patient.apex_mm)
    return found


def stack_of(images: Images) -> SliceStack:
    """Named by their indices; by the series' length where no lung is found, as in service."""
    last = len(images.ct) - 1
    dome, apex = lung_landmarks(images.ct, images.ct_spacing_mm) or (0.25 * last, 0.9 * last)
    names = tuple(map(str, range(last + 1)))
    return SliceStack(images=names, dome=dome, apex=apex, step_mm=images.ct_spacing_mm[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=40)
    parser.add_argument("--seed", type=int, default=777)
    given = parser.parse_args()
    misses: dict[str, list[tuple[float, bool, float, bool]]] = {}
    for chest, images in scans(given.patients, given.seed):
        stack = stack_of(images)
        bottom, step_mm = images.ct_origin_mm[2], images.ct_spacing_mm[0]
        top, middle = bottom + (len(images.ct) - 1) * step_mm, bottom + len(images.ct) // 2 * step_mm
        for key, (low, high) in true_heights_mm(chest).items():
            low, high = max(low, bottom), min(high, top)
            now = bottom + int(anatomy.slices_of(stack, key)[0].sop_uid) * step_mm
            centre = (low + high) / 2
            misses.setdefault(key, []).append(
                (abs(middle - centre), low <= middle <= high, abs(now - centre), low <= now <= high)
            )
    print(f"{given.patients} patients, slices of {SIZE.voxel_mm * SIZE.slice_voxels:g} mm; mean mm (90 % of patients)")
    print(f"{'region':<26}{'middle slice':>14}{'cuts':>7}{'its own slice':>17}{'cuts':>7}")
    for key, rows in sorted(misses.items()):
        print(_row(key, np.asarray(rows, np.float64)))
    print(_row("all", np.concatenate([np.asarray(rows, np.float64) for rows in misses.values()])))


def _row(name: str, rows: np.ndarray) -> str:
    mean, most = rows.mean(axis=0), np.percentile(rows, 90, axis=0)
    before, after = (f"{mean[column]:.0f} ({most[column]:.0f})" for column in (0, 2))
    return f"{name:<26}{before:>14}{mean[1]:>7.0%}{after:>17}{mean[3]:>7.0%}"


if __name__ == "__main__":
    main()
