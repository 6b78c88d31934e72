"""Rendered documents: a structured report as a page or text, an encapsulated PDF as itself."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from pydicom.dataset import Dataset

from tests.dicom_files import radiograph
from tests.integration.conftest import Web
from tests.integration.test_web_wado import path_of
from tests.integration.test_web_wado_uri import wado

PDF = b"%PDF-1.4\n" + bytes(range(256)) * 8 + b"\n%%EOF\n"
EVIL = "<script>alert(1)</script> & no pneumothorax"


def coded(meaning: str) -> list[Dataset]:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "1", "99TEST", meaning
    return [code]


def item(kind: str, name: str, **values: Any) -> Dataset:
    made = Dataset()
    made.RelationshipType, made.ValueType, made.ConceptNameCodeSequence = "CONTAINS", kind, coded(name)
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def bare(sop_class_uid: str, **changes: Any) -> Dataset:
    ds = radiograph(SOPClassUID=sop_class_uid, **changes)
    for keyword in ("PixelData", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit"):
        delattr(ds, keyword)
    return ds


@pytest.fixture
def report() -> Dataset:
    unit = coded("millimeter")
    unit[0].CodeValue = "mm"
    measured = Dataset()
    measured.NumericValue, measured.MeasurementUnitsCodeSequence = "12.5", unit
    findings = item("CONTAINER", "Findings")
    findings.ContentSequence = [
        item("TEXT", "Finding", TextValue=EVIL),
        item("CODE", "Location", ConceptCodeSequence=coded("Left lung")),
        item("NUM", "Diameter", MeasuredValueSequence=[measured]),
        item("PNAME", "Observer", PersonName="Müller^Jörg"),
        item("DATE", "Seen", Date="20260102"),
    ]
    ds = bare("1.2.840.10008.5.1.4.1.1.88.22", Modality="SR", SpecificCharacterSet="ISO_IR 192", PatientName="Doe^Jane")
    ds.ValueType, ds.ConceptNameCodeSequence, ds.ContentSequence = "CONTAINER", coded("Chest report"), [findings]
    ds.CompletionFlag, ds.VerificationFlag = "COMPLETE", "UNVERIFIED"
    return ds


def test_a_report_is_a_page(web: Web, report: Dataset) -> None:
    web.store(report)
    for answer in (web.get(path_of(report) + "/rendered"), wado(web, report)):
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        for text in ("Chest report", "Jane", "Findings", "Left lung", "12.5 mm", "Müller Jörg", "20260102", "COMPLETE"):
            assert text in answer.text, text
        assert "&lt;script&gt;" in answer.text and "<script>" not in answer.text
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


def test_a_report_is_plain_text(web: Web, report: Dataset) -> None:
    web.store(report)
    answer = web.get(path_of(report) + "/rendered", "text/plain")
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    lines = answer.text.splitlines()
    assert lines[0] == "Chest report"
    assert "Findings" in lines and f"  Finding: {EVIL}" in lines and "  Diameter: 12.5 mm" in lines
    assert web.get(path_of(report) + "/rendered", "image/png").status_code == 406
    again = web.get(path_of(report) + "/rendered", "text/plain", headers={"If-None-Match": answer.headers["ETag"]})
    assert again.status_code == 304
    assert web.get(path_of(report) + "/rendered", headers={"If-None-Match": answer.headers["ETag"]}).status_code == 200


@pytest.mark.parametrize("odd", [0, 1])
def test_a_pdf_is_a_pdf(web: Web, odd: int) -> None:
    document = PDF + b"\n" * odd
    ds = bare("1.2.840.10008.5.1.4.1.1.104.1", Modality="DOC")
    ds.MIMETypeOfEncapsulatedDocument = "application/pdf"
    ds.EncapsulatedDocument = document + b"\0" * (len(document) % 2)
    ds.EncapsulatedDocumentLength = len(document)
    web.store(ds)
    for answer in (
        web.get(path_of(ds) + "/rendered"),
        web.get(path_of(ds) + "/rendered", "application/pdf"),
        wado(web, ds),
    ):
        assert answer.headers["Content-Type"] == "application/pdf"
        assert answer.content == document
        assert answer.headers["Content-Disposition"].startswith("inline")
    assert web.get(path_of(ds) + "/rendered", "image/jpeg").status_code == 406
    uri = web.get(path_of(ds) + "/metadata").json()[0]["00420011"]["BulkDataURI"]
    fetched = requests.get(uri, headers={"Accept": "application/octet-stream"}, timeout=30)
    assert fetched.content.startswith(document)


def test_what_is_neither_picture_nor_document_is_told(web: Web) -> None:
    ds = bare("1.2.840.10008.5.1.4.1.1.11.1", Modality="PR")
    web.store(ds)
    assert web.get(path_of(ds) + "/rendered").status_code == 404
    assert wado(web, ds).headers["Content-Type"].startswith("application/dicom")


def test_a_report_without_content_is_still_read(web: Web) -> None:
    ds = bare("1.2.840.10008.5.1.4.1.1.88.11", Modality="SR")
    broken = Dataset()
    broken.ValueType = "NUM"
    ds.ContentSequence = [broken, Dataset()]
    web.store(ds)
    assert web.get(path_of(ds) + "/rendered").status_code == 200
