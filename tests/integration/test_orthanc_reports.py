"""Orthanc as the archive that sends reports: structured reports of every class with text, encapsulated PDF and CDA."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from radir_pacs.catalogue import Catalogue
from radir_pacs.catalogue.instances import REPORT_SOP_CLASSES
from radir_pacs.delivery.destination import Destination
from radir_pacs.pictures.basic_text_sr import write_report
from radir_pacs.storage.blobs import BlobStore
from radir_pacs.types import JobKind
from radir_workers.mine_report import MineReport
from radir_workers.runner import Runner
from tests.dicom_files import save
from tests.document_material import cda, pdf
from tests.integration.orthanc import running_orthanc

_DOCUMENTS = {
    "1.2.840.10008.5.1.4.1.1.104.1": ("application/pdf", pdf("Large left pleural effusion.", "No pneumothorax.")),
    "1.2.840.10008.5.1.4.1.1.104.2": ("text/xml", cda("Large left pleural effusion.", "No pneumothorax.")),
}


def report(sop_class: str) -> Dataset:
    """A report of this class, in a study of its own."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = sop_class, generate_uid()
    ds.StudyInstanceUID, ds.SeriesInstanceUID = generate_uid(), generate_uid()
    ds.PatientID, ds.PatientName, ds.PatientBirthDate, ds.PatientSex = "p1", "Muster^Anna", "19500101", "F"
    ds.StudyDate, ds.StudyTime, ds.StudyID, ds.AccessionNumber = "20260301", "080000", "1", "A1"
    ds.ReferringPhysicianName, ds.Manufacturer = "", "Others"
    ds.SeriesNumber, ds.InstanceNumber = 1, 1
    ds.ContentDate, ds.ContentTime = "20260301", "080500"
    if sop_class in _DOCUMENTS:
        kind, content = _DOCUMENTS[sop_class]
        ds.Modality, ds.ConversionType, ds.BurnedInAnnotation = "DOC", "WSD", "YES"
        ds.DocumentTitle, ds.MIMETypeOfEncapsulatedDocument = "Report", kind
        ds.EncapsulatedDocument = content + b"\0" * (len(content) % 2)
        ds.EncapsulatedDocumentLength = len(content)
    else:
        said = [("FINDINGS", "Large left pleural effusion."), ("IMPRESSION", "No pneumothorax.")]
        write_report(ds, said, [(generate_uid(), "1.2.840.10008.5.1.4.1.1.1.1", generate_uid())])
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


@pytest.mark.timeout(300)
def test_reports_of_every_class_that_orthanc_sends_are_read(
    listen: Callable[..., Destination], catalogue: Catalogue, blobs: BlobStore, tmp_path: Path
) -> None:
    peer = listen()
    modality = {"AET": peer.ae_title, "Host": peer.host, "Port": peer.port}
    reports = {sop_class: report(sop_class) for sop_class in sorted(REPORT_SOP_CLASSES)}
    with running_orthanc(
        tmp_path / "orthanc", plugins=(), DicomModalities={"radir": modality}, DicomModalitiesInDatabase=False
    ) as orthanc:
        held = [orthanc.store(save(ds, tmp_path / f"{sop_class}.dcm")) for sop_class, ds in reports.items()]
        sent = orthanc.send("radir", held)
    assert sent["State"] == "Success" and sent["Content"]["FailedInstancesCount"] == 0, sent
    runner = Runner(catalogue, {JobKind.REPORT: MineReport(catalogue, blobs)}, worker="test", lease_s=60)
    for job_id in catalogue.jobs.to_announce(100, kinds=(JobKind.REPORT,)):
        runner.run(job_id)
    assert catalogue.jobs.failed() == ()
    for sop_class, ds in reports.items():
        found = catalogue.reports.of_study(ds.StudyInstanceUID)
        assert len(found) == 1, sop_class
        said = [(one["concept"], one["polarity"], one["regions"]) for one in found[0].findings]
        assert said == [
            ("pleural_effusion", "present", ["left_pleura"]),
            ("pneumothorax", "absent", ["pleura"]),
        ], sop_class
        assert "Muster" not in found[0].body
