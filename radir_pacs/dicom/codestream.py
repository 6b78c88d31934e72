"""The size of a compressed frame, read from its own header before a decoder allocates memory for it.

JPEG (ITU-T T.81 B.2.2), JPEG-LS (T.87 C.2.2) and JPEG 2000 with its high-throughput kind (T.800 A.5.1, boxes in
annex I). Nothing is decoded.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

_SOI, _SOC_SIZ = b"\xff\xd8", b"\xff\x4f\xff\x51"
_JP2_SIGNATURE = b"\x00\x00\x00\x0cjP  \r\n\x87\n"
_NOT_FRAMES = {0xC4, 0xC8, 0xCC}  # DHT, JPG and DAC share the range of the frame headers SOF0 to SOF15
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}  # TEM, RST0 to RST7, SOI
_SOF_LS = 0xF7
_SOS, _EOI = 0xDA, 0xD9


@dataclass(frozen=True, kw_only=True)
class Codestream:
    """rows, columns: of the picture; bits: of one sample."""

    rows: int
    columns: int
    samples: int
    bits: int


def read_codestream(frame: bytes) -> Codestream | None:
    """The frame's own size; None for a format that is not known here and for a frame without a header."""
    try:
        if frame[:2] == _SOI:
            return _jpeg(frame)
        if frame[:4] == _SOC_SIZ:
            return _jpeg_2000(frame, 4)
        if frame[:12] == _JP2_SIGNATURE:
            return _boxed_jpeg_2000(frame)
    except (IndexError, struct.error):
        return None
    return None


def _jpeg(frame: bytes) -> Codestream | None:
    at = 2
    while True:
        if frame[at] != 0xFF:
            return None
        while frame[at] == 0xFF:  # fill bytes may stand before any marker
            at += 1
        marker = frame[at]
        at += 1
        if marker in _WITHOUT_LENGTH:
            continue
        if marker in (_SOS, _EOI):
            return None
        if marker == _SOF_LS or (0xC0 <= marker <= 0xCF and marker not in _NOT_FRAMES):
            bits, rows, columns, samples = struct.unpack_from(">xxBHHB", frame, at)
            return Codestream(rows=rows, columns=columns, samples=samples, bits=bits)
        at += max(int(struct.unpack_from(">H", frame, at)[0]), 2)


def _jpeg_2000(frame: bytes, at: int) -> Codestream:
    """``at``: the position after the SIZ marker."""
    right, bottom, left, top = struct.unpack_from(">4x4L", frame, at)
    samples, depth = struct.unpack_from(">36xHB", frame, at)
    return Codestream(rows=bottom - top, columns=right - left, samples=samples, bits=(depth & 0x7F) + 1)


def _boxed_jpeg_2000(frame: bytes) -> Codestream | None:
    at = 0
    while True:
        length, name = struct.unpack_from(">L4s", frame, at)
        header = 8
        if length == 1:
            (length,) = struct.unpack_from(">8xQ", frame, at)
            header = 16
        if name == b"jp2c":
            start = at + header
            return _jpeg_2000(frame, start + 4) if frame[start : start + 4] == _SOC_SIZ else None
        if length < header:  # 0: the last box
            return None
        at += length
