"""Reports as PDF and CDA: read in a confined child, from DICOM objects that come by C-STORE or STOW, and from HL7."""

from __future__ import annotations

import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from radir_pacs.catalogue import Catalogue
from radir_pacs.delivery.destination import Destination
from radir_pacs.documents import CDA, PDF, media_type, text_of
from radir_pacs.errors import BadInput
from radir_pacs.storage.blobs import BlobStore
from radir_pacs.types import JobKind, JobState
from radir_workers.mine_report import MineReport
from radir_workers.runner import Runner
from tests.catalogue_material import add, claimed, header
from tests.document_material import cda, pdf
from tests.hl7_material import encapsulated as in_obx
from tests.hl7_material import oru
from tests.integration.conftest import Web
from tests.services import need
from tests.unit.test_hl7_reading import report

STUDY = "2.25.1"


def encapsulated(content: bytes, kind: str, **changes: Any) -> Dataset:
    """An Encapsulated PDF or CDA object of STUDY (PS3.3 A.45)."""
    ds = Dataset()
    ds.SOPClassUID = f"1.2.840.10008.5.1.4.1.1.104.{1 if kind == PDF else 2}"
    ds.SOPInstanceUID, ds.StudyInstanceUID, ds.SeriesInstanceUID = "2.25.1.88.1", STUDY, "2.25.1.88"
    ds.PatientID, ds.Modality, ds.DocumentTitle = "p1", "DOC", "Report"
    ds.MIMETypeOfEncapsulatedDocument = kind
    ds.EncapsulatedDocument = content + b"\0" * (len(content) % 2)
    for name, value in changes.items():
        setattr(ds, name, value)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


@pytest.mark.parametrize(
    ("content", "kind"), [(pdf("Large left pleural effusion."), PDF), (cda("Large left pleural effusion."), CDA)]
)
def test_a_document_becomes_a_report(web: Web, content: bytes, kind: str) -> None:
    add(web.catalogue, header())
    web.store(encapsulated(content, kind))
    job = claimed(web.catalogue, JobKind.REPORT, "2.25.1.88.1")
    MineReport(web.catalogue, web.blobs)(job)
    [found] = web.catalogue.reports.of_study(STUDY)
    assert found.source == "document" and "Muster" not in found.body
    assert {finding["concept"] for finding in found.findings} == {"pleural_effusion"}


@pytest.mark.parametrize(("program", "kind"), [("pdf2dcm", "pdf"), ("cda2dcm", "xml")])
def test_documents_that_dcmtk_made_come_by_c_store(
    listen: Callable[..., Destination], catalogue: Catalogue, blobs: BlobStore, tmp_path: Path, program: str, kind: str
) -> None:
    made, given = tmp_path / "document.dcm", tmp_path / f"document.{kind}"
    given.write_bytes(pdf("Large left pleural effusion.") if kind == "pdf" else cda("Large left pleural effusion."))
    study = ["--key", "StudyInstanceUID=2.25.1", "--key", "PatientID=p1"]
    subprocess.run([need(program), *study, str(given), str(made)], check=True, capture_output=True)
    peer = listen()
    to = ["-R", "-aec", peer.ae_title, peer.host, str(peer.port)]
    subprocess.run([need("storescu"), *to, str(made)], check=True, capture_output=True)
    [job_id] = catalogue.jobs.to_announce(10, kinds=(JobKind.REPORT,))
    Runner(catalogue, {JobKind.REPORT: MineReport(catalogue, blobs)}, worker="t", lease_s=60).run(job_id)
    [found] = [report for uid in catalogue.studies.uids() for report in catalogue.reports.of_study(uid)]
    assert {finding["concept"] for finding in found.findings} == {"pleural_effusion"}


def test_an_addendum_by_its_title_adds(web: Web) -> None:
    add(web.catalogue, header())
    web.store(encapsulated(pdf("No pneumothorax."), PDF, DocumentTitle="Addendum"))
    MineReport(web.catalogue, web.blobs)(claimed(web.catalogue, JobKind.REPORT, "2.25.1.88.1"))
    assert web.catalogue.reports.of_study(STUDY)[0].body.startswith("ADDENDUM:")


def test_a_document_that_cannot_be_read_says_so(web: Web) -> None:
    web.store(encapsulated(b"%PDF-1.7 nothing", PDF))
    [job_id] = web.catalogue.jobs.to_announce(10, kinds=(JobKind.REPORT,))
    Runner(web.catalogue, {JobKind.REPORT: MineReport(web.catalogue, web.blobs)}, worker="t", lease_s=60).run(job_id)
    job = web.catalogue.jobs.get(job_id)
    assert job is not None and job.state is JobState.FAILED
    [failed] = web.catalogue.jobs.failed()
    assert failed.reason_code == "DOCUMENT_UNREADABLE"


def test_documents_inside_messages() -> None:
    assert report(oru(obx=in_obx(pdf("Small effusion.")))).body == "Small effusion."
    assert report(oru(obx=in_obx(cda("Clear.", "Normal."), "XML"))).body == "FINDINGS:\nClear.\n\nIMPRESSION:\nNormal."
    assert report(oru(obx=in_obx(b"{\\rtf1 Clear \\'e4.}", "RTF"))).body == "Clear ä."
    assert report(oru(obx=in_obx(b"<html><p>Clear.</p></html>", "HTML"))).body == "Clear."


BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "&c;&c;"><!ENTITY c "x">]>'
    b'<ClinicalDocument xmlns="urn:hl7-org:v3">&b;</ClinicalDocument>'
)


def swollen() -> bytes:
    """A PDF whose page inflates to a gigabyte."""
    packed = zlib.compress(b" " * (1 << 30), 1)
    whole = pdf("x")
    at = whole.index(b"<< /Length")
    end = whole.index(b"endstream")
    return whole[:at] + b"<< /Length %d /Filter /FlateDecode >>\nstream\n" % len(packed) + packed + b"\n" + whole[end:]


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (BOMB, CDA),
        (b"<?xml version='1.0'?><other/>", CDA),
        (b"<a>" * 200_000, CDA),
        (b"%PDF-1.4", PDF),
        (b"%PDF-1.4\n1 0 obj\n<< /Kids [1 0 R] /Type /Pages >>\nendobj\ntrailer << /Root 1 0 R >>", PDF),
        (b"PK\x03\x04", "application/msword"),
    ],
)
def test_hostile_documents_end_in_a_sentence(content: bytes, kind: str) -> None:
    with pytest.raises(BadInput) as refused:
        text_of(content, kind)
    assert len(str(refused.value)) < 100


def test_a_document_that_swells_takes_no_memory_of_ours() -> None:
    with pytest.raises(BadInput):
        text_of(swollen(), PDF)


@pytest.mark.parametrize(
    ("kind", "subtype", "content", "found"),
    [
        ("AP", "PDF", b"%PDF-1.4", PDF),
        ("TEXT", "HTML", b"Clear.", "text/html"),
        ("text/plain; charset=utf-8", "", b"Clear.", "text/plain"),
        ("application/rtf", "", b"Clear.", "text/rtf"),
        ("text", "x-hl7-text", b"Clear.", "text/x-hl7-text"),
        ("AP", "Octet-stream", b"{\\rtf1 x}", "text/rtf"),
        ("multipart", "x-hl7-cda-level-one", b"<?xml ...", CDA),
        ("", "", b"Clear.", "text/plain"),
    ],
)
def test_what_a_document_is(kind: str, subtype: str, content: bytes, found: str) -> None:
    assert media_type(kind, subtype, content) == found


def test_a_long_report_is_read_whole() -> None:
    lines = [f"Nodule {number}." for number in range(60)]
    assert text_of(pdf(*lines), PDF).strip().split("\n")[-1].strip() == "Nodule 59."
