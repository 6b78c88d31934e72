"""Pictures and their reports as DICOM objects: DX For Presentation (PS3.3 A.26) and Basic Text SR (PS3.3 A.35.1)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from radir_pacs.dicom.uids import derived_uid
from radir_pacs.pictures.basic_text_sr import BASIC_TEXT_SR, code, write_report
from radir_pacs.types import date_value

DX_FOR_PRESENTATION = "1.2.840.10008.5.1.4.1.1.1.1"
_MAKER = "RadIR-PACS"
_NOON = "120000"
# View Position -> code of CID 4010, and the direction of rows and columns where the view fixes it.
_VIEWS: dict[str, tuple[tuple[str, str], list[str]]] = {
    "PA": (("272479007", "postero-anterior"), ["L", "F"]),
    "AP": (("399348003", "antero-posterior"), ["L", "F"]),
    "LL": (("399173006", "left lateral"), ["P", "F"]),
    "RL": (("399198007", "right lateral"), ["A", "F"]),
}


@dataclass(frozen=True, kw_only=True)
class MadeStudy:
    """Patient and date: what all objects of one study share. UIDs are derived from (source, patient_id, study_key)."""

    source: str
    patient_id: str
    study_key: str
    sex: str = ""
    age_years: float | None = None
    study_date: date | None = None

    @property
    def study_uid(self) -> str:
        return derived_uid(self.source, "study", self.patient_id, self.study_key)

    @property
    def accession_number(self) -> str:
        return self.study_uid[-12:]

    def uid(self, *names: str) -> str:
        """The UID of one object of this study."""
        return derived_uid(self.study_uid, *names)


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A grey picture, bright is dense: uint8 or uint16 [rows, columns].

    view: "PA", "AP", "LL", "RL" or "" when unknown. spacing_mm: of rows and of columns, at the detector.
    compression_ratio: of the lossy JPEG it came from, None for a lossless original.
    """

    key: str
    pixels: npt.NDArray[Any]
    view: str
    spacing_mm: float
    spacing_assumed: bool
    compression_ratio: float | None = None


def dx_instance(study: MadeStudy, picture: Picture, number: int) -> Dataset:
    """A DX image For Presentation; ``number`` is its Instance Number within the study's one image series."""
    ds = _common(study, DX_FOR_PRESENTATION, study.uid("image", picture.key))
    ds.Modality = "DX"
    ds.PresentationIntentType = "FOR PRESENTATION"
    ds.SeriesInstanceUID = study.uid("series", "DX")
    ds.SeriesNumber = 1
    ds.SeriesDescription = "Chest"
    ds.BodyPartExamined = "CHEST"
    ds.InstanceNumber = number
    ds.ImageType = ["DERIVED", "PRIMARY", ""]
    ds.ContentDate, ds.ContentTime = ds.StudyDate, ds.StudyTime
    ds.AcquisitionDate, ds.AcquisitionTime = ds.StudyDate, ds.StudyTime
    assumed = "; the pixel spacing assumes a field of 400 mm" if picture.spacing_assumed else ""
    ds.DerivationDescription = f"Made from a picture file{assumed}"
    ds.ImageLaterality = "U"
    ds.AnatomicRegionSequence = [code("816094009", "SCT", "Chest")]
    _view(ds, picture.view)
    ds.ImagerPixelSpacing = [f"{picture.spacing_mm:.6g}"] * 2
    ds.DetectorType = ""
    ds.PositionerType = ""
    ds.AcquisitionContextSequence = []
    _pixels(ds, picture)
    return ds


def _view(ds: Dataset, view: str) -> None:
    ds.ViewPosition = view
    if view in _VIEWS:
        (value, meaning), orientation = _VIEWS[view]
        ds.ViewCodeSequence = [code(value, "SCT", meaning)]
        ds.ViewCodeSequence[0].ViewModifierCodeSequence = []
        ds.PatientOrientation = orientation
    else:
        ds.PatientOrientation = ["L", "F"]  # as chest pictures are usually oriented; the view remains unknown


def _pixels(ds: Dataset, picture: Picture) -> None:
    pixels = np.ascontiguousarray(picture.pixels)
    bits = pixels.dtype.itemsize * 8
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows, ds.Columns = pixels.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = bits, bits, bits - 1
    ds.PixelRepresentation = 0
    ds.PixelIntensityRelationship = "LOG"
    ds.PixelIntensityRelationshipSign = -1
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "0", "1", "US"
    ds.WindowCenter, ds.WindowWidth = str(1 << (bits - 1)), str(1 << bits)
    ds.PresentationLUTShape = "IDENTITY"
    ds.BurnedInAnnotation = "YES"  # it may have one
    ds.LossyImageCompression = "00" if picture.compression_ratio is None else "01"
    if picture.compression_ratio is not None:
        ds.LossyImageCompressionRatio = f"{picture.compression_ratio:.1f}"
        ds.LossyImageCompressionMethod = "ISO_10918_1"
    raw = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    ds.PixelData = raw + b"\0" * (len(raw) % 2)
    ds["PixelData"].VR = "OB" if bits == 8 else "OW"


def report_instance(study: MadeStudy, text: str, images: list[Dataset]) -> Dataset:
    """``text`` as a Basic Text SR under "Findings", with ``images`` as its evidence."""
    ds = _common(study, BASIC_TEXT_SR, study.uid("report"))
    ds.SeriesInstanceUID, ds.SeriesNumber, ds.InstanceNumber = study.uid("series", "SR"), 2, 1
    ds.ContentDate, ds.ContentTime = ds.StudyDate or "20000101", ds.StudyTime or _NOON
    evidence = [(image.SeriesInstanceUID, image.SOPClassUID, image.SOPInstanceUID) for image in images]
    write_report(ds, [("FINDINGS", text)], evidence)
    return ds


def save(ds: Dataset, folder: Path) -> Path:
    """Write ``ds`` as a Part-10 file under ``folder``/study UID/SOP UID.dcm."""
    path = folder / str(ds.StudyInstanceUID) / f"{ds.SOPInstanceUID}.dcm"
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.save_as(path, enforce_file_format=True)
    return path


def _common(study: MadeStudy, sop_class_uid: str, sop_uid: str) -> Dataset:
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID, ds.SOPInstanceUID = sop_class_uid, sop_uid
    ds.StudyInstanceUID = study.study_uid
    ds.StudyDate = date_value(study.study_date) if study.study_date else ""
    ds.StudyTime = _NOON if study.study_date else ""
    ds.StudyID = study.study_key[:16]
    ds.StudyDescription = "Chest X-ray"
    ds.AccessionNumber = study.accession_number
    ds.ReferringPhysicianName = ""
    ds.PatientID, ds.IssuerOfPatientID = study.patient_id, study.source
    ds.PatientName = f"{study.patient_id.replace('^', ' ').replace('=', ' ')}^Imported"
    ds.PatientBirthDate = ""
    ds.PatientSex = study.sex
    if study.age_years is not None:
        ds.PatientAge = f"{round(study.age_years):03d}Y"
    ds.Manufacturer = _MAKER
    ds.ManufacturerModelName = "import-images"
    ds.DeviceSerialNumber = "1"
    ds.SoftwareVersions = "1"
    return ds
