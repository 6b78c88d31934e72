"""Regions: the table is sound, its codes are those of public vocabularies, and words find their place."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.sr._concepts_dict import concepts

from radir_pacs import anatomy
from radir_pacs.anatomy.check import faults
from radir_pacs.errors import UnknownRegion
from radir_pacs.types import LEFT, RIGHT, Code, ImageKind, ImageRef, SliceStack
from tests.examples import examples

TRAINED_CXR = """lungs, heart, bones, abdomen, spine, right lung, pulmonary vasculature, aorta, airway structures,
left lower lobe, right lower lobe, right upper lobe, thoracic aorta, ventricle, atrium, carina, pulmonary artery,
aortic arch, bronchi, costophrenic angle, aortic valve, pericardium"""
TRAINED_CT = """bone, heart, bronchi, trachea, pleura, vertebrae, liver, aorta, spinal canal, gallbladder, clavicle,
ascending aorta, pulmonary artery, breast, pancreas, stomach"""


def test_table_is_sound() -> None:
    assert faults(anatomy.regions()) == []


@pytest.mark.parametrize(
    ("key", "change", "word"),
    [
        ("heart", {"parent": "nowhere"}, "does not exist"),
        ("lungs", {"parent": "right_upper_lobe"}, "circle"),
        ("heart", {"parent": None}, "roots"),
        ("heart", {"synonyms": ("left lungs",)}, "also names"),
        ("heart", {"synonyms": ("of the",)}, "says nothing"),
        ("heart", {"code": Code(value="x" * 17, scheme="99RADIR", meaning="Heart")}, "too long"),
        ("heart", {"code": Code(value="T-32000", scheme="SCT", meaning="Heart")}, "SNOMED"),
        ("heart", {"code": Code(value="1", scheme="99OTHER", meaning="Heart")}, "not declared"),
        ("pancreas", {"kinds": frozenset({ImageKind.CXR})}, "trained on images"),
        ("mediastinum", {"kinds": frozenset({ImageKind.CT})}, "its parent is not"),
    ],
)
def test_checker_sees_a_planted_fault(key: str, change: dict[str, Any], word: str) -> None:
    spoilt = [replace(found, **change) if found.key == key else found for found in anatomy.regions()]
    assert any(word in fault for fault in faults(spoilt))


@pytest.mark.parametrize(("kind", "names"), [(ImageKind.CXR, TRAINED_CXR), (ImageKind.CT, TRAINED_CT)])
def test_trained_regions_are_the_published_ones_in_order(kind: ImageKind, names: str) -> None:
    assert [found.key for found in anatomy.trained(kind)] == [
        anatomy.look_up(name, kind).key for name in names.split(",")
    ]
    assert all(kind in above.kinds for found in anatomy.trained(kind) for above in anatomy.ancestors(found.key))


def test_hierarchy() -> None:
    assert [above.key for above in anatomy.ancestors("right_upper_lobe")] == ["right_lung", "lungs", "chest"]
    assert anatomy.ancestors("chest") == ()
    below = {found.key for found in anatomy.descendants("chest")}
    assert below == {found.key for found in anatomy.regions()} - {"chest"}
    assert [child.key for child in anatomy.children("trachea")] == ["carina"]
    with pytest.raises(UnknownRegion):
        anatomy.region("flux_capacitor")


def test_sides() -> None:
    """A sided region has its side as laterality, unless its code says the side (right atrium)."""
    for side in (LEFT, RIGHT):
        word = side.meaning
        for found in anatomy.regions():
            if found.key.startswith(f"{word.lower()}_") and word not in found.code.meaning:
                assert found.laterality == side, found.key


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("LLL", "left_lower_lobe"),
        ("lower lobe of left lung", "left_lower_lobe"),
        ("Left-lower-lobe", "left_lower_lobe"),
        ("left_lower_lobe", "left_lower_lobe"),
        ("R lower lobe", "right_lower_lobe"),
        ("superior segment of the left lower lobe", "left_lower_lobe"),
        ("middle lobe of the right lung", "right_middle_lobe"),
        ("both lungs", "lungs"),
        ("right-sided pleural", "right_pleura"),
        ("CP angles", "costophrenic_angles"),
        ("lt. costophrenic sulci", "left_costophrenic_angle"),
        ("lung bases", "lower_zones"),
        ("left basilar", "left_lower_zone"),
        ("apices", "lung_apices"),
        ("oesophagus", "esophagus"),
        ("gastro-oesophageal junction", "gastroesophageal_junction"),
        ("L-spine", "lumbar_spine"),
        ("T8 vertebral body", "thoracic_spine"),
        ("right 6th rib", "right_ribs"),
        ("posterior left seventh rib", "left_ribs"),
        ("arch of the aorta", "aortic_arch"),
        ("pulmonary arteries", "pulmonary_artery"),
        ("SVC", "superior_vena_cava"),
        ("cavo-atrial junction", "cavoatrial_junction"),
        ("cardiac silhouette", "heart"),
        ("hemidiaphragms", "diaphragm"),
        ("thorax", "chest"),
        ("posterior chest wall", "chest_wall"),
        ("mid oesophagus", "esophagus"),
        ("left apical region", "left_lung_apex"),
        ("mediobasal segment of the left lower lobe", "left_lower_lobe"),
    ],
)
def test_look_up(text: str, key: str) -> None:
    assert anatomy.look_up(text).key == key


def test_every_name_and_synonym_finds_its_region() -> None:
    for found in anatomy.regions():
        for wording in (found.key, found.name, found.name.upper(), *found.synonyms):
            assert anatomy.look_up(wording) == found, wording


def test_a_miss_names_the_nearest() -> None:
    with pytest.raises(UnknownRegion) as caught:
        anatomy.look_up("left lowr lobe")
    assert caught.value.nearest[0] == "left lower lobe"
    assert len(caught.value.nearest) <= 3


def test_a_region_that_the_images_cannot_show_offers_its_ancestors() -> None:
    with pytest.raises(UnknownRegion) as caught:
        anatomy.look_up("pancreas", ImageKind.CXR)
    assert caught.value.nearest[0] == "upper abdomen"


@settings(max_examples=examples(50), deadline=None)
@given(st.text(max_size=400))
def test_any_text_ends_in_a_region_or_unknown(text: str) -> None:
    try:
        anatomy.look_up(text)
    except UnknownRegion as unknown:
        assert len(str(unknown)) < 3000


def test_outlines() -> None:
    for kind in ImageKind:
        for found in anatomy.regions(kind):
            points = anatomy.outline(found.key, kind)
            assert len(points) >= 3 and points[0] != points[-1], found.key
            assert all(0 <= x <= 1 and 0 <= y <= 1 for x, y in points), found.key
            assert _area(points) > 0.0005, found.key
            middle = sum(x for x, _ in points) / len(points)
            own = anatomy.outline(found.key, kind) != anatomy.outline(found.parent or "chest", kind)
            if own and found.laterality == RIGHT:
                assert middle < 0.5, found.key
            if own and found.laterality == LEFT:
                assert middle > 0.5, found.key


def test_two_sides_are_two_outlines() -> None:
    for kind in ImageKind:
        for key in ("lungs", "pleura", "hila"):
            right, left = anatomy.outlines(key, kind)
            assert right == anatomy.outline(f"right_{key}".removesuffix("s").replace("hila", "hilum"), kind)
            assert max(x for x, _ in right) < 0.5 < min(x for x, _ in left)
        assert anatomy.outlines("heart", kind) == (anatomy.outline("heart", kind),)
        for found in anatomy.regions(kind):
            assert 1 <= len(anatomy.outlines(found.key, kind)) <= 2


def test_every_region_of_a_ct_has_a_height_near_its_parents() -> None:
    for found in anatomy.regions(ImageKind.CT):
        low, high = anatomy.height(found.key)
        assert -1.5 < low < high < 2, found.key
        if found.parent not in (None, anatomy.ROOT):
            above = anatomy.height(found.parent)
            assert low < above[1] and high > above[0], found.key


def stack(dome: float = 20, apex: float = 60) -> SliceStack:
    return SliceStack(images=tuple(f"1.{n}" for n in range(80)), dome=dome, apex=apex, step_mm=5)


def test_a_region_is_on_the_slices_of_its_height() -> None:
    assert [str(image) for image in anatomy.slices_of(stack(), "carina")] == ["1.42"]
    assert [str(image) for image in anatomy.slices_of(stack(), "right_lung_apex")] == ["1.57"]
    assert [str(image) for image in anatomy.slices_of(stack(), "lungs")] == ["1.33", "1.20", "1.46"]
    assert [str(image) for image in anatomy.slices_of(stack(), "liver")] == [
        "1.10",
        "1.5",
        "1.15",
    ]  # what of it was scanned


def test_a_region_beyond_the_series_has_its_nearest_end() -> None:
    assert [str(image) for image in anatomy.slices_of(stack(dome=70, apex=110), "larynx")] == ["1.79"]
    assert [str(image) for image in anatomy.slices_of(stack(dome=-30, apex=10), "liver")] == ["1.0"]


def test_a_frame_of_a_multi_frame_image_is_named() -> None:
    frames = SliceStack(images=tuple(f"1.9/{n}" for n in range(1, 81)), dome=20, apex=60, step_mm=5)
    assert anatomy.slices_of(frames, "carina") == (ImageRef(sop_uid="1.9", frame=43),)
    assert ImageRef.parse("1.9") == ImageRef(sop_uid="1.9", frame=1) and str(ImageRef(sop_uid="1.9")) == "1.9"


@pytest.mark.parametrize(
    ("region", "window"),
    [
        ("right_lower_lobe", (-600, 1500)),
        ("carina", (-600, 1500)),
        ("left_pleura", (-600, 1500)),
        ("thoracic_spine", (400, 1800)),
        ("heart", (40, 400)),
        ("liver", (40, 400)),
        ("chest", None),
    ],
)
def test_a_region_is_looked_at_in_its_window(region: str, window: tuple[float, float] | None) -> None:
    assert anatomy.ct_window(region) == window


def test_a_private_code_is_mapped_to_a_standard_one() -> None:
    code, side = anatomy.standard_code("left_costophrenic_angle")
    assert (code.value, side) == ("3120008", None)
    for found in anatomy.regions():
        assert anatomy.standard_code(found.key)[0].scheme == "SCT"


def test_codes_stand_in_public_vocabularies() -> None:
    words: dict[str, dict[str, Any]] = dict(concepts["SCT"])  # type: ignore[arg-type]
    known = {value for word in words.values() for value in word}
    unknown = {
        found.code.value for found in anatomy.regions() if found.code.scheme == "SCT" and found.code.value not in known
    }
    vocabulary = Path(os.environ.get("RADIR_TEST_DATA", Path(__file__).parents[3] / "shared" / "data")) / "vocab"
    if not vocabulary.is_dir():
        pytest.skip(f"no vocabularies at hand; {len(known)} codes of pydicom were checked")
    assert unknown - set(_snomed_codes(vocabulary)) == set()


def _area(points: anatomy.Outline) -> float:
    turned = zip(points, points[1:] + points[:1], strict=True)
    return abs(sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in turned)) / 2


def _snomed_codes(vocabulary: Path) -> Iterator[str]:
    for entry in json.loads((vocabulary / "oid/notebooks/data/anatomic_locations_noembed.json").read_text()):
        yield entry.get("snomedId") or ""
    mapping = vocabulary / "totalseg/totalsegmentator/resources/totalsegmentator_snomed_mapping.csv"
    for row in csv.reader(mapping.read_text().splitlines()):
        yield row[5]
    for path in (vocabulary / "slicer").glob("*.json"):
        yield from _code_values(json.loads(path.read_text()))


def _code_values(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if node.get("CodingSchemeDesignator") == "SCT":
            yield node.get("CodeValue", "")
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from _code_values(child)
