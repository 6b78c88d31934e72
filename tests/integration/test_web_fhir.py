"""FHIR DiagnosticReport by POST and PUT: statuses, forms of text, what names the study, faults."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import Any

import pytest
import requests

from radir_pacs.catalogue import Catalogue
from radir_pacs.errors import BadInput
from radir_pacs.intake.fhir import read_diagnostic_report
from tests.catalogue_material import add, header
from tests.document_material import cda, pdf
from tests.integration.conftest import Web

STUDY = "2.25.1"
NARRATIVE: dict[str, Any] = {"presentedForm": None, "text": {"div": "<div><p>Clear.</p></div>"}}


def form(content: bytes, kind: str = "text/plain") -> dict[str, Any]:
    return {"contentType": kind, "data": base64.b64encode(content).decode()}


def coded(display: str) -> dict[str, Any]:
    return {"coding": [{"code": "1", "display": display}]}


def resource(said: bytes = b"Large pneumothorax.", status: str = "final", minute: int = 0, **changes: Any) -> Any:
    given = {
        "resourceType": "DiagnosticReport",
        "id": "r1",
        "meta": {"lastUpdated": f"2026-03-01T08:{minute:02}:00Z"},
        "identifier": [{"system": "urn:ris", "value": "R1"}],
        "status": status,
        "issued": f"2026-03-01T08:{minute:02}:00+00:00",
        "imagingStudy": [{"identifier": {"system": "urn:dicom:uid", "value": f"urn:oid:{STUDY}"}}],
        "presentedForm": [form(said)],
    }
    return {name: value for name, value in (given | changes).items() if value is not None}


def post(web: Web, body: Any, **options: Any) -> requests.Response:
    headers = {"Content-Type": "application/fhir+json"} | options.pop("headers", {})
    return requests.post(web.root + "/fhir/DiagnosticReport", json=body, headers=headers, timeout=60, **options)


def texts(catalogue: Catalogue) -> list[str]:
    return [report.body for report in catalogue.reports.of_study(STUDY)]


def test_a_report_is_taken_corrected_and_withdrawn(web: Web) -> None:
    add(web.catalogue, header())
    answer = post(web, resource())
    assert (answer.status_code, answer.json()["resourceType"]) == (201, "OperationOutcome")
    assert post(web, resource()).status_code == 200
    changed = resource(b"No pneumothorax.", "corrected", 5)
    url = web.root + "/fhir/DiagnosticReport/r1"
    answer = requests.put(url, json=changed, headers={"Content-Type": "application/fhir+json"}, timeout=60)
    assert answer.status_code == 200 and texts(web.catalogue) == ["No pneumothorax."]
    assert "later version" in post(web, resource(b"?", "preliminary", 9)).json()["issue"][0]["diagnostics"]
    assert post(web, resource(status="entered-in-error", minute=10)).status_code == 200
    assert texts(web.catalogue) == []


def test_a_report_waits_for_its_study(web: Web) -> None:
    named: dict[str, Any] = {
        "imagingStudy": None,
        "contained": [
            {
                "resourceType": "ServiceRequest",
                "id": "o",
                "identifier": [{"value": "A1", "type": {"coding": [{"code": "ACSN"}]}}],
            },
            {"resourceType": "Patient", "id": "p", "identifier": [{"system": "urn:mrn", "value": "p1"}]},
        ],
        "basedOn": [{"reference": "#o"}],
        "subject": {"reference": "#p"},
    }
    assert "waits" in post(web, resource(**named)).json()["issue"][0]["diagnostics"]
    add(web.catalogue, header(accession_number="A1", patient_key="HOSP\\p1"))
    assert web.catalogue.report_versions.join_wanted() == 1
    assert texts(web.catalogue) == ["Large pneumothorax."]


def test_faults_are_told_and_nothing_of_the_patient(web: Web, serve: Callable[..., Web]) -> None:
    for body, status, words in (
        (resource(resourceType="Patient"), 422, "no DiagnosticReport"),
        (resource(status="done"), 422, "status"),
        (resource(presentedForm=[]), 422, "text"),
        (resource(presentedForm=[{"contentType": "text/plain", "data": "%%"}]), 422, "base64"),
        (resource(presentedForm=[form(b"%PDF-1.4 broken", "application/pdf")]), 422, "cannot be read"),
        (resource(imagingStudy=[{"display": "Muster"}]), 422, "Study Instance UID"),
        ([], 422, "no DiagnosticReport"),
    ):
        answer = post(web, body)
        assert answer.status_code == status and words in answer.json()["issue"][0]["diagnostics"], answer.text
        assert "Muster" not in answer.text
    url = web.root + "/fhir/DiagnosticReport"
    assert requests.post(url, data=b"{", headers={"Content-Type": "application/json"}, timeout=30).status_code == 400
    assert requests.post(url, data=b"<x/>", headers={"Content-Type": "text/xml"}, timeout=30).status_code == 415
    deep = b'{"a":' * 100_000
    assert requests.post(url, data=deep, headers={"Content-Type": "application/json"}, timeout=30).status_code == 400
    guarded = serve(api_tokens=("0123456789abcdef",))
    assert post(guarded, resource()).status_code == 401
    bearer = {"Authorization": "Bearer 0123456789abcdef"}
    assert post(guarded, resource(), headers=bearer).status_code == 201


@pytest.mark.parametrize(
    ("changes", "body"),
    [
        ({}, "Large pneumothorax."),
        ({"presentedForm": [form(pdf("Small effusion."), "application/pdf")]}, "Small effusion."),
        ({"presentedForm": [form(pdf("x"), "application/pdf"), form(b"Clear.", "text/plain")]}, "Clear."),
        ({"presentedForm": [form("<p>Größer.</p><p>Zwei.</p>".encode(), "text/html")]}, "Größer.\n\nZwei."),
        ({"presentedForm": [form(cda("Clear."), "application/hl7-cda+xml")]}, "FINDINGS:\nClear."),
        ({"presentedForm": [form("Größer.".encode("latin-1"), "text/plain; charset=iso-8859-1")]}, "Größer."),
        (NARRATIVE | {"conclusion": "Normal."}, "Clear.\n\nIMPRESSION:\nNormal."),
        (NARRATIVE | {"conclusion": "clear."}, "Clear."),
        (
            {"presentedForm": None, "conclusionCode": [coded("Pleural effusion (disorder)")]},
            "IMPRESSION:\nPleural effusion",
        ),
        (
            {"conclusionCode": [coded("Rib fracture"), coded("x") | {"text": "Mass"}, {"coding": [{}]}, 7]},
            "Large pneumothorax.\n\nIMPRESSION:\nRib fracture\nMass",
        ),
        ({"conclusionCode": [coded("Pneumothorax (disorder)")]}, "Large pneumothorax."),
        (
            NARRATIVE | {"conclusion": "Old fracture.", "conclusionCode": [coded("Fracture"), coded("Mass")]},
            "Clear.\n\nIMPRESSION:\nOld fracture.\n\nIMPRESSION:\nMass",
        ),
    ],
)
def test_forms_of_text(changes: dict[str, Any], body: str) -> None:
    (version,) = read_diagnostic_report(resource(**changes))
    assert version.body == body


def test_r5_and_odd_shapes() -> None:
    (version,) = read_diagnostic_report(
        resource(imagingStudy=None, study=[{"reference": f"ImagingStudy/{STUDY}"}], identifier="x", subject=[1, None])
    )
    assert (version.study_uid, version.document) == (STUDY, "r1")
    assert read_diagnostic_report(resource(status="registered")) == ()
    for odd in (
        None,
        3,
        "text",
        {"resourceType": "DiagnosticReport"},
        resource(contained=[[[]]], imagingStudy={"identifier": 7}),
    ):
        with pytest.raises(BadInput):
            read_diagnostic_report(odd)


def order(number: str, words: str) -> dict[str, Any]:
    kind = {"coding": [{"code": "ACSN"}]}
    return {"display": words, "identifier": {"type": kind, "value": number}}


SAME = "this version was here already"
SHARED = b"CT ABDOMEN:\nCyst of the liver.\n\nCT CHEST:\nLarge pneumothorax."


def test_a_report_of_several_studies_is_told_of_each(web: Web) -> None:
    add(web.catalogue, header(accession_number="A1", patient_key="\\p1"))
    add(web.catalogue, header(2, accession_number="A2", patient_key="\\p1"))
    named: dict[str, Any] = {"imagingStudy": None, "subject": {"identifier": {"value": "p1"}}}
    assert post(web, resource(SHARED, basedOn=[order("A1", "CT chest")], **named)).status_code == 201
    both = [order("A1", "CT chest"), order("A2", "CT abdomen")]
    assert post(web, resource(SHARED, "amended", 1, basedOn=both, **named)).status_code == 201
    held = [[report.body for report in web.catalogue.reports.of_study(f"2.25.{number}")] for number in (1, 2)]
    assert held == [["CT CHEST:\nLarge pneumothorax."], ["CT ABDOMEN:\nCyst of the liver."]]
    assert post(web, resource(SHARED, "amended", 1, basedOn=both, **named)).json()["issue"][0]["diagnostics"] == SAME
    for minute, kept in ((2, 1), (3, 2)):  # back to one study, and to the other one
        one = [order(f"A{kept}", "CT")]
        assert post(web, resource(b"Clear.", "corrected", minute, basedOn=one, **named)).status_code in (200, 201)
        held = [[report.body for report in web.catalogue.reports.of_study(f"2.25.{number}")] for number in (1, 2)]
        assert held == ([["Clear."], []] if kept == 1 else [[], ["Clear."]])
    late = resource(SHARED, "amended", 1, basedOn=both, **named)  # sent again, after what replaced it
    assert post(web, late).status_code == 200
    held = [[report.body for report in web.catalogue.reports.of_study(f"2.25.{number}")] for number in (1, 2)]
    assert held == [[], ["Clear."]]
    assert post(web, resource(SHARED, "amended", 4, basedOn=both, **named)).status_code in (200, 201)
    assert all(web.catalogue.reports.of_study(f"2.25.{number}") for number in (1, 2))
    assert post(web, resource(SHARED, "entered-in-error", 5, basedOn=both, **named)).status_code == 200
    assert not any(web.catalogue.reports.of_study(f"2.25.{number}") for number in (1, 2))


def test_a_part_that_comes_after_the_version_that_dropped_it_is_not_in_force(web: Web) -> None:
    for number in (1, 2):
        add(web.catalogue, header(number, accession_number=f"A{number}", patient_key="\\p1"))
    named: dict[str, Any] = {"imagingStudy": None, "subject": {"identifier": {"value": "p1"}}}
    both = [order("A1", "CT chest"), order("A2", "CT abdomen")]
    newer = resource(b"Clear.", "corrected", 2, basedOn=both[:1], **named)
    assert post(web, newer).status_code == 201
    assert "later version" in post(web, resource(SHARED, basedOn=both, **named)).json()["issue"][0]["diagnostics"]

    def held() -> list[list[str]]:
        return [[report.body for report in web.catalogue.reports.of_study(f"2.25.{number}")] for number in (1, 2)]

    assert held() == [["Clear."], []]
    assert post(web, resource(SHARED, "amended", 3, basedOn=both, **named)).status_code in (200, 201)
    assert held() == [["CT CHEST:\nLarge pneumothorax."], ["CT ABDOMEN:\nCyst of the liver."]]


def test_a_withdrawn_report_needs_no_study(web: Web) -> None:
    add(web.catalogue, header())
    assert post(web, resource()).status_code == 201
    answer = post(web, resource(status="entered-in-error", minute=1, imagingStudy=None))
    assert "withdrawn" in answer.json()["issue"][0]["diagnostics"] and texts(web.catalogue) == []
    assert "later version" in post(web, resource()).json()["issue"][0]["diagnostics"] and texts(web.catalogue) == []


def test_studies_of_one_report_are_named_by_their_uids_first() -> None:
    studies = [{"identifier": {"value": f"urn:oid:2.25.{number}"}} for number in (1, 2, 1)]
    found = read_diagnostic_report(resource(imagingStudy=studies, basedOn=[order("A1", ""), order("A2", "")]))
    assert [(version.study_uid, version.numbers, version.body) for version in found] == [
        ("2.25.1", (), "Large pneumothorax."),
        ("2.25.2", (), "Large pneumothorax."),
    ]
    assert [version.part for version in found] == ["2.25.1", "2.25.2"]


def test_a_body_that_is_too_large_is_refused(web: Web) -> None:
    body = io.BytesIO(b" " * ((32 << 20) + 10))
    headers = {"Content-Type": "application/fhir+json"}
    answer = requests.post(web.root + "/fhir/DiagnosticReport", data=body, headers=headers, timeout=120)
    assert answer.status_code == 413
