"""A stored instance as Explicit VR Little Endian, the syntax sent to a client that names none (PS3.18 8.7.3.5.2).

The file passed the bounded reader when it came in, so its structure is bounded; its pixels go to the decoding child.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import FileDataset
from pydicom.uid import ExplicitVRLittleEndian

from radir_pacs.dicom.transfer_syntaxes import DECODABLE, DEFLATED, IMPLICIT_LITTLE
from radir_pacs.errors import DicomRefused, NotAcceptable
from radir_pacs.web.pixels import SharedDecoder

TRANSCODED_BYTES = 512 << 20  # larger files are returned only as stored

UNREADABLE = (
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    NotImplementedError,
    OverflowError,
    EOFError,
    struct.error,
    RecursionError,
    pydicom.errors.InvalidDicomError,
)


def can_transcode(transfer_syntax_uid: str, size_bytes: int) -> bool:
    return size_bytes <= TRANSCODED_BYTES and transfer_syntax_uid in DECODABLE


def explicit_little(path: Path, transfer_syntax_uid: str, decoder: SharedDecoder) -> bytes:
    """The Part-10 file at ``path`` in Explicit VR Little Endian. Raises DicomRefused or NotAcceptable."""
    if not can_transcode(transfer_syntax_uid, path.stat().st_size):
        raise NotAcceptable("the instance is only available as it is stored; ask with transfer-syntax=*")
    try:
        ds = pydicom.dcmread(path)
        if transfer_syntax_uid not in (IMPLICIT_LITTLE, DEFLATED) and "PixelData" in ds:
            _decode_pixels(ds, path, decoder)
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        out = io.BytesIO()
        pydicom.dcmwrite(out, ds, implicit_vr=False, little_endian=True, enforce_file_format=True)
    except UNREADABLE as error:
        raise DicomRefused("the instance cannot be rewritten; ask with transfer-syntax=*") from error
    return out.getvalue()


def _decode_pixels(ds: FileDataset, path: Path, decoder: SharedDecoder) -> None:
    """Replace the pixel data by decoded ones, and the attributes that describe them (PS3.3 C.7.6.3)."""
    with decoder.lent() as lent:
        decoded = lent.decode(path)
    pixels = decoded.pixels.astype(decoded.pixels.dtype.newbyteorder("<"), copy=False)
    raw = np.ascontiguousarray(pixels).tobytes()
    del ds.PixelData
    for tag in (0x7FE00001, 0x7FE00002, 0x7FE00003):  # extended offset tables of the encapsulated form
        ds.pop(tag, None)
    ds.add_new(0x7FE00010, "OB" if pixels.dtype.itemsize == 1 else "OW", raw + b"\0" * (len(raw) % 2))
    ds.BitsAllocated = pixels.dtype.itemsize * 8
    if "BitsStored" in ds:
        ds.HighBit = ds.BitsStored - 1  # the values are now in the lowest bits
    ds.PhotometricInterpretation = decoded.photometric
    if pixels.ndim == 4:
        ds.PlanarConfiguration = 0
