"""Whatever a file contains: it is refused, or no reader of its header fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.datadict import tag_for_keyword

from radir_pacs.delivery.query_header import numbers, text
from radir_pacs.dicom.body_parts import body_part_of
from radir_pacs.dicom.elements import NUMBER_VRS, TEXT_VRS
from radir_pacs.dicom.eligibility import plan_study
from radir_pacs.dicom.file_head import head_for, needs_head
from radir_pacs.dicom.header import header_of, read_header
from radir_pacs.dicom.loop_guard import is_own_header
from radir_pacs.dicom.slices import planes_of
from radir_pacs.dicom.stored_header import dataset_of
from radir_pacs.errors import DicomRefused, Skipped
from radir_pacs.reports.sr_text import sr_text
from radir_pacs.types import InstanceHeader
from tests.dicom_material import element, identified, part10
from tests.examples import examples

_NAMES = """
SpecificCharacterSet ImageType StudyDate StudyTime AccessionNumber Modality Manufacturer ManufacturerModelName
CodingSchemeIdentificationSequence SeriesDescription ViewCodeSequence PatientName PatientID PatientBirthDate
PatientAge IssuerOfPatientID BodyPartExamined SliceThickness ViewPosition ImagePositionPatient
ImageOrientationPatient InstanceNumber PatientOrientation SamplesPerPixel PhotometricInterpretation
NumberOfFrames Rows Columns PixelSpacing BitsAllocated PixelRepresentation PixelPaddingValue WindowCenter
RescaleSlope RescaleIntercept RescaleType VOILUTSequence ContentSequence SharedFunctionalGroupsSequence
PerFrameFunctionalGroupsSequence
"""
_KEYWORDS = _NAMES.split()
_TAGS = [tag for keyword in _KEYWORDS if (tag := tag_for_keyword(keyword))]
_VRS = sorted((TEXT_VRS | NUMBER_VRS | {"AT", "OB", "OF", "OW", "SQ", "UN"}) - {"SV", "UV"})
_VALUES = st.one_of(
    st.binary(max_size=24),
    st.sampled_from(
        [b"1", b"2,5\\2,5", b"AUTO", b"1e308", b"nan", b"CT", b"CHEST", b"A^B=C", b"\x1b$)A", b"\\\\", b"7.0"]
    ),
    st.integers(0, 65535).map(lambda n: n.to_bytes(2, "little")),
)
_ELEMENTS = st.dictionaries(st.sampled_from(_TAGS), st.tuples(st.sampled_from(_VRS), _VALUES), max_size=12)


def assert_all_read(header: InstanceHeader, path: Path) -> None:
    json.dumps(dict(header.attributes), allow_nan=False).encode()
    again = header_of(json.loads(json.dumps(dict(header.attributes))), header.transfer_syntax_uid)
    assert (again.patient_keys, again.study_date, again.rows_px) == (
        header.patient_keys,
        header.study_date,
        header.rows_px,
    )
    is_own_header(header), body_part_of(header), planes_of(header, path), sr_text(header.attributes)
    ds = dataset_of(header.attributes)
    for keyword in _KEYWORDS:
        text(ds, keyword), numbers(ds, keyword, 2)
    try:
        plan_study([header])
    except Skipped as reason:
        assert str(reason)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=examples(150), deadline=None)
@given(_ELEMENTS)
def test_everybody_goes_on(tmp_path: Path, elements: dict[int, tuple[str, bytes]]) -> None:
    path = tmp_path / "x.dcm"
    body = b"".join(element(tag >> 16, tag & 0xFFFF, vr, value) for tag, (vr, value) in sorted(elements.items()))
    path.write_bytes(part10(identified(extra_after=body)))
    try:
        header = read_header(path)
    except DicomRefused:
        return
    assert_all_read(header, path)


@pytest.mark.parametrize("vr", _VRS)
@pytest.mark.parametrize("keyword", [keyword for keyword in _KEYWORDS if keyword.endswith("Sequence")])
def test_a_sequence_that_is_none_stops_nobody(tmp_path: Path, keyword: str, vr: str) -> None:
    path, tag = tmp_path / "x.dcm", tag_for_keyword(keyword)
    assert tag is not None
    path.write_bytes(part10(identified(extra_after=element(tag >> 16, tag & 0xFFFF, vr, b"abcdefgh"))))
    try:
        header = read_header(path)
    except DicomRefused:
        assert vr == "SQ"
    else:
        assert not needs_head(header) and "Value" not in header.attributes[f"{tag:08X}"]
        assert_all_read(header, path)


@given(st.binary(max_size=80))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_bytes_without_a_head_are_read_or_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.dcm"
    path.write_bytes(b"\x08\0\x16\0" + content + identified())
    try:
        header = read_header(path)
    except DicomRefused:
        return
    assert head_for(header, path)[1] == 0
