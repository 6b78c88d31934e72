"""``radir pull-fhir``: a scripted FHIR server with pages and faults."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from radir_pacs.catalogue import Catalogue
from radir_pacs.errors import BadInput, PeerFailed
from radir_pacs.intake.fhir_authorization import FixedAuthorization
from radir_pacs.intake.fhir_pull import FhirPull
from tests.catalogue_material import add, header
from tests.fhir_server import Server, page, scripted
from tests.integration.test_web_fhir import form, resource

STUDY = "2.25.1"


def pull(server: Server, catalogue: Catalogue, folder: Path, **said: Any) -> FhirPull:
    waits: list[float] = said.pop("waits", [])
    return FhirPull(server.url, catalogue.report_versions, folder, wait=waits.append, **said)


def test_pages_faults_and_the_next_pull(catalogue: Catalogue, tmp_path: Path) -> None:
    add(catalogue, header())
    waits: list[float] = []
    first, second = resource(b"Pneumothorax."), resource(b"No pneumothorax.", "corrected", 5)
    broken = resource(status="done", id="r9", identifier=None)
    with scripted(
        (503, {"Retry-After": "7"}, b""),
        (200, {}, page(first, broken, following="HERE/page2")),
        (0, {}, b""),
        (200, {}, page(second)),
        (200, {}, page()),
    ) as server:
        puller = pull(server, catalogue, tmp_path, waits=waits, authorization=FixedAuthorization("Bearer t"))
        done = puller.run()
        assert (done.received, done.pages) == ({"NEW": 1, "REPLACED": 1}, 2)
        assert done.unusable == ["r9: DiagnosticReport.status is no status of R4 or R5"]
        assert [report.body for report in catalogue.reports.of_study(STUDY)] == ["No pneumothorax."]
        assert waits[0] == 7 and server.asked[0].headers["Authorization"] == "Bearer t"
        asked = parse_qs(urlsplit(server.asked[0].path).query)
        assert "_lastUpdated" not in asked and "DiagnosticReport:subject" in asked["_include"]
        assert puller.run().received == {}
        assert parse_qs(urlsplit(server.asked[-1].path).query)["_lastUpdated"] == ["ge2026-03-01T08:05:00Z"]


def test_resources_beside_a_report_name_its_study(catalogue: Catalogue, tmp_path: Path) -> None:
    add(catalogue, header(accession_number="A1", patient_key="\\p1"))
    patient = {"resourceType": "Patient", "id": "7", "identifier": [{"value": "p1"}]}
    order = {"resourceType": "ServiceRequest", "id": "8", "identifier": [{"value": "A1"}]}
    named: dict[str, Any] = {"subject": {"reference": "Patient/7"}, "basedOn": [{"reference": "ServiceRequest/8"}]}
    with scripted((200, {}, page(resource(imagingStudy=None, **named), patient, order))) as server:
        assert pull(server, catalogue, tmp_path).run().received == {"NEW": 1}


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_form_that_stands_elsewhere_is_fetched(wrapped: bool, catalogue: Catalogue, tmp_path: Path) -> None:
    add(catalogue, header())
    forms = [{"contentType": "application/pdf", "url": "Binary/2"}, {"contentType": "text/html", "url": "Binary/1"}]
    html = b"<p>Large <b>pneumothorax</b>.</p>"
    binary = {"resourceType": "Binary", **form(html, "text/html")}
    kind = "application/fhir+json" if wrapped else "text/html; charset=utf-8"
    gone = resource(id="r2", presentedForm=[{"url": "Binary/3"}], text={"div": "<div>Told.</div>"})
    strange = resource(id="r3", presentedForm=[{"url": "http://192.0.2.1/x"}], identifier=None)
    with scripted(
        (200, {}, page(resource(presentedForm=forms), gone, strange)),
        (503, {}, b""),
        (200, {"Content-Type": kind}, binary if wrapped else html),
        (404, {}, b""),
    ) as server:
        done = pull(server, catalogue, tmp_path, authorization=FixedAuthorization("Bearer t")).run()
    assert [report.body for report in catalogue.reports.of_study(STUDY)] == ["Large pneumothorax."]
    assert [reason.partition(":")[0] for reason in done.unusable] == ["r2", "r3"] and "404" in done.unusable[0]
    asked = server.asked[2]
    assert (asked.path, asked.headers["Accept"], asked.headers["Authorization"]) == (
        "/r4/Binary/1",
        "text/html",
        "Bearer t",
    )
    assert len(server.asked) == 4, "nothing of another server"


@pytest.mark.parametrize("fails", [[(500, {}, b"")] * 5, [(401, {}, b"")], [(403, {}, b"")]])
def test_a_form_that_does_not_come_holds_up_no_other_report(
    fails: list[Any], catalogue: Catalogue, tmp_path: Path
) -> None:
    add(catalogue, header())
    elsewhere = resource(presentedForm=[{"contentType": "text/plain", "url": "Binary/1"}], id="r9", identifier=None)
    with scripted(
        (200, {}, page(elsewhere, resource(minute=5))),
        *fails,
        (200, {}, page(elsewhere, resource(minute=5))),
        (200, {"Content-Type": "text/plain"}, b"Clear."),
    ) as server:
        puller = pull(server, catalogue, tmp_path)
        done = puller.run()
        assert done.received == {"NEW": 1} and [said[:4] for said in done.unusable] == ["r9: "]
        done = puller.run()
        assert (done.received, done.unusable) == ({"NEW": 1, "SAME": 1}, [])
        assert "_lastUpdated" not in parse_qs(urlsplit(server.asked[1 + len(fails)].path).query)


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([(401, {}, b"")], "401: it does not accept our authorization"),
        ([(403, {}, b"")], "--authorization-file"),
        ([(302, {"Location": "http://192.0.2.1/"}, b"")], "302"),
        ([(200, {}, b"<html>")], "no JSON"),
        ([(200, {}, {"resourceType": "OperationOutcome"})], "no Bundle"),
        ([(200, {}, page(following="http://192.0.2.1/next"))], "elsewhere"),
        ([(500, {}, b"")] * 5, "5 attempts"),
    ],
)
def test_a_server_that_misbehaves_ends_the_pull(
    answers: list[Any], words: str, catalogue: Catalogue, tmp_path: Path
) -> None:
    with scripted(*answers) as server, pytest.raises(PeerFailed, match=words):
        pull(server, catalogue, tmp_path).run()
    assert list(tmp_path.iterdir()) == [], "the next pull begins where this one did"


def test_an_address_is_an_address(catalogue: Catalogue, tmp_path: Path) -> None:
    with pytest.raises(BadInput):
        FhirPull("file:///etc/passwd", catalogue.report_versions, tmp_path)
