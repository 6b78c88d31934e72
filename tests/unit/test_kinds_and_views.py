"""One answer to which kind of image something is, what its view is, and whether a frontal outline applies."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from radir_pacs import anatomy
from radir_pacs.delivery.region_on_image import outlines_as_read, outlines_on
from radir_pacs.dicom.views import may_be_frontal, view_of
from radir_pacs.reports.kind import kind_of
from radir_pacs.types import RADIOGRAPH_MODALITIES, ImageKind, View, kind_of_modality, modalities_of_kind

ROOT = Path(__file__).parents[2]


def test_the_modalities_of_the_kinds() -> None:
    assert modalities_of_kind(ImageKind.CXR) == RADIOGRAPH_MODALITIES == {"CR", "DX", "RG"}
    assert modalities_of_kind(ImageKind.CT) == {"CT"}
    for kind in ImageKind:
        for modality in modalities_of_kind(kind):
            assert kind_of_modality(modality) is kind and kind_of([modality]) is kind
    assert kind_of_modality("MR") is None and kind_of_modality(None) is None


def test_no_module_keeps_a_list_of_its_own() -> None:
    """Nor a lung window of its own: both were in three places and differed."""
    a_list = re.compile(r"""["'](CR|DX|RG)["'],\s*["'](CR|DX|RG)["']|["'](CR|DX),(CR|DX)""")
    a_window = re.compile(r"-600(\.0)?,\s*1500")
    found = []
    for folder, pattern in (("radir_pacs", "*.py"), ("workers", "*.py"), ("viewer/component", "*.js")):
        for path in sorted((ROOT / folder).rglob(pattern)):
            text = path.read_text(encoding="utf-8")
            found += [f"{path.name}: {match[0]}" for rule in (a_list, a_window) for match in rule.finditer(text)]
    assert sorted(found) == ['types.py: "CR", "DX"', "windows.py: -600.0, 1500"]


def attributes(**values: Any) -> dict[str, Any]:
    tags = {"Modality": "00080060", "ViewPosition": "00185101", "PatientOrientation": "00200020"}
    tags |= {"SeriesDescription": "0008103E", "ImageOrientationPatient": "00200037"}
    return {
        tags[name]: {"vr": "CS", "Value": value if isinstance(value, list) else [value]}
        for name, value in values.items()
    }


@pytest.mark.parametrize(
    ("header", "view", "holds"),
    [
        ({}, None, True),
        ({"ViewPosition": "AP"}, View.FRONTAL, True),
        ({"ViewPosition": "LL"}, View.LATERAL, False),
        ({"ViewPosition": "LLO"}, None, False),
        ({"ViewPosition": "RLO"}, None, False),
        ({"ViewPosition": "LPO"}, None, False),
        ({"SeriesDescription": "Thorax lateral"}, View.LATERAL, False),
        ({"PatientOrientation": ["P", "F"]}, View.LATERAL, False),
        ({"PatientOrientation": ["F", "L"]}, View.FRONTAL, True),
        ({"PatientOrientation": ["AL", "F"]}, View.LATERAL, False),
        ({"ViewPosition": "PA", "PatientOrientation": ["A", "F"]}, View.FRONTAL, False),  # contradicts itself
    ],
)
def test_report_and_sidebar_outline_the_same_views(header: dict[str, Any], view: View | None, holds: bool) -> None:
    for modality in sorted(RADIOGRAPH_MODALITIES):
        given = attributes(Modality=modality, **header)
        assert view_of(given) is view and may_be_frontal(given) is holds
        assert bool(outlines_on("heart", given)) is bool(outlines_as_read("heart", given)) is holds


def test_a_radiograph_is_shown_upright_and_a_slice_as_it_is_stored() -> None:
    turned = attributes(Modality="RG", PatientOrientation=["F", "R"])
    assert outlines_as_read("heart", turned) == anatomy.outlines("heart", ImageKind.CXR)
    assert outlines_on("heart", turned) == (tuple((y, 1 - x) for x, y in anatomy.outline("heart")),)
    mirrored = attributes(Modality="CT", ImageOrientationPatient=[-1, 0, 0, 0, 1, 0])
    assert outlines_as_read("heart", mirrored) == outlines_on("heart", mirrored)
    coronal = attributes(Modality="CT", ImageOrientationPatient=[1, 0, 0, 0, 0, -1])
    assert outlines_as_read("heart", coronal) == ()
