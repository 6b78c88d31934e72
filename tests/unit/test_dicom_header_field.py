"""What real senders write: read where only one reading is possible, refused or left as text where it is not."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radir_pacs.dicom.header import read_header
from radir_pacs.dicom.json_model import number, numbers
from radir_pacs.dicom.number_text import number_in
from radir_pacs.errors import DicomRefused
from radir_pacs.types import HeaderNote, InstanceHeader
from tests.dicom_material import CT, DEFLATED, EXPLICIT, UNDEFINED, element, identified, part10

IMPLICIT = b"1.2.840.10008.1.2"
BIG_ENDIAN = b"1.2.840.10008.1.2.2"


def implicit(group: int, number: int, value: bytes, *, length: int | None = None) -> bytes:
    value += b" " * (len(value) % 2)
    return struct.pack("<HHL", group, number, len(value) if length is None else length) + value


def item(content: bytes) -> bytes:
    return struct.pack("<HHL", 0xFFFE, 0xE000, len(content)) + content


def read(path: Path, content: bytes, **options: Any) -> InstanceHeader:
    path.write_bytes(content)
    return read_header(path, **options)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file.dcm"


# Numbers


@pytest.mark.parametrize(
    ("vr", "written", "meant"),
    [
        ("DS", "2048,0", 2048.0),
        ("DS", "0,125", 0.125),
        ("DS", "-,5", -0.5),
        ("DS", "1,2345678", 1.2345678),
        ("DS", "1,25E-2", 0.0125),
        ("DS", " 1.50\0\0", 1.5),
        ("DS", "+.5", 0.5),
        ("DS", "1,250", "1,250"),  # or one thousand two hundred and fifty
        ("DS", "120 kV", "120 kV"),
        ("DS", "AUTO", "AUTO"),
        ("DS", "1.2.3", "1.2.3"),
        ("DS", "0.5,0.5", "0.5,0.5"),
        ("DS", "1_000", "1_000"),
        ("DS", "nan", "nan"),
        ("DS", "1e308", "1e308"),
        ("DS", "-1e400", "-1e400"),
        ("DS", "٣", "٣"),
        ("IS", "7.0", 7),
        ("IS", "007 ", 7),
        ("IS", "7.5", "7.5"),
        ("IS", "1e3", 1000),
        ("IS", "", None),
        ("US", "512", 512),
        ("FD", "0,5", 0.5),
    ],
)
def test_numbers_are_read_where_only_one_reading_is_possible(vr: str, written: str, meant: object) -> None:
    found = number_in(vr, written)
    assert found == meant and type(found) is type(meant)


@given(st.text(max_size=80), st.sampled_from(["DS", "IS", "US"]))
def test_any_text_is_a_number_or_stays_text(text: str, vr: str) -> None:
    found = number_in(vr, text)
    assert found is None or isinstance(found, str) or abs(found) < 1e30


@pytest.mark.parametrize("vr", ["DS", "UT", "LO", "SH", "CS", "UN", "OB", "FD", "FL"])
def test_a_wrong_vr_is_no_wrong_number(path: Path, vr: str) -> None:
    written = {"FD": struct.pack("<2d", 0.5, 0.25), "FL": struct.pack("<2f", 0.5, 0.25)}.get(vr, b"0,5\\0.25")
    header = read(path, part10(identified(extra_after=element(0x28, 0x30, vr, written))))
    assert header.attributes["00280030"] == {"vr": "DS", "Value": [0.5, 0.25]}
    assert numbers(header.attributes, "PixelSpacing", 2) == [0.5, 0.25]


@pytest.mark.parametrize(
    ("vr", "written"),
    [
        ("IS", b"512"),
        ("DS", b"512.0"),
        ("LO", b"512\0"),
        ("UL", struct.pack("<L", 512)),
        ("UN", struct.pack("<H", 512)),
    ],
)
def test_rows_are_read_from_any_vr(path: Path, vr: str, written: bytes) -> None:
    assert read(path, part10(identified(extra_after=element(0x28, 0x10, vr, written)))).rows_px == 512


@pytest.mark.parametrize("written", [b"-5", b"0", b"70000", b"many"])
def test_impossible_rows_are_none(path: Path, written: bytes) -> None:
    assert read(path, part10(identified(extra_after=element(0x28, 0x10, "IS", written)))).rows_px is None


@pytest.mark.parametrize("stored", ["2048,0", 2048.0, 2048])
def test_what_was_stored_before_is_read_the_same_way(stored: object) -> None:
    assert number({"00281050": {"vr": "DS", "Value": [stored]}}, "WindowCenter") == 2048


@pytest.mark.parametrize("stored", ["120 kV", 1e308, float("inf"), True, None, {}, [], "1e308"])
def test_what_is_no_number_is_none(stored: object) -> None:
    assert number({"00281053": {"vr": "DS", "Value": [stored]}}, "RescaleSlope") is None


# VR UN and its relatives (PS3.5 6.2.2)


def test_known_attributes_under_un_have_their_own_vr(path: Path) -> None:
    body = element(8, 0x05, "UN", b"ISO_IR 192") + element(8, 0x16, "UN", CT.encode())
    body += element(8, 0x18, "UN", b"1.2.3.4") + element(8, 0x20, "UN", b"20200102") + element(8, 0x60, "UN", b"CT")
    body += element(0x10, 0x10, "UN", "Müller^Jo".encode()) + element(0x10, 0x20, "UN", b"P1")
    body += element(0x20, 0x0D, "UN", b"1.2.3") + element(0x20, 0x0E, "UN", b"1.2.3.1")
    body += element(0x28, 0x106, "UN", struct.pack("<h", -5)) + element(0x28, 0x103, "UN", b"\1\0")
    header = read(path, part10(body))
    assert (header.patient_name, header.patient_id, header.modality) == ("Müller^Jo", "P1", "CT")
    assert (header.study_uid, str(header.study_date)) == ("1.2.3", "2020-01-02")
    assert header.attributes["00280106"] == {"vr": "SS", "Value": [-5]}


CODE = implicit(8, 0x100, b"AB")
EXPLICIT_CODE = element(8, 0x100, "SH", b"AB")


@pytest.mark.parametrize(
    "value",
    [
        item(CODE),
        item(EXPLICIT_CODE),  # against 6.2.2 note 2, and met
        struct.pack("<HHL", 0xFFFE, 0xE000, UNDEFINED) + CODE + struct.pack("<HHL", 0xFFFE, 0xE00D, 0),
    ],
)
def test_a_known_sequence_under_un_is_a_sequence(path: Path, value: bytes) -> None:
    for length in (None, UNDEFINED):
        end = struct.pack("<HHL", 0xFFFE, 0xE0DD, 0) if length else b""
        sequence = element(8, 0x1032, "UN", value, length=length) + end
        header = read(path, part10(identified(sequence + element(0x10, 0x20, "LO", b"P"))))
        assert header.attributes["00081032"] == {"vr": "SQ", "Value": [{"00080100": {"vr": "SH", "Value": ["AB"]}}]}
        assert header.patient_id == "P"


def test_a_sequence_under_un_that_is_none_stays_as_it_came(path: Path) -> None:
    header = read(path, part10(identified(element(8, 0x1032, "UN", b"no items") + element(0x10, 0x20, "LO", b"P"))))
    assert header.attributes["00081032"] == {"vr": "UN", "InlineBinary": "bm8gaXRlbXM="}
    assert header.patient_id == "P"


def test_private_attributes_under_un_stay_unknown(path: Path) -> None:
    private = element(0x09, 0x10, "UN", b"ACME") + element(0x09, 0x1001, "UN", b"12")
    header = read(path, part10(identified(private)))
    assert header.attributes["00090010"] == {"vr": "LO", "Value": ["ACME"]}  # a creator is LO (PS3.5 7.8.1)
    assert header.attributes["00091001"] == {"vr": "UN", "InlineBinary": "MTI="}


def test_numbers_under_un_in_a_big_endian_file_are_not_guessed(path: Path) -> None:
    def big(group: int, number: int, vr: str, value: bytes) -> bytes:
        value += b"\0" * (len(value) % 2)
        head = struct.pack(">HH2s", group, number, vr.encode())
        return head + (struct.pack(">xxL", len(value)) if vr == "UN" else struct.pack(">H", len(value))) + value

    body = big(8, 0x16, "UI", CT.encode()) + big(8, 0x18, "UN", b"1.2.3.4") + big(0x20, 0x0D, "UI", b"1.2.3")
    body += big(0x20, 0x0E, "UI", b"1.2.3.1") + big(0x28, 0x10, "UN", b"\0\1")
    header = read(path, part10(body, BIG_ENDIAN))
    assert (header.sop_uid, header.rows_px) == ("1.2.3.4", None)


@pytest.mark.parametrize("vr", ["LO", "UT", "ST", "OB"])
def test_a_name_under_another_text_vr_is_a_name(path: Path, vr: str) -> None:
    header = read(path, part10(identified(element(0x10, 0x10, vr, b"Doe^Jo"))))
    assert header.patient_name == "Doe^Jo"


# UIDs


@pytest.mark.parametrize(
    "uid", [b"1.2.3\n4", b"1.2.3\r\n", b"1.2.3\x004", b"1.2.3\t", b"1.2.3 4", b"\n1.2.3", b"1.2.\xb24"]
)
@pytest.mark.parametrize("tag", [0x0020000D, 0x0020000E, 0x00080018, 0x00080016])
def test_a_uid_with_something_inside_is_refused_and_not_repaired(path: Path, uid: bytes, tag: int) -> None:
    body = identified()
    for group, element_number, value in (
        (8, 0x16, CT.encode()),
        (8, 0x18, b"1.2.3.4"),
        (32, 13, b"1.2.3"),
        (32, 14, b"1.2.3.1"),
    ):
        if group << 16 | element_number == tag:
            body = body.replace(element(group, element_number, "UI", value), element(group, element_number, "UI", uid))
    with pytest.raises(DicomRefused, match="not a valid UID"):
        read(path, part10(body))


@pytest.mark.parametrize("uid", [b"1.2.003", b"1.02.3", b"01.2.3", b"1.2.3\0\0\0", b"1.2.3  ", b" 1.2.3"])
def test_leading_zeros_and_padding_are_no_reason_to_refuse(path: Path, uid: bytes) -> None:
    body = identified().replace(element(0x20, 0x0D, "UI", b"1.2.3"), element(0x20, 0x0D, "UI", uid))
    assert read(path, part10(body)).study_uid == uid.strip(b" \0").decode()


# Files


def test_of_two_uids_the_data_set_counts_and_it_is_noted(path: Path) -> None:
    meta = element(2, 3, "UI", b"1.9.9") + element(2, 0x10, "UI", EXPLICIT)
    header = read(path, b"\0" * 128 + b"DICM" + meta + identified())
    assert (header.sop_uid, header.notes) == ("1.2.3.4", (HeaderNote.META_DIFFERS,))


@pytest.mark.parametrize(
    ("content", "syntax"),
    [
        (b"DICM" + element(2, 0x10, "UI", EXPLICIT) + identified(), EXPLICIT),
        (element(2, 0x10, "UI", EXPLICIT) + identified(), EXPLICIT),
        (identified(), EXPLICIT),
        (b"\0" * 128 + b"DICM" + element(2, 1, "OB", b"\0\1") + identified(), EXPLICIT),
        (implicit(8, 0x16, CT.encode()) + implicit(8, 0x18, b"1.2.3.4") + implicit(32, 13, b"1.2.3")
         + implicit(32, 14, b"1.2.3.1"), IMPLICIT),
    ],
)  # fmt: skip
def test_files_without_preamble_or_meta_information_are_read(path: Path, content: bytes, syntax: bytes) -> None:
    header = read(path, content)
    assert (header.sop_uid, header.transfer_syntax_uid) == ("1.2.3.4", syntax.decode())
    assert set(header.notes) & {HeaderNote.NO_PREAMBLE, HeaderNote.NO_TRANSFER_SYNTAX}


def test_letters_of_the_prefix_within_a_data_set_are_no_prefix(path: Path) -> None:
    before = element(8, 0x05, "CS", b"ISO_IR 100")
    filler = b"x" * (128 - len(before) - 8)
    body = before + element(8, 0x08, "CS", filler + b"DICM") + identified()
    assert body[128:132] == b"DICM"
    assert read(path, body).sop_uid == "1.2.3.4"


def test_a_prefix_without_meta_information_is_one(path: Path) -> None:
    assert read(path, b"\0" * 128 + b"DICM" + identified()).notes == (HeaderNote.NO_TRANSFER_SYNTAX,)


def test_compressed_pixels_without_a_transfer_syntax_are_refused(path: Path) -> None:
    fragments = item(b"") + item(b"\xff\xd8") + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    with pytest.raises(DicomRefused, match="no transfer syntax"):
        read(path, identified(extra_after=element(0x7FE0, 0x10, "OB", b"", length=UNDEFINED) + fragments))


@pytest.mark.parametrize(
    "content", [b"hello, this is text", b"\x89PNG\r\n\x1a\n" + bytes(200), b"%PDF-1.7" + bytes(300), b"\0" * 400]
)
def test_other_files_are_refused(path: Path, content: bytes) -> None:
    with pytest.raises(DicomRefused, match="not a DICOM"):
        read(path, content)


@pytest.mark.parametrize(("n_bytes", "truncated"), [(128, False), (130, False), (126, True), (0, True)])
def test_too_few_pixels_are_noted(path: Path, n_bytes: int, truncated: bool) -> None:
    geometry = b"".join(
        element(0x28, number, "US", struct.pack("<H", value))
        for number, value in ((2, 1), (0x10, 8), (0x11, 8), (0x100, 16))
    )
    pixels = element(0x7FE0, 0x10, "OW", bytes(n_bytes))
    header = read(path, part10(identified(extra_after=geometry + pixels)))
    assert (HeaderNote.PIXELS_TRUNCATED in header.notes) is truncated


# Texts


@pytest.mark.parametrize(
    ("declared", "raw", "fallback", "meant"),
    [
        (b"", "Müller".encode(), "ISO_IR 100", "Müller"),
        (b"", "Müller".encode("latin-1"), "ISO_IR 100", "Müller"),
        (b"", "Иванов".encode("iso8859-5"), "ISO_IR 144", "Иванов"),
        (b"", "張小東".encode("gb18030"), "GB18030", "張小東"),
        (b"", "山田".encode("shift_jis"), "ISO_IR 13", "山田"),
        (b"ISO_IR 100", "Müller".encode(), "ISO_IR 100", "Müller"),
        (b"ISO_IR 100", "Иванов".encode(), "ISO_IR 100", "Иванов"),
        (b"ISO_IR 144", "Иванов".encode(), "ISO_IR 100", "Иванов"),
        (b"ISO_IR 192", "Müller".encode("latin-1"), "ISO_IR 100", "Müller"),
        (b"ISO_IR 192", "Иванов".encode("iso8859-5"), "ISO_IR 144", "Иванов"),
        (b"ISO_IR 166", "รถ".encode("tis-620"), "ISO_IR 100", "รถ"),
        (b"ISO_IR 126", "ΣΊΜΟΣ".encode("iso8859-7"), "ISO_IR 100", "ΣΊΜΟΣ"),
        (b"ISO_IR 100\\UNHEARD OF", "Müller".encode("latin-1"), "ISO_IR 144", "Müller"),
        (b"NO SUCH SET", "Иванов".encode("iso8859-5"), "ISO_IR 144", "Иванов"),
        (b"WINDOWS-1251", "Иванов".encode("cp1251"), "ISO_IR 100", "Иванов"),
        (b"UTF-8", "Müller".encode(), "ISO_IR 100", "Müller"),
        (b"GBK", "王小".encode("gbk"), "ISO_IR 100", "王小"),
        (b"GB18030", "𠀋王".encode("gb18030"), "ISO_IR 100", "𠀋王"),
        (b"\\ISO 2022 IR 58", b"Zhang=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab", "ISO_IR 100", "Zhang=张^小东"),
        (b"\\ISO 2022 IR 58", "张^小东".encode("gb2312"), "ISO_IR 100", "张^小东"),
        (b"\\ISO 2022 IR 149", b"Hong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7", "ISO_IR 100", "Hong=洪^吉洞"),
        (b"\\ISO 2022 IR 149", "洪^吉洞".encode("euc_kr"), "ISO_IR 100", "洪^吉洞"),
        (b"ISO_IR 192", "Mu\u0308ller".encode(), "ISO_IR 100", "M\u00fcller"),
    ],
)
def test_names_are_read_in_the_set_that_they_are_in(
    path: Path, declared: bytes, raw: bytes, fallback: str, meant: str
) -> None:
    body = (element(8, 5, "CS", declared) if declared else b"") + identified(element(0x10, 0x10, "PN", raw))
    assert read(path, part10(body), fallback_character_set=fallback).patient_name == meant


def test_the_fallback_holds_in_sequences_too(path: Path) -> None:
    sequence = element(8, 0x1032, "SQ", item(element(8, 0x104, "LO", "Грудь".encode("iso8859-5"))))
    header = read(path, part10(identified(sequence)), fallback_character_set="ISO_IR 144")
    assert header.attributes["00081032"]["Value"][0]["00080104"]["Value"] == ["Грудь"]


@pytest.mark.parametrize(
    ("raw", "ids", "keys"),
    [
        (b"P1\\P2", "P1\\P2", ("H\\P1", "H\\P2")),
        (b"P1\\", "P1", ("H\\P1",)),
        (b"\\P2", "P2", ("H\\P2",)),
        (b"P1\0\0", "P1", ("H\\P1",)),
        (b" P1 ", "P1", ("H\\P1",)),
        (b"P\n1", "P 1", ("H\\P 1",)),
        (b"\\", None, ()),
    ],
)
def test_each_value_of_patient_id_is_a_name_of_the_patient(
    path: Path, raw: bytes, ids: str | None, keys: tuple[str, ...]
) -> None:
    header = read(path, part10(identified(element(0x10, 0x20, "LO", raw) + element(0x10, 0x21, "LO", b"H"))))
    assert (header.patient_id, header.patient_keys, header.patient_key) == (ids, keys, keys[0] if keys else "")


@pytest.mark.parametrize(
    ("tag", "vr", "written", "meant"),
    [
        (0x00080030, "TM", b"10:11:12.5", "101112.5"),
        (0x00080030, "TM", b"10:11", "1011"),
        (0x00080030, "TM", b"10h11", "10h11"),
        (0x00080020, "DA", b"1993.08.22", "19930822"),
        (0x00080020, "DA", b"1993-08-22", "19930822"),
        (0x00080020, "DA", b"22.08.1993", "22.08.1993"),
    ],
)
def test_dates_and_times_of_old_are_those_of_today(path: Path, tag: int, vr: str, written: bytes, meant: str) -> None:
    header = read(path, part10(identified(element(tag >> 16, tag & 0xFFFF, vr, written))))
    assert header.attributes[f"{tag:08X}"]["Value"] == [meant]


def test_deflated_files_have_their_notes_too(path: Path) -> None:
    import zlib

    deflate = zlib.compressobj(wbits=-15)
    meta = element(2, 3, "UI", b"1.9.9") + element(2, 0x10, "UI", DEFLATED)
    packed = deflate.compress(identified()) + deflate.flush()
    assert read(path, b"\0" * 128 + b"DICM" + meta + packed).notes == (HeaderNote.META_DIFFERS,)
