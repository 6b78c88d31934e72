"""DICOM files with known pixels, and files built byte by byte that no library would write."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from radir_pacs.dicom.header import read_header
from radir_pacs.types import InstanceHeader

CT = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
CR = "1.2.840.10008.5.1.4.1.1.1"
DEFLATED = b"1.2.840.10008.1.2.1.99"
EXPLICIT = b"1.2.840.10008.1.2.1"
UNDEFINED = 0xFFFFFFFF


def element(group: int, number: int, vr: str, value: bytes, *, length: int | None = None) -> bytes:
    """One explicit little endian element; ``length`` may lie."""
    value += (b"\0" if vr in {"UI", "OB", "UN"} else b" ") * (len(value) % 2)
    length = len(value) if length is None else length
    if vr in {"OB", "OD", "OF", "OL", "OW", "SQ", "UC", "UN", "UR", "UT"}:
        return struct.pack("<HH2s2xL", group, number, vr.encode(), length) + value
    return struct.pack("<HH2sH", group, number, vr.encode(), length) + value


def part10(body: bytes, syntax: bytes = EXPLICIT) -> bytes:
    return b"\0" * 128 + b"DICM" + element(2, 0x10, "UI", syntax) + body


def identified(extra_before: bytes = b"", extra_after: bytes = b"") -> bytes:
    """The least data set that is accepted, with elements between group 0008 and 0020 and at the end."""
    return (
        element(8, 0x16, "UI", CT.encode())
        + element(8, 0x18, "UI", b"1.2.3.4")
        + extra_before
        + element(0x20, 0x0D, "UI", b"1.2.3")
        + element(0x20, 0x0E, "UI", b"1.2.3.1")
        + extra_after
    )


def image(pixels: npt.NDArray[Any], sop_uid: str = "1.2.3.4", **changes: Any) -> Dataset:
    """A grey image of ``pixels`` [rows, columns] or [frames, rows, columns]; ``changes`` are attributes by keyword."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.StudyInstanceUID, ds.SeriesInstanceUID = CR, sop_uid, "1.2.3", "1.2.3.1"
    ds.Modality, ds.PhotometricInterpretation, ds.SamplesPerPixel = "CR", "MONOCHROME2", 1
    ds.Rows, ds.Columns = pixels.shape[-2:]
    if pixels.ndim == 3:
        ds.NumberOfFrames = len(pixels)
    bits = pixels.dtype.itemsize * 8
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = bits, bits, bits - 1
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    ds.PixelData = pixels.tobytes()
    ds["PixelData"].VR = "OB" if bits == 8 else "OW"
    for keyword, value in changes.items():
        setattr(ds, keyword, value)
    return ds


def save(ds: Dataset, path: Path, syntax: UID = ExplicitVRLittleEndian) -> Path:
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.save_as(path, enforce_file_format=True)
    return path


def hounsfield_at(position_mm: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """HU of the test body at patient positions [..., 3]: a slope, so that every voxel tells where it lies."""
    return position_mm @ np.asarray([1.0, 2.0, 4.0])


def ct_slices(
    folder: Path,
    *,
    origins_mm: Sequence[Sequence[float]],
    orientation: Sequence[float] = (1, 0, 0, 0, 1, 0),
    size_px: tuple[int, int] = (12, 10),
    spacing_mm: tuple[float, float] = (2.0, 3.0),
    number_from: int = 1,
    **changes: Any,
) -> tuple[list[InstanceHeader], dict[str, Path]]:
    """CT slices of the test body: their headers, and their paths by SOP Instance UID. Stored = HU + 1024."""
    headers, paths = [], {}
    row, column = np.asarray(orientation[:3], float), np.asarray(orientation[3:], float)
    i, j = np.mgrid[: size_px[0], : size_px[1]]
    for index, origin in enumerate(origins_mm, start=number_from):
        at = np.asarray(origin) + i[..., None] * spacing_mm[0] * column + j[..., None] * spacing_mm[1] * row
        stored = np.round(hounsfield_at(at) + 1024).clip(0, 65535).astype(np.uint16)
        ds = image(
            stored,
            f"1.2.3.4.{index}",
            SOPClassUID=CT,
            Modality="CT",
            ImageType=["ORIGINAL", "PRIMARY", "AXIAL"],
            ImagePositionPatient=[f"{v:.6f}" for v in np.asarray(origin, float)],
            ImageOrientationPatient=[f"{v:.6f}" for v in orientation],
            PixelSpacing=list(spacing_mm),
            RescaleSlope=1,
            RescaleIntercept=-1024,
            InstanceNumber=index,
            BodyPartExamined="CHEST",
        )
        for keyword, value in changes.items():
            setattr(ds, keyword, value)
        path = save(ds, folder / f"{index}.dcm")
        headers.append(read_header(path))
        paths[ds.SOPInstanceUID] = path
    return headers, paths
