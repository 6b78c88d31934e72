"""Small valid hand-made DICOM files, for tests in which the picture does not matter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from radir_pacs.types import InstanceHeader

DX = "1.2.840.10008.5.1.4.1.1.1.1"


def radiograph(**changes: Any) -> Dataset:
    """A 32 x 32 chest radiograph of a person who does not exist; ``changes`` are attributes by keyword."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.SOPClassUID = DX
    ds.SOPInstanceUID, ds.StudyInstanceUID, ds.SeriesInstanceUID = generate_uid(), generate_uid(), generate_uid()
    ds.PatientID, ds.PatientName, ds.PatientSex, ds.PatientAge = "TEST-1", "Test^Person", "F", "060Y"
    ds.StudyDate, ds.StudyTime, ds.Modality, ds.BodyPartExamined = "20260102", "101112", "DX", "CHEST"
    ds.ViewPosition, ds.PatientOrientation = "PA", ["L", "F"]
    ds.Rows = ds.Columns = 32
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.PixelData = (np.arange(32 * 32, dtype=np.uint16) % 4096).tobytes()
    for keyword, value in changes.items():
        setattr(ds, keyword, value)
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def noisy_radiograph(uids: InstanceHeader, seed: int) -> Dataset:
    """One of 96 x 96 with a picture of its own and these UIDs."""
    picture = np.random.default_rng(seed).integers(0, 4096, (96, 96)).astype(np.uint16)
    return radiograph(
        StudyInstanceUID=uids.study_uid,
        SeriesInstanceUID=uids.series_uid,
        SOPInstanceUID=uids.sop_uid,
        Rows=96,
        Columns=96,
        PixelData=picture.tobytes(),
    )


def save(ds: Dataset, path: Path) -> Path:
    ds.save_as(path, enforce_file_format=True)
    return path
