"""The distance between the middle of a region and the CT slice that shows it, on phantoms of known anatomy.

    python -m benchmarks.experiments.ct_slices [--patients 40] [--seed 777] [--out docs/results]

The baseline is the middle slice of the series. A region's middle is that of its scanned part; "cuts" is the share of
patients in whom the slice passes through the region.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from benchmarks import results
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
    """Lower and upper end in mm above the carina, of each region for which they are known."""
    boxes = frontal_boxes(chest, SIZE).items()
    found = {key: (TOP_MM - low * SIZE.field_mm, TOP_MM - high * SIZE.field_mm) for key, (_, high, _, low) in boxes}
    found["liver"] = (-1000.0, chest.right_dome_mm)
    found["right_lung_apex"] = (chest.patient.apex_mm - 28, chest.patient.apex_mm)
    return found


def stack_of(images: Images) -> SliceStack:
    """Slices by index; placed by the series' length where no lung is found, as in service."""
    last = len(images.ct) - 1
    dome, apex = lung_landmarks(images.ct, images.ct_spacing_mm) or (0.25 * last, 0.9 * last)
    names = tuple(map(str, range(last + 1)))
    return SliceStack(images=names, dome=dome, apex=apex, step_mm=images.ct_spacing_mm[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=40)
    parser.add_argument("--seed", type=int, default=777)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
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
    everything = [miss for rows in misses.values() for miss in rows]
    figures = {key: _figures(rows) for key, rows in sorted(misses.items())} | {"all": _figures(everything)}
    step_mm = SIZE.voxel_mm * SIZE.slice_voxels
    found = {"patients": given.patients, "seed": given.seed, "slice_mm": step_mm, "regions": figures}
    page = results.write(given.out, "ct-slices", found, _page(given.patients, step_mm, figures))
    print(page.read_text(encoding="utf-8"))


def _figures(misses: list[tuple[float, bool, float, bool]]) -> dict[str, float]:
    rows = np.asarray(misses, np.float64)
    names = ("middle_mm", "middle_cuts", "own_mm", "own_cuts")
    found = {name: round(float(mean), 3) for name, mean in zip(names, rows.mean(axis=0), strict=True)}
    most = np.percentile(rows, 90, axis=0)
    return found | {"middle_mm_p90": round(float(most[0]), 1), "own_mm_p90": round(float(most[2]), 1)}


def _page(patients: int, step_mm: float, figures: Mapping[str, Mapping[str, float]]) -> str:
    lines = [
        "# On which slice of a CT a region is shown",
        "",
        f"{patients} synthetic patients with their findings, slices of {step_mm:g} mm. Distances are from the "
        "middle of what was scanned of a region to the slice, mean and in brackets the 90th percentile, in mm. The "
        'middle slice is what was shown for every region before. "Cuts": the slice passes through the region.',
        "",
        "The heights (`radir_pacs/anatomy/heights.csv`) are textbook positions, checked on other phantoms of the same "
        "making, so real patients differ more. The box of the mediastinum leaves out what lies above the aortic arch.",
        "",
        "| region | middle slice | cuts | its own slice | cuts |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {key.replace('_', ' ')} | {f['middle_mm']:.0f} ({f['middle_mm_p90']:.0f}) | {f['middle_cuts']:.0%} "
        f"| {f['own_mm']:.0f} ({f['own_mm_p90']:.0f}) | {f['own_cuts']:.0%} |"
        for key, f in figures.items()
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
