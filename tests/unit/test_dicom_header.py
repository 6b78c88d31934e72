from __future__ import annotations

import json
import struct
import tracemalloc
import zlib
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from radir_pacs.dicom.elements import parse_part10
from radir_pacs.dicom.header import parse_date, read_header
from radir_pacs.dicom.json_model import to_json
from radir_pacs.dicom.limits import ReadLimits
from radir_pacs.errors import DicomRefused
from tests.dicom_material import DEFLATED, UNDEFINED, element, identified, image, part10, save

ITEM = struct.pack("<HHL", 0xFFFE, 0xE000, UNDEFINED)
PIXELS = np.arange(64, dtype=np.uint16).reshape(8, 8)


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_a_header_says_what_the_file_says(tmp_path: Path) -> None:
    ds = image(
        PIXELS,
        SpecificCharacterSet="ISO_IR 192",
        PatientName="Müller^Jürgen=山田^太郎",
        PatientID="P-1",
        IssuerOfPatientID="H",
        PatientSex="M",
        PatientAge="018M",
        StudyDate="20200229",
        StudyTime="101112.5",
        SeriesNumber="7",
        InstanceNumber="3",
        BodyPartExamined="CHEST",
        AccessionNumber="A1",
    )
    header = read_header(save(ds, tmp_path / "x.dcm"))
    assert (header.study_uid, header.series_uid, header.sop_uid) == ("1.2.3", "1.2.3.1", "1.2.3.4")
    assert header.patient_name == "Müller^Jürgen=山田^太郎"
    assert header.patient_key == "H\\P-1"
    assert header.patient_sex == "M"
    assert header.patient_age_years == 1.5
    assert header.study_date == date(2020, 2, 29)
    assert (header.series_number, header.instance_number, header.rows_px, header.frames) == (7, 3, 8, 1)
    assert header.attributes["00100010"]["Value"] == [{"Alphabetic": "Müller^Jürgen", "Ideographic": "山田^太郎"}]
    assert list(header.attributes) == sorted(header.attributes)
    assert header.attributes["7FE00010"] == {"vr": "OW", "BulkDataURI": "7FE00010"}
    json.dumps(header.attributes, allow_nan=False)


def test_age_comes_from_the_birth_date_when_it_is_not_written(tmp_path: Path) -> None:
    ds = image(PIXELS, PatientBirthDate="19500101", StudyDate="20000101")
    assert read_header(save(ds, tmp_path / "x")).patient_age_years == pytest.approx(50, abs=0.01)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_every_encoding_says_the_same(tmp_path: Path, syntax: UID) -> None:
    item = Dataset()
    item.CodeValue, item.RealWorldValueSlope = "X", 0.25
    ds = image(PIXELS, ProcedureCodeSequence=[item], FrameIncrementPointer=0x00181063, PixelSpacing=[0.5, 2])
    ds.PixelRepresentation = 1
    ds.add_new("SmallestImagePixelValue", "SS", -5)
    ds.add_new("RedPaletteColorLookupTableData", "OW", b"\1\2" if syntax.is_little_endian else b"\2\1")
    ds["PixelData"].value = b""
    header = read_header(save(ds, tmp_path / "x.dcm", syntax))
    assert header.transfer_syntax_uid == syntax
    assert header.rows_px == 8
    assert header.attributes["00081032"]["Value"][0]["00409225"] == {"vr": "FD", "Value": [0.25]}
    assert header.attributes["00280009"] == {"vr": "AT", "Value": ["00181063"]}
    assert header.attributes["00280030"] == {"vr": "DS", "Value": [0.5, 2.0]}
    assert header.attributes["00280106"] == {"vr": "SS", "Value": [-5]}
    assert header.attributes["00281201"] == {"vr": "OW", "InlineBinary": "AQI="}


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("19930822", date(1993, 8, 22)),
        ("1993.08.22", date(1993, 8, 22)),
        ("1993-08-22", date(1993, 8, 22)),
        ("19930822101500.0", date(1993, 8, 22)),
        ("19931340", None),
        ("00000101", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_dates_are_read_leniently(written: str, expected: date | None) -> None:
    assert parse_date(written) == expected


@pytest.mark.parametrize(
    ("charset", "raw", "expected"),
    [
        (b"ISO_IR 100", b"J\xfcrgen", "Jürgen"),
        (b"ISO_IR 144", b"\xbb\xee\xdace\xdc\xd1\xe3\xe0\xd3", "Люкceмбург"),
        (b"\\ISO 2022 IR 87", b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B", "Yamada^Tarou=山田^太郎"),
        (b"GB18030", b"Wang=\xcd\xf5", "Wang=王"),
        (b"ISO-IR-100", b"J\xfcrgen", "Jürgen"),
        (b"NO SUCH SET", b"J\xc3\xbcrgen", "Jürgen"),
    ],
)
def test_odd_character_sets_are_decoded(tmp_path: Path, charset: bytes, raw: bytes, expected: str) -> None:
    body = element(8, 5, "CS", charset) + identified(element(0x10, 0x10, "PN", raw))
    assert read_header(write(tmp_path / "x", part10(body))).patient_name == expected


def test_control_and_direction_characters_do_not_reach_anyone(tmp_path: Path) -> None:
    name = "A\x07B\u202eC\x1b[31m".encode()
    body = element(8, 5, "CS", b"ISO_IR 192") + identified(element(0x10, 0x20, "LO", name))
    header = read_header(write(tmp_path / "x", part10(body)))
    assert header.patient_id is not None
    assert header.patient_id.isprintable()
    assert "\\u0000" not in json.dumps(header.attributes)


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        (b"", 0xC000, "empty"),
        (b"hello", 0xC000, "not a DICOM"),
        (b"\0" * 128 + b"DICM", 0xC000, "no transfer syntax"),
        (part10(b""), 0xC000, "no data set"),
        (part10(identified()[:-3]), 0xC000, "truncated"),
        (part10(element(8, 0x16, "UI", b"1.2")), 0xC000, "StudyInstanceUID is missing"),
        (part10(identified().replace(b"1.2.3\0", b"1.2.a\0")), 0xC000, "not a valid UID"),
        (part10(identified(extra_after=element(0x7FE0, 0x10, "OW", b"12", length=1 << 30))), 0xC000, "truncated"),
        (part10(b"\x00\x01\x02", DEFLATED), 0xC000, "deflated"),
    ],
)
def test_what_is_no_instance_is_refused(tmp_path: Path, content: bytes, status: int, words: str) -> None:
    with pytest.raises(DicomRefused, match=words) as caught:
        read_header(write(tmp_path / "x", content))
    assert caught.value.dimse_status == status


def test_a_path_in_a_uid_is_refused(tmp_path: Path) -> None:
    body = identified().replace(element(8, 0x18, "UI", b"1.2.3.4"), element(8, 0x18, "UI", b"../../etc/x"))
    with pytest.raises(DicomRefused, match="SOPInstanceUID is not a valid UID"):
        read_header(write(tmp_path / "x", part10(body)))


def test_a_deflated_file_is_read(tmp_path: Path) -> None:
    deflate = zlib.compressobj(wbits=-15)
    packed = deflate.compress(identified()) + deflate.flush()
    assert read_header(write(tmp_path / "x", part10(packed, DEFLATED))).sop_uid == "1.2.3.4"


def test_a_deflate_bomb_is_refused_in_bounded_memory(tmp_path: Path) -> None:
    deflate = zlib.compressobj(9, wbits=-15)
    body = deflate.compress(identified() + element(0x7FE0, 0x10, "OB", b"", length=300_000_000))
    body += b"".join(deflate.compress(bytes(10_000_000)) for _ in range(30)) + deflate.flush()
    assert len(body) < 300_000
    path = write(tmp_path / "x", part10(body, DEFLATED))
    tracemalloc.start()
    try:
        with pytest.raises(DicomRefused, match="grows beyond"):
            read_header(path)
        assert tracemalloc.get_traced_memory()[1] < 200_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("length", [UNDEFINED, None])
def test_deep_sequences_are_refused(tmp_path: Path, length: int | None) -> None:
    nested = b""
    for _ in range(3000 if length else 1000):
        if length:
            nested += element(8, 0x1140, "SQ", b"", length=UNDEFINED) + ITEM
        else:
            nested = element(8, 0x1140, "SQ", struct.pack("<HHL", 0xFFFE, 0xE000, len(nested)) + nested)
    with pytest.raises(DicomRefused, match="nested deeper"):
        read_header(write(tmp_path / "x", part10(identified(nested))))


def test_millions_of_elements_or_items_are_refused(tmp_path: Path) -> None:
    crowd = element(0x10, 0x20, "LO", b"x") * 200_000
    empty_items = element(8, 0x1140, "SQ", struct.pack("<HHL", 0xFFFE, 0xE000, 0) * 200_000)
    for extra in (crowd, empty_items):
        with pytest.raises(DicomRefused, match="limit") as caught:
            read_header(write(tmp_path / "x", part10(identified(extra))))
        assert caught.value.dimse_status == 0xA700


def test_functional_groups_beyond_the_limit_are_left_out_not_refused(tmp_path: Path) -> None:
    frame = struct.pack("<HHL", 0xFFFE, 0xE000, 0)
    groups = element(0x5200, 0x9230, "SQ", frame * 200_000)
    header = read_header(write(tmp_path / "x", part10(identified(extra_after=groups))))
    assert "52009230" not in header.attributes


def test_bulk_is_named_and_left_out(tmp_path: Path) -> None:
    bulk = element(0x42, 0x11, "OB", bytes(2000)) + element(0x43, 0x1001, "UN", b"ab")
    header = read_header(write(tmp_path / "x", part10(identified(extra_after=bulk))))
    assert header.attributes["00420011"] == {"vr": "OB", "BulkDataURI": "00420011"}
    assert header.attributes["00431001"] == {"vr": "UN", "InlineBinary": "YWI="}


def test_an_undefined_length_un_is_a_sequence(tmp_path: Path) -> None:
    inner = struct.pack("<HHL", 0x0008, 0x0100, 2) + b"AB"
    un = element(9, 0x1001, "UN", b"", length=UNDEFINED) + struct.pack("<HHL", 0xFFFE, 0xE000, len(inner)) + inner
    un += struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    header = read_header(write(tmp_path / "x", part10(identified(un))))
    assert header.attributes["00091001"]["Value"] == [{"00080100": {"vr": "SH", "Value": ["AB"]}}]


VALID = part10(identified(element(0x10, 0x10, "PN", b"A^B") + element(8, 0x1140, "SQ", ITEM[:4] + bytes(4))))


@given(st.lists(st.tuples(st.integers(132, len(VALID) - 1), st.integers(0, 255)), min_size=1, max_size=8), st.data())
def test_damaged_files_are_read_or_refused(flips: list[tuple[int, int]], data: st.DataObject) -> None:
    damaged = bytearray(VALID)
    for position, byte in flips:
        damaged[position] = byte
    cut = data.draw(st.integers(0, len(damaged)))
    for content in (bytes(damaged), bytes(damaged[:cut])):
        try:
            parsed = parse_part10(content, ReadLimits())
        except DicomRefused:
            continue
        attributes = to_json(parsed.elements, big_endian=parsed.big_endian)
        assert json.loads(json.dumps(attributes, allow_nan=False)) == attributes
