"""What a phantom looks like: conventions, sides, and findings that can be seen where the truth says."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from radir_pacs.types import F32
from radir_training.phantoms import CATALOGUE, SIZES, PhantomFinding, sample
from radir_training.phantoms.boxes import frontal_boxes
from radir_training.phantoms.course import draw_patient
from radir_training.phantoms.findings import place
from radir_training.phantoms.images import Images, take_images
from radir_training.phantoms.patient import Chest

TINY = SIZES["tiny"]


@cache
def imaged(*findings: PhantomFinding, ct: bool = True) -> tuple[Chest, Images]:
    """A patient of a fixed hospital with just these findings."""
    patient, _ = draw_patient(7, 4)
    chest = Chest.of(patient, findings)
    return chest, take_images(chest, TINY, np.random.default_rng(0), ct=ct)


def at(concept: str, region: str, severity: int) -> PhantomFinding:
    return place(concept, region, severity, np.random.default_rng(3))


def mean_in(picture: F32, box: tuple[float, float, float, float]) -> float:
    rows, columns = picture.shape
    left, top, right, bottom = box
    part = picture[int(top * rows) : int(np.ceil(bottom * rows)), int(left * columns) : int(np.ceil(right * columns))]
    return float(part.mean())


def test_pictures_keep_the_conventions_of_a_volume() -> None:
    study = sample(1, 0, size=TINY)
    for picture in (study.frontal, study.lateral):
        assert picture.shape == (1, 64, 64) and picture.dtype == np.float32
        assert picture.min() >= 0 and picture.max() <= 1 and np.isfinite(picture).all()
    assert study.ct.dtype == np.float32 and study.ct.shape[1:] == (64, 64)
    assert study.ct.min() >= -1024 and study.ct.max() <= 3071


def test_air_lung_and_soft_tissue_have_their_hounsfield_units() -> None:
    chest, images = imaged()
    ct, (dz, dy, dx), (x0, y0, z0) = images.ct, images.ct_spacing_mm, images.ct_origin_mm

    def hu(x: float, y: float, z: float) -> float:
        k, j, i = round((z - z0) / dz), round((y - y0) / dy), round((x - x0) / dx)
        return float(ct[k - 1 : k + 2, j - 1 : j + 2, i - 1 : i + 2].mean())

    assert ct[:, 0, 0].mean() == pytest.approx(-1000, abs=15)
    assert -920 < hu(-78, -10, 20) < -720  # right lung
    assert 20 < hu(-60, 0, chest.right_dome_mm - 40) < 90  # liver, on the right
    assert 20 < hu(25, -25, chest.left_dome_mm + 20) < 80  # heart, left of the midline


def test_the_heart_points_to_the_left_and_the_liver_lies_right() -> None:
    """Patient's right is at the picture's left; the heart's shadow reaches further towards the picture's right."""
    chest, images = imaged(ct=False)
    boxes = frontal_boxes(chest, TINY)
    left, _, right, _ = boxes["heart"]
    assert right - 0.5 > 0.5 - left
    row = images.frontal[0][int((boxes["heart"][1] * 0.4 + boxes["heart"][3] * 0.6) * 64)]
    assert row[34:44].mean() > row[20:30].mean()


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize(
    ("concept", "part", "brighter"), [("effusion", "pleura", True), ("pneumothorax", "pleura", False)]
)
def test_pleural_findings_show_on_their_own_side(side: str, concept: str, part: str, brighter: bool) -> None:
    _, without = imaged(ct=False)
    chest, images = imaged(at(concept, f"{side}_{part}", 3), ct=False)
    boxes = frontal_boxes(chest, TINY)
    other = "left" if side == "right" else "right"
    change = mean_in(images.frontal[0] - without.frontal[0], boxes[f"{side}_lung"])
    spill = mean_in(images.frontal[0] - without.frontal[0], boxes[f"{other}_lung"])
    assert (change > 0) is brighter
    assert abs(change) > 2 * abs(spill)


@pytest.mark.parametrize("region", CATALOGUE["consolidation"].regions)
def test_consolidation_fills_its_lobe_and_more_when_severe(region: str) -> None:
    chest, without = imaged()
    filled = []
    for severity in (1, 2, 3):
        _, images = imaged(at("consolidation", region, severity))
        changed = (images.ct - without.ct) > 300
        filled.append(int(changed.sum()))
        columns = np.nonzero(changed)[2]
        middle = changed.shape[2] / 2
        assert np.mean(columns < middle) > 0.97 if region.startswith("right") else np.mean(columns > middle) > 0.97
    assert 0 < filled[0] < filled[1] < filled[2]
    assert frontal_boxes(chest, TINY)[region]


@pytest.mark.parametrize("concept", sorted(CATALOGUE))
def test_every_finding_changes_the_volume(concept: str) -> None:
    _, without = imaged()
    for region in CATALOGUE[concept].regions:
        _, images = imaged(at(concept, region, 2 if concept != "pacemaker" else 3))
        assert np.abs(images.ct - without.ct).max() > 100, region


def test_the_heart_grows_with_the_grade() -> None:
    widths = []
    for severity in (1, 2, 3):
        chest, _ = imaged(at("cardiomegaly", "heart", severity), ct=False)
        left, _, right, _ = frontal_boxes(chest, TINY)["heart"]
        widths.append(right - left)
    assert widths == sorted(widths) and widths[2] > 1.12 * widths[0]


def test_a_crushed_vertebra_is_the_denser_the_more_it_is_crushed() -> None:
    chest, images = spine(0)
    centre = chest.spine(np.array([-70.0]))[0][0]
    column = round((centre - images.ct_origin_mm[0]) / images.ct_spacing_mm[2])
    densest = []
    for severity in (0, 1, 2, 3):
        _, images = spine(severity)
        densest.append(images.ct[:, 64:, column - 2 : column + 3].max())
    assert all(harder > softer + 20 for softer, harder in itertools.pairwise(densest))


@cache
def spine(severity: int) -> tuple[Chest, Images]:
    patient, _ = draw_patient(7, 4)
    chest = Chest.of(patient, (at("vertebral_compression", "thoracic_spine", severity),) if severity else ())
    return chest, take_images(chest, SIZES["small"], np.random.default_rng(0))


def test_a_radiograph_shows_its_spine_and_the_bruise_of_a_broken_rib() -> None:
    """Bone is not pressed against white; blood under the pleura stands beyond the rib into the lung."""
    _, without = spine(0)
    picture = without.frontal[0]
    assert picture.max() < 0.96 and np.quantile(picture, 0.99) < 0.92
    patient, _ = draw_patient(7, 4)
    broken = Chest.of(patient, (at("rib_fracture", "right_ribs", 2),))
    images = take_images(broken, SIZES["small"], np.random.default_rng(0), ct=False)
    brighter = (images.frontal[0] - picture)[:, :64] > 0.08
    assert brighter.sum() > 100, "two of some 40 mm, at 2.8 mm per pixel"


def test_a_radiograph_shows_the_swelling_beside_a_crushed_vertebra_on_both_sides() -> None:
    chest, without = spine(0)
    middle = 64 + chest.spine(np.array([-70.0]))[0][0] / without.radiograph_spacing_mm[2]
    shown = []
    for severity in (1, 2, 3):
        brighter = np.nonzero((spine(severity)[1].frontal[0] - without.frontal[0]) > 0.04)
        assert 30 < brighter[1].min() < middle - 8 and middle + 8 < brighter[1].max() < 98, "pixels of 2.8 mm"
        shown.append(len(brighter[0]))
    assert 30 < shown[0] < shown[1] < shown[2]


def test_blood_beside_a_crushed_vertebra_is_some_millilitres_and_more_on_one_side() -> None:
    _, without = spine(0)
    findings = [at("vertebral_compression", "thoracic_spine", severity) for severity in (1, 2, 3)]
    amounts = [sum(blood_ml(finding, without)) for finding in findings]
    assert 3 < amounts[0] < amounts[1] < amounts[2] < 30
    to_right, to_left = (blood_ml(replace(findings[2], at=(0.5, side, 0.5)), without) for side in (0.0, 1.0))
    assert to_right[0] > 1.5 * to_left[0] and to_left[1] > 1.5 * to_right[1]


def blood_ml(finding: PhantomFinding, without: Images) -> tuple[float, float]:
    """Right and left of the spine of patient 4: what was lung and is not."""
    patient, _ = draw_patient(7, 4)
    chest = Chest.of(patient, (finding,))
    columns = np.nonzero(take_images(chest, SIZES["small"], np.random.default_rng(0)).ct - without.ct > 500)[2]
    x = without.ct_origin_mm[0] + columns * without.ct_spacing_mm[2]
    voxel_ml = float(np.prod(without.ct_spacing_mm)) / 1000
    middle = chest.spine(np.array([-70.0]))[0][0]
    return float((x < middle).sum()) * voxel_ml, float((x > middle).sum()) * voxel_ml


def test_boxes_lie_in_the_picture_and_on_the_right_side() -> None:
    for index in range(4):
        boxes = sample(2, index, size=TINY, ct=False).boxes
        for key, (left, top, right, bottom) in boxes.items():
            assert 0 <= left < right <= 1 and 0 <= top < bottom <= 1, key
            if key.startswith("right_"):
                assert (left + right) / 2 < 0.5, key
            if key.startswith("left_"):
                assert (left + right) / 2 > 0.5, key


def test_the_same_numbers_give_the_same_study_and_others_another() -> None:
    one, same, other = (sample(5, index, size=TINY) for index in (3, 3, 4))
    assert np.array_equal(one.frontal, same.frontal) and np.array_equal(one.ct, same.ct)
    assert one.radiograph_report == same.radiograph_report and one.findings == same.findings
    assert not np.array_equal(one.frontal, other.frontal)


def test_a_picture_does_not_depend_on_what_else_is_taken() -> None:
    both = sample(5, 3, size=TINY)
    assert np.array_equal(both.frontal, sample(5, 3, size=TINY, ct=False).frontal)
    assert np.array_equal(both.lateral, sample(5, 3, size=TINY, ct=False).lateral)
    assert np.array_equal(both.ct, sample(5, 3, size=TINY, radiographs=False).ct)


def test_a_later_visit_is_the_same_person() -> None:
    first, later = sample(5, 3, size=TINY, ct=False), sample(5, 3, size=TINY, visit=1, ct=False)
    assert first.patient == later.patient


def test_sizes_show_the_same_chest() -> None:
    """A finer picture, averaged down, is the coarser one."""
    fine = sample(5, 1, size=SIZES["small"], ct=False).frontal[0].reshape(64, 2, 64, 2).mean(axis=(1, 3))
    coarse = sample(5, 1, size=TINY, ct=False).frontal[0]
    assert np.corrcoef(fine.ravel(), coarse.ravel())[0, 1] > 0.97
