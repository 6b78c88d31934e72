from __future__ import annotations

import contextlib
import io
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    UID,
    AllTransferSyntaxes,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
)

from radir_pacs.dicom.codestream import Codestream, read_codestream
from radir_pacs.dicom.limits import DecodeLimits
from radir_pacs.dicom.pixels import PixelDecoder
from radir_pacs.dicom.transfer_syntaxes import DECODABLE, DEFLATED_FRAMES
from radir_pacs.errors import DicomRefused
from tests.dicom_material import UNDEFINED, element, identified, image, part10, save

PIXELS = np.arange(3 * 64, dtype=np.uint16).reshape(3, 8, 8)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    return save(image(PIXELS), tmp_path / "picture.dcm")


def test_frames_come_back_as_stored(picture: Path, decoder: PixelDecoder) -> None:
    frames = decoder.decode(picture)
    assert frames.photometric == "MONOCHROME2"
    assert frames.pixels.dtype == np.uint16
    np.testing.assert_array_equal(frames.pixels, PIXELS)


def test_one_child_serves_many_files(picture: Path, decoder: PixelDecoder) -> None:
    pids = set()
    for _ in range(3):
        decoder.decode(picture)
        pids.add(child_of(decoder).pid)
    assert len(pids) == 1


def test_a_hanging_child_is_killed_and_replaced(
    picture: Path, decoder: PixelDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder.decode(picture)
    hung = child_of(decoder)
    os.kill(hung.pid, signal.SIGSTOP)
    with monkeypatch.context() as patch:
        patch.setattr(decoder, "limits", DecodeLimits(wall_s=0.2))
        with pytest.raises(DicomRefused, match=r"longer than 0\.2 s"):
            decoder.decode(picture)
    assert hung.returncode == -signal.SIGKILL
    np.testing.assert_array_equal(decoder.decode(picture).pixels, PIXELS)


def child_of(decoder: PixelDecoder) -> subprocess.Popen[bytes]:
    assert decoder._child is not None
    return decoder._child


class Struck(PixelDecoder):
    """A decoder whose child is killed in the middle of the next ``strikes`` decodes."""

    strikes = 0

    def _line(self, deadline: float) -> Any:
        if self.strikes:
            self.strikes -= 1
            child_of(self).kill()
            child_of(self).wait()
            raise EOFError
        return super()._line(deadline)


@pytest.fixture(scope="module")
def struck() -> Iterator[Struck]:
    with Struck() as decoder:
        yield decoder


def test_a_child_killed_in_the_middle_is_replaced_and_the_file_tried_again(picture: Path, struck: Struck) -> None:
    struck.decode(picture)
    struck.strikes = 1
    np.testing.assert_array_equal(struck.decode(picture).pixels, PIXELS)


def test_a_file_that_kills_a_fresh_child_too_is_refused_and_the_next_file_is_decoded(
    picture: Path, struck: Struck
) -> None:
    struck.decode(picture)
    struck.strikes = 2
    with pytest.raises(DicomRefused, match=r"died \(SIGKILL\)"):
        struck.decode(picture)
    assert struck.strikes == 0
    np.testing.assert_array_equal(struck.decode(picture).pixels, PIXELS)


def test_a_child_that_failed_to_decode_a_file_serves_no_other(
    tmp_path: Path, picture: Path, decoder: PixelDecoder
) -> None:
    broken = save(image(PIXELS, PixelData=b"too short!"), tmp_path / "broken.dcm")
    decoder.decode(picture)
    with pytest.raises(DicomRefused):
        decoder.decode(broken)
    assert decoder._child is None
    np.testing.assert_array_equal(decoder.decode(picture).pixels, PIXELS)


def test_a_child_that_holds_much_memory_serves_no_other_file(
    picture: Path, decoder: PixelDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder.decode(picture)
    assert 1 << 20 < decoder._address_space_bytes() < decoder.limits.memory_bytes / 2
    monkeypatch.setattr(decoder, "_address_space_bytes", lambda: decoder.limits.memory_bytes * 3 // 4)
    np.testing.assert_array_equal(decoder.decode(picture).pixels, PIXELS)
    assert decoder._child is None


def test_a_picture_larger_than_allowed_is_refused(tmp_path: Path, picture: Path, decoder: PixelDecoder) -> None:
    with PixelDecoder(DecodeLimits(pixel_bytes=300)) as sparing, pytest.raises(DicomRefused, match="more memory"):
        sparing.decode(picture)
    huge = save(image(PIXELS, NumberOfFrames=2_000_000_000), tmp_path / "huge.dcm")
    with pytest.raises(DicomRefused, match="more memory"):
        decoder.decode(huge)


def test_the_child_lives_within_its_address_space(tmp_path: Path, decoder: PixelDecoder) -> None:
    picture = save(image(np.zeros((3, 4096, 4096), np.uint16)), tmp_path / "large.dcm")
    with PixelDecoder(DecodeLimits(memory_bytes=300 << 20)) as confined, pytest.raises(DicomRefused):
        confined.decode(picture)
    assert decoder.decode(picture).pixels.shape == (3, 4096, 4096)


def test_hostile_structure_is_a_reason_and_the_child_lives_on(
    tmp_path: Path, picture: Path, decoder: PixelDecoder
) -> None:
    item = struct.pack("<HHL", 0xFFFE, 0xE000, UNDEFINED)
    deep = tmp_path / "deep.dcm"
    deep.write_bytes(part10(identified((element(8, 0x1140, "SQ", b"", length=UNDEFINED) + item) * 3000)))
    for path in (deep, tmp_path / "absent.dcm"):
        with pytest.raises(DicomRefused):
            decoder.decode(path)
    np.testing.assert_array_equal(decoder.decode(picture).pixels, PIXELS)


def test_the_child_gets_no_secret(picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RADIR_DATABASE_URL", "postgresql://secret")
    with PixelDecoder() as decoder:
        decoder.decode(picture)
        environment = Path(f"/proc/{child_of(decoder).pid}/environ")
        if not environment.exists():
            pytest.skip("no /proc here")
        assert b"secret" not in environment.read_bytes()


def test_nothing_loads_pydicom_before_the_child_says_what_it_shall_not_load() -> None:
    """Each start of a child would take a fifth longer."""
    script = "import sys, radir_pacs.dicom.decode_child; print('pydicom' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "False\n"


CODES = {"J2K": JPEG2000Lossless, "JLS": JPEGLSLossless, "JPEG": JPEGBaseline8Bit}


def frame_of(code: str, rows: int = 64, columns: int = 48) -> bytes:
    """A noisy picture of 8 bits, compressed."""
    noise = np.random.default_rng(1).integers(0, 255, (rows, columns), np.uint8)
    if code in ("JLS", "J2K"):
        ds = image(noise)
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.compress(CODES[code], generate_instance_uid=False)
        return next(iter(generate_frames(ds.PixelData, number_of_frames=1)))
    out = io.BytesIO()
    Image.fromarray(noise).save(out, "JPEG2000" if code == "JP2" else "JPEG", progressive=code == "PROGRESSIVE")
    return out.getvalue()


@pytest.mark.parametrize("code", ["JPEG", "PROGRESSIVE", "JLS", "J2K", "JP2"])
def test_a_compressed_frame_says_its_size(code: str) -> None:
    expected = Codestream(rows=64, columns=48, samples=1, bits=8)
    assert read_codestream(frame_of(code)) == expected
    for cut in range(60):
        assert read_codestream(frame_of(code)[:cut]) in (None, expected)


def test_a_picture_inside_the_header_of_a_frame_is_not_taken_for_it() -> None:
    thumbnail = frame_of("JPEG", 8, 8)
    frame = frame_of("JPEG")
    inside = frame[:2] + b"\xff\xe5" + struct.pack(">H", len(thumbnail) + 2) + thumbnail + b"\xff\xff" + frame[2:]
    assert read_codestream(inside) == read_codestream(frame)
    assert read_codestream(b"no picture at all") is None


@pytest.mark.parametrize("code", ["JPEG", "JLS", "J2K"])
def test_a_frame_larger_than_its_object_is_refused_before_it_is_decoded(
    code: str, tmp_path: Path, decoder: PixelDecoder
) -> None:
    frame = frame_of(code, 64, 64)
    sound = save(compressed(frame, CODES[code]), tmp_path / "sound.dcm", CODES[code])
    if code == "J2K":
        at = frame.index(b"\xff\x4f\xff\x51") + 8
        frame = frame[:at] + struct.pack(">2L", 65500, 65500) + frame[at + 8 :]
    else:
        at = frame.index(b"\xff\xc0" if code == "JPEG" else b"\xff\xf7") + 5
        frame = frame[:at] + struct.pack(">2H", 65500, 65500) + frame[at + 4 :]
    bomb = save(compressed(frame, CODES[code]), tmp_path / "bomb.dcm", CODES[code])
    decoder.decode(sound)
    before, child = decoder._address_space_bytes(), child_of(decoder)
    with pytest.raises(DicomRefused, match="65500 x 65500 of 1 samples, the header says 64 x 64"):
        decoder.decode(bomb)
    assert child_of(decoder) is child, "no codec has seen it: the child is sound"
    assert decoder.decode(sound).pixels.shape == (1, 64, 64)
    assert decoder._address_space_bytes() < before + (64 << 20)


def compressed(frame: bytes, syntax: UID) -> Dataset:
    ds = image(np.zeros((64, 64), np.uint8), PixelData=encapsulate([frame]))
    ds["PixelData"].is_undefined_length = True
    return ds


@pytest.mark.parametrize("kind", ["u", "i"])
@pytest.mark.parametrize(("high", "shift"), [(15, 4), (13, 2), (11, 0)])
def test_high_bit_says_where_in_its_cell_a_value_stands(
    tmp_path: Path, decoder: PixelDecoder, kind: str, high: int, shift: int
) -> None:
    values = np.arange(0, 4096, 61).astype(f"{kind}2").reshape(17, 4) - (2048 if kind == "i" else 0)
    cells = (values << shift) | 0  # what stands below and above the value is not the value's
    if shift:
        cells |= 1
    if high < 15 and kind == "u":
        cells |= 1 << 15
    path = save(image(cells.astype(f"{kind}2"), BitsStored=12, HighBit=high), tmp_path / "x.dcm")
    np.testing.assert_array_equal(decoder.decode(path).pixels[0], values)


@pytest.mark.parametrize("kind", ["u", "i"])
def test_a_wrong_high_bit_over_values_at_the_bottom_is_not_believed(
    tmp_path: Path, decoder: PixelDecoder, kind: str
) -> None:
    values = np.arange(0, 4096, 61).astype(f"{kind}2").reshape(17, 4) - (2048 if kind == "i" else 0)
    for high in (15, 7):
        path = save(image(values, BitsStored=12, HighBit=high), tmp_path / "x.dcm")
        np.testing.assert_array_equal(decoder.decode(path).pixels[0], values)


def palette(bits: int, entries: int, *, word: bool, **changes: Any) -> dict[str, Any]:
    """Red grows with the stored value, green falls, blue is 7."""
    ramp = np.arange(entries) * 255 // (entries - 1)
    found: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for channel, values in (("Red", ramp), ("Green", 255 - ramp), ("Blue", np.full(entries, 7))):
        scaled = values * 257 if bits == 16 else values
        found[f"{channel}PaletteColorLookupTableDescriptor"] = [entries % 65536, 0, bits]
        found[f"{channel}PaletteColorLookupTableData"] = scaled.astype("<u2" if word else "u1").tobytes()
    return found | changes


@pytest.mark.parametrize(
    ("cells", "tables"),
    [
        (np.uint8, palette(16, 256, word=True)),
        (np.uint8, palette(8, 256, word=False)),
        (np.uint8, palette(8, 256, word=True)),  # a byte in each word
        (np.uint8, palette(16, 256, word=True) | {"BluePaletteColorLookupTableData": np.full(256, 7, "<u2").tobytes()}),
        (np.uint16, palette(16, 65536, word=True)),
        (np.uint16, palette(8, 1024, word=False)),  # more entries than an entry has values
    ],
)
def test_palette_colours(tmp_path: Path, decoder: PixelDecoder, cells: type, tables: dict[str, Any]) -> None:
    entries = tables["RedPaletteColorLookupTableDescriptor"][0] or 65536
    stored: npt.NDArray[Any] = np.array([[0, entries // 2, entries - 1]], cells)
    path = save(image(stored, **tables), tmp_path / "x.dcm")
    plain, coloured = decoder.decode(path), decoder.decode(path, coloured=True)
    assert plain.photometric == "PALETTE COLOR"
    np.testing.assert_array_equal(plain.pixels[0], stored)
    assert coloured.photometric == "RGB" and coloured.pixels.dtype == np.uint8
    assert coloured.pixels[0, 0, 0].tolist() == [0, 255, 7] and coloured.pixels[0, 0, 2].tolist() == [255, 0, 7]
    assert coloured.pixels[0, 0, 1].tolist() == pytest.approx([127, 128, 7], abs=1)


def test_a_segmented_palette(tmp_path: Path, decoder: PixelDecoder) -> None:
    tables: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for channel, top in (("Red", 65535), ("Green", 0), ("Blue", 32768)):
        tables[f"{channel}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        segments = np.array([0, 1, 0, 1, 255, top], "<u2")  # one discrete value, then a line of 255 to the top
        tables[f"Segmented{channel}PaletteColorLookupTableData"] = segments.tobytes()
    path = save(image(np.array([[0, 255]], np.uint8), **tables), tmp_path / "x.dcm")
    assert decoder.decode(path, coloured=True).pixels[0].tolist() == [[[0, 0, 0], [255, 0, 128]]]


def test_a_palette_without_tables_is_a_reason(tmp_path: Path, decoder: PixelDecoder) -> None:
    path = save(image(np.zeros((2, 2), np.uint8), PhotometricInterpretation="PALETTE COLOR"), tmp_path / "x.dcm")
    with pytest.raises(DicomRefused, match="cannot be decoded"):
        decoder.decode(path, coloured=True)
    assert decoder.decode(path).pixels.shape == (1, 2, 2)


def test_decodable_are_the_syntaxes_that_a_codec_is_installed_for() -> None:
    with_codec = set()
    for uid in AllTransferSyntaxes:
        with contextlib.suppress(NotImplementedError):
            if get_decoder(uid).is_available:
                with_codec.add(str(uid))
    assert with_codec | {DEFLATED_FRAMES} == DECODABLE
