"""What every DICOM object of the synthetic hospital has in common."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian

from radir_pacs.dicom.uids import derived_uid
from radir_pacs.pictures.basic_text_sr import code
from radir_pacs.types import ImageKind

from .course import Course, Visit

IMPLEMENTATION_UID = derived_uid("radir", "phantom", "implementation")


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Names and numbers of one visit, all derived from the hospital's seed."""

    seed: int
    course: Course
    visit: Visit
    manufacturer: str = "RadIR-PACS"

    def uid(self, *names: str) -> str:
        return derived_uid("phantom", str(self.seed), str(self.course.index), str(self.visit.number), *names)

    @property
    def study_uid(self) -> str:
        return self.uid("study")

    @property
    def patient_id(self) -> str:
        return f"PHANTOM-{self.seed}-{self.course.index:05d}"

    @property
    def accession_number(self) -> str:
        return f"P{self.seed % 10_000:04d}{self.course.index % 1_000_000:06d}{self.visit.number:02d}"

    @property
    def time(self) -> str:
        minutes = 8 * 60 + (self.course.index * 37 + self.visit.number * 101) % 600
        return f"{minutes // 60:02d}{minutes % 60:02d}00"

    @property
    def description(self) -> str:
        return "XR CHEST PA AND LATERAL" if self.visit.kind is ImageKind.CXR else "CT CHEST WITHOUT CONTRAST"


def new_object(
    identity: Identity, sop_class: str, sop_uid: str, modality: str, series: str, number: int
) -> FileDataset:
    """A data set with the patient, study, series and equipment modules filled in (PS3.3 C.7)."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = UID(sop_class), UID(sop_uid)
    meta.TransferSyntaxUID, meta.ImplementationClassUID = ExplicitVRLittleEndian, UID(IMPLEMENTATION_UID)
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    visit, patient = identity.visit, identity.course.patient
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID, ds.SOPInstanceUID = sop_class, sop_uid
    ds.StudyDate = ds.SeriesDate = ds.ContentDate = visit.on.strftime("%Y%m%d")
    ds.StudyTime = ds.SeriesTime = ds.ContentTime = identity.time
    ds.AccessionNumber, ds.StudyID = identity.accession_number, f"V{visit.number}"
    ds.StudyInstanceUID = identity.study_uid
    ds.StudyDescription, ds.ReferringPhysicianName = identity.description, "Synthetic^Referrer"
    ds.PatientName = f"Phantom^Synthetic {identity.course.index:05d}"
    ds.PatientID, ds.PatientSex = identity.patient_id, patient.sex
    first = identity.course.visits[0].on
    born = date(first.year - patient.age_years, 1, 1) + timedelta(days=identity.course.index * 7 % 180)
    ds.PatientBirthDate = born.strftime("%Y%m%d")
    age = visit.on.year - born.year - ((visit.on.month, visit.on.day) < (born.month, born.day))
    ds.PatientAge = f"{age:03d}Y"
    ds.Modality, ds.SeriesInstanceUID, ds.SeriesNumber = modality, identity.uid("series", series), number
    ds.Manufacturer, ds.ManufacturerModelName = identity.manufacturer, "Synthetic hospital"
    ds.DeviceSerialNumber, ds.SoftwareVersions = "PHANTOM", "1"
    ds.InstanceNumber = 1
    return ds


def region_sequence() -> Sequence:
    return Sequence([code("816094009", "SCT", "Chest")])


def save(ds: FileDataset, path: Path) -> None:
    ds.save_as(path, enforce_file_format=True)
