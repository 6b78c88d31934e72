from __future__ import annotations

import os
import signal
import struct
from pathlib import Path

import numpy as np
import pytest

from radir_pacs.dicom.limits import DecodeLimits
from radir_pacs.dicom.pixels import PixelDecoder
from radir_pacs.errors import DicomRefused
from tests.dicom_material import UNDEFINED, element, identified, image, part10, save

PIXELS = np.arange(3 * 64, dtype=np.uint16).reshape(3, 8, 8)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    return save(image(PIXELS), tmp_path / "picture.dcm")


def test_frames_come_back_as_stored(picture: Path) -> None:
    with PixelDecoder() as decoder:
        frames = decoder.decode(picture)
    assert frames.photometric == "MONOCHROME2"
    assert frames.pixels.dtype == np.uint16
    np.testing.assert_array_equal(frames.pixels, PIXELS)


def test_one_child_serves_many_files(picture: Path) -> None:
    with PixelDecoder() as decoder:
        pids = set()
        for _ in range(3):
            decoder.decode(picture)
            assert decoder._child is not None
            pids.add(decoder._child.pid)
    assert len(pids) == 1


def test_a_hanging_child_is_killed_and_replaced(picture: Path) -> None:
    with PixelDecoder(DecodeLimits(wall_s=20)) as decoder:
        decoder.decode(picture)
        assert decoder._child is not None
        hung = decoder._child
        os.kill(hung.pid, signal.SIGSTOP)
        decoder.limits = DecodeLimits(wall_s=0.2)
        with pytest.raises(DicomRefused, match=r"longer than 0\.2 s"):
            decoder.decode(picture)
        assert hung.returncode == -signal.SIGKILL
        decoder.limits = DecodeLimits()
        np.testing.assert_array_equal(decoder.decode(picture).pixels, PIXELS)


def test_a_crash_while_decoding_is_a_refusal_and_the_next_file_is_decoded(
    picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with PixelDecoder() as decoder:
        decoder.decode(picture)
        assert decoder._child is not None
        decoder._child.send_signal(signal.SIGSEGV)
        decoder._child.wait()
        with monkeypatch.context() as patch:
            patch.setattr(decoder, "_start", lambda: None)  # as if it had died after the request was sent
            with pytest.raises(DicomRefused, match=r"died \(SIGSEGV\)"):
                decoder.decode(picture)
        np.testing.assert_array_equal(decoder.decode(picture).pixels, PIXELS)


def test_a_picture_larger_than_allowed_is_refused(tmp_path: Path, picture: Path) -> None:
    with PixelDecoder(DecodeLimits(pixel_bytes=300)) as decoder, pytest.raises(DicomRefused, match="more memory"):
        decoder.decode(picture)
    huge = save(image(PIXELS, NumberOfFrames=2_000_000_000), tmp_path / "huge.dcm")
    with PixelDecoder() as decoder, pytest.raises(DicomRefused, match="more memory"):
        decoder.decode(huge)


def test_the_child_lives_within_its_address_space(tmp_path: Path) -> None:
    picture = save(image(np.zeros((3, 4096, 4096), np.uint16)), tmp_path / "large.dcm")
    with PixelDecoder(DecodeLimits(memory_bytes=300 << 20)) as decoder, pytest.raises(DicomRefused):
        decoder.decode(picture)
    with PixelDecoder() as decoder:
        assert decoder.decode(picture).pixels.shape == (3, 4096, 4096)


def test_hostile_structure_is_a_reason_and_the_child_lives_on(tmp_path: Path, picture: Path) -> None:
    item = struct.pack("<HHL", 0xFFFE, 0xE000, UNDEFINED)
    deep = tmp_path / "deep.dcm"
    deep.write_bytes(part10(identified((element(8, 0x1140, "SQ", b"", length=UNDEFINED) + item) * 3000)))
    with PixelDecoder() as decoder:
        for path in (deep, tmp_path / "absent.dcm"):
            with pytest.raises(DicomRefused):
                decoder.decode(path)
        np.testing.assert_array_equal(decoder.decode(picture).pixels, PIXELS)


def test_the_child_gets_no_secret(picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RADIR_DATABASE_URL", "postgresql://secret")
    with PixelDecoder() as decoder:
        decoder.decode(picture)
        assert decoder._child is not None
        environment = Path(f"/proc/{decoder._child.pid}/environ")
        if not environment.exists():
            pytest.skip("no /proc here")
        assert b"secret" not in environment.read_bytes()
