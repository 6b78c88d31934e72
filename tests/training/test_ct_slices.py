"""The slice of a CT on which a region is shown, checked on phantoms whose anatomy is known to the millimetre."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from benchmarks.experiments.ct_slices import scans, stack_of, true_heights_mm
from radir_pacs import anatomy
from radir_pacs.dicom.lung_landmarks import lung_landmarks
from radir_pacs.types import SliceStack
from radir_training.phantoms.images import Images
from radir_training.phantoms.patient import Chest

PATIENTS = 8
# What is drawn so that its middle is not the middle of the region: the mediastinum's box leaves out what is above it.
UNLIKE = {"mediastinum"}


@cache
def scanned() -> list[tuple[Chest, Images]]:
    return list(scans(PATIENTS, 2026))


def part_of(images: Images, first: int, last: int | None) -> SliceStack:
    """The stack of some of the slices, whose images are named by their index in all."""
    part = stack_of(replace(images, ct=images.ct[first:last]))
    return replace(part, images=tuple(str(first + index) for index in range(len(part.images))))


def misses(stack: SliceStack, images: Images, chest: Chest) -> Iterator[tuple[str, float, bool]]:
    """Region, mm from the middle of what of it was scanned, and whether the slice cuts it."""
    at = [images.ct_origin_mm[2] + int(name) * images.ct_spacing_mm[0] for name in stack.images]
    for key, (low, high) in true_heights_mm(chest).items():
        if key in UNLIKE:
            continue
        low, high = max(low, at[0]), min(high, at[-1])
        chosen = images.ct_origin_mm[2] + int(anatomy.slices_of(stack, key)[0].sop_uid) * images.ct_spacing_mm[0]
        yield key, abs(chosen - (low + high) / 2), low <= chosen <= high


def test_a_region_is_shown_on_a_slice_that_cuts_it_near_its_middle() -> None:
    found = [miss for chest, images in scanned() for miss in misses(stack_of(images), images, chest)]
    by_region = {key: np.mean([mm for name, mm, _ in found if name == key]) for key, _, _ in found}
    print({key: round(float(mm), 1) for key, mm in by_region.items()})
    assert np.mean([mm for _, mm, _ in found]) < 8
    assert max(by_region.values()) < 16
    assert np.mean([cuts for _, _, cuts in found]) > 0.96


@pytest.mark.parametrize("index", range(3))
def test_where_a_series_begins_and_ends_hardly_matters(index: int) -> None:
    _, images = scanned()[index]
    whole = stack_of(images)
    for first, last in ((8, None), (0, -8), (12, -12)):
        part = part_of(images, first, last)
        for key in ("carina", "aortic_arch", "heart", "right_hilum"):
            chosen, expected = (int(anatomy.slices_of(stack, key)[0].sop_uid) for stack in (part, whole))
            assert abs(chosen - expected) * images.ct_spacing_mm[0] <= 25, (key, first, last)


@pytest.mark.parametrize("noise_hu", [0.0, 60.0])
def test_noise_and_padding_move_no_landmark_far(noise_hu: float) -> None:
    chest, images = scanned()[1]
    voxels = images.ct + np.random.default_rng(5).normal(0, noise_hu, images.ct.shape).astype(np.float32)
    voxels[:, :, :6] = -3024  # padding outside of a round field
    dome, apex = lung_landmarks(voxels, images.ct_spacing_mm) or (0.0, 0.0)
    z = [images.ct_origin_mm[2] + at * images.ct_spacing_mm[0] for at in (dome, apex)]
    assert z[0] == pytest.approx((chest.right_dome_mm + chest.left_dome_mm) / 2, abs=15)
    assert z[1] == pytest.approx(chest.patient.apex_mm, abs=12)


def test_a_lung_without_air_takes_the_other_for_its_measure() -> None:
    _, images = scanned()[1]
    voxels = images.ct.copy()
    middle = voxels.shape[2] // 2
    filled = voxels[:, :, :middle]
    filled[(filled > -950) & (filled < -300)] = 20
    expected = lung_landmarks(images.ct, images.ct_spacing_mm) or (0.0, 0.0)
    found = lung_landmarks(voxels, images.ct_spacing_mm) or (0.0, 0.0)
    assert np.abs(np.subtract(found, expected)).max() * images.ct_spacing_mm[0] < 20


def test_without_lungs_there_are_no_landmarks() -> None:
    assert lung_landmarks(np.full((20, 64, 64), 40, np.float32), (5.0, 5.0, 5.0)) is None
    assert lung_landmarks(np.full((20, 64, 64), -1000, np.float32), (5.0, 5.0, 5.0)) is None
