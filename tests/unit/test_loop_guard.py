"""What we made is recognised, in every form it comes back in; what others made is not."""

from __future__ import annotations

from typing import Any

import pytest
from pydicom.dataset import Dataset

from radir_pacs.dicom.loop_guard import MANUFACTURER, MODEL_NAME, is_own_header, is_own_object
from radir_pacs.types import InstanceHeader
from tests.sr_material import image_header, report


def header_of(ds: Dataset) -> InstanceHeader:
    return InstanceHeader(
        study_uid=ds.StudyInstanceUID,
        series_uid=ds.SeriesInstanceUID,
        sop_uid=ds.SOPInstanceUID,
        sop_class_uid=ds.SOPClassUID,
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        attributes=ds.to_json_dict(),
    )


@pytest.mark.parametrize("removed", [(), ("Manufacturer",), ("CodingSchemeIdentificationSequence",)])
def test_our_report_is_ours_even_when_a_pacs_coerced_it(removed: tuple[str, ...]) -> None:
    sr = report()
    for keyword in removed:
        delattr(sr, keyword)
    assert is_own_object(sr) and is_own_object(sr.to_json_dict()) and is_own_header(header_of(sr))


def test_a_secondary_capture_of_ours_is_ours() -> None:
    capture = image_header(Manufacturer=MANUFACTURER, ManufacturerModelName=MODEL_NAME)
    assert is_own_object(capture)


@pytest.mark.parametrize("changes", [{}, {"Manufacturer": MANUFACTURER}, {"Manufacturer": "GE", "Modality": "SR"}])
def test_others_are_not(changes: dict[str, Any]) -> None:
    ds = image_header(**changes)
    assert not is_own_object(ds) and not is_own_header(header_of(ds))


def test_others_who_use_our_designator_are_not() -> None:
    sr = report()
    del sr.Manufacturer
    sr.CodingSchemeIdentificationSequence[0].CodingSchemeUID = "1.2.3"
    assert not is_own_object(sr)
    assert not is_own_object(Dataset()) and not is_own_object({})
