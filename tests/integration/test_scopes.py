"""Rights inside the search: what a token's scope leaves out does not exist for its bearer, by whatever route."""

from __future__ import annotations

import json
from datetime import date
from io import BytesIO
from typing import Any

import numpy as np
import pydicom
import pytest
import requests

from radir_pacs.access.references import reference
from radir_pacs.callers import AuditEvent, Role
from radir_pacs.errors import NotFound
from radir_pacs.scopes import Scope, Withheld
from radir_pacs.types import Encoding, ImageKind
from tests.catalogue_material import TESTER, serve_model
from tests.dicom_files import radiograph
from tests.integration.conftest import Web, part10
from tests.integration.test_tokens import bearing, clear
from tests.integration.test_web_similar import MODEL as WEB_MODEL
from tests.integration.test_web_similar import REGIONS as WEB_REGIONS
from tests.integration.test_web_similar import at_angle

NORTH, SOUTH = "North", "South"
COUNT = 24


class House:
    """Two hospitals in one installation: studies 0, 2, 4 … are of North, 1, 3, 5 … of South, alike in turn."""

    def __init__(self, web: Web) -> None:
        self.web = web
        serve_model(web.catalogue, WEB_MODEL, ImageKind.CXR, 4, {})
        self.images = []
        tokens = web.catalogue.access_tokens
        self.tokens = {
            site: tokens.create(f"PACS {site}", Role.SERVICE, by=TESTER, scope=Scope(sites=frozenset({site})))
            for site in (NORTH, SOUTH)
        }
        self.administrator = tokens.create("admin", Role.ADMINISTRATOR, by=TESTER)
        clear(web)
        for number in range(COUNT):
            image = radiograph(
                StudyInstanceUID=f"1.2.{number}",
                Modality="DX",
                PatientID=f"P{number}",
                PatientName=f"Name{number}^X",
                PatientBirthDate=f"19{40 + number}0203",
                AccessionNumber=f"ACC-{number}",
                StudyDate=f"2024{1 + number % 12:02d}01",
            )
            answer = self.store(image, self.tokens[self.site(number)])
            assert answer.status_code == 200, answer.text
            vectors = np.stack([at_angle(number)] * len(WEB_REGIONS))
            kept = Encoding(
                study_uid=image.StudyInstanceUID,
                series_uid=image.SeriesInstanceUID,
                sop_uid=image.SOPInstanceUID,
                model_id=WEB_MODEL,
                regions=WEB_REGIONS,
                vectors=vectors,
            )
            assert web.catalogue.encodings.save(kept, 1)
            self.images.append(image)

    @staticmethod
    def site(number: int) -> str:
        return SOUTH if number % 2 else NORTH

    def store(self, image: Any, token: str) -> requests.Response:
        headers = {"Content-Type": "application/dicom", **bearing(token)}
        return requests.post(self.web.base + "/studies", part10(image), headers=headers, timeout=30)

    def token(self, role: Role, scope: Scope = Scope(), **more: Any) -> str:  # noqa: B008
        name = f"reader {len(self.web.catalogue.access_tokens.all())}"
        token = self.web.catalogue.access_tokens.create(name, role, by=TESTER, scope=scope, **more)
        clear(self.web)
        return token

    def rows(self, token: str, path: str = "/studies/1.2.0/similar?limit=10", **options: Any) -> list[dict[str, Any]]:
        answer = self.web.get(path, headers=bearing(token), **options)
        assert answer.status_code in (200, 204), answer.text
        return answer.json() if answer.content else []


@pytest.fixture
def house(web: Web) -> House:
    return House(web)


def uids(rows: list[dict[str, Any]]) -> list[str]:
    return [row["0020000D"]["Value"][0] for row in rows]


def test_ten_asked_are_ten_allowed(house: House) -> None:
    reader = house.token(Role.RADIOLOGIST, Scope(sites=frozenset({NORTH})))
    answer = house.web.get("/studies/1.2.0/similar?limit=10", headers=bearing(reader))
    assert uids(answer.json()) == [f"1.2.{number}" for number in range(2, 22, 2)]
    assert "There are 1 additional results" in answer.headers["Warning"]
    everything = house.rows(house.administrator)
    assert uids(everything) == [f"1.2.{number}" for number in range(1, 11)]
    months = house.token(Role.RADIOLOGIST, Scope(since=date(2024, 3, 1), until=date(2024, 4, 30)))
    assert uids(house.rows(months, "/studies/1.2.2/similar")) == ["1.2.3", "1.2.14", "1.2.15"]
    ct = house.token(Role.RADIOLOGIST, Scope(modalities=frozenset({"CT"})))
    assert house.web.get("/studies/1.2.0/similar", headers=bearing(ct)).status_code == 404


def test_a_report_refers_to_allowed_cases_only(house: House) -> None:
    reader = house.token(Role.RADIOLOGIST, Scope(sites=frozenset({NORTH})))
    answer = house.web.get("/studies/1.2.0/similar?limit=10", "application/dicom", headers=bearing(reader))
    assert answer.status_code == 200
    said = str(pydicom.dcmread(BytesIO(answer.content)))
    own, foreign = ({image.SOPInstanceUID for image in house.images[first::2]} for first in (0, 1))
    assert sum(uid in said for uid in own) >= 10 and not any(uid in said for uid in foreign)


def test_lists_counts_references_and_judgements_are_within_the_scope(house: House) -> None:
    token = house.token(Role.RADIOLOGIST, Scope(sites=frozenset({SOUTH})))
    own = [f"1.2.{number}" for number in range(1, COUNT, 2)]
    assert sorted(uids(house.rows(token, "/studies?limit=100"))) == sorted(own)
    assert {row["0020000D"]["Value"][0] for row in house.rows(token, "/instances?limit=100")} == set(own)
    assert house.rows(token, "/studies?PatientName=Name0*") == []
    assert uids(house.rows(token, "/studies?PatientName=Name1^X")) == ["1.2.1"]
    status = requests.get(house.web.root + "/status", headers=bearing(token), timeout=30).json()
    assert sum(status["studies"].values()) == COUNT // 2
    assert status["encodings"] == {} and status["jobs"] == []
    page = requests.get(house.web.root + "/?find=P2", headers=bearing(token), timeout=30)
    assert page.status_code == 200 and "1.2.2" not in page.text
    for number, is_found in ((1, True), (2, False)):
        name = reference(f"1.2.{number}", house.web.settings)
        page = requests.get(house.web.root + f"/?find={name}", headers=bearing(token), timeout=30)
        assert (f"/studies/1.2.{number}" in page.text) == is_found
    judgement: dict[str, Any] = {
        "region": "chest",
        "model": WEB_MODEL,
        "rank": 1,
        "score": 0.9,
        "verdict": "UP",
        "reader": "r",
    }
    judged = house.web.root + "/api/studies/1.2.1/feedback"
    for case, status_code in (("1.2.3", 204), ("1.2.2", 404)):
        answer = requests.post(judged, json={**judgement, "case": case}, headers=bearing(token), timeout=30)
        assert answer.status_code == status_code
        answer = requests.post(
            judged, json={**judgement, "case": case}, headers=bearing(house.administrator), timeout=30
        )
        assert answer.status_code == 204
    seen = requests.get(judged + "/r", headers=bearing(token), timeout=30).json()
    assert [row["case"] for row in seen] == ["1.2.3"]


def test_a_link_shows_what_its_opener_may_see(house: House) -> None:
    body = {"StudyInstanceUID": "1.2.0"}
    opened = requests.post(
        house.web.root + "/sidebar/context", json=body, headers=bearing(house.tokens[NORTH]), timeout=30
    )
    browser = requests.Session()
    assert browser.get(house.web.root + f"/sidebar?context={opened.json()['context']}", timeout=30).status_code == 200
    lines = browser.get(house.web.root + "/api/studies/1.2.0/similar?limit=20", timeout=30).text.splitlines()
    cases = [line["study"] for line in map(json.loads, lines) if line["type"] == "case"]
    assert cases == [f"1.2.{number}" for number in range(2, COUNT, 2)]
    refused = requests.post(
        house.web.root + "/sidebar/context", json=body, headers=bearing(house.tokens[SOUTH]), timeout=30
    )
    assert refused.status_code == 404


def test_nobody_looks_into_a_study_by_adding_to_it(house: House) -> None:
    intruder = radiograph(StudyInstanceUID="1.2.0", PatientID="P0")
    answer = house.store(intruder, house.tokens[SOUTH])
    assert answer.status_code == 409 and "another site" in answer.text
    told = [answer.json()["00081198"]["Value"][0]["00000902"]["Value"][0]]
    assert house.web.catalogue.studies.get("1.2.0").sites == (NORTH,)
    several = house.token(Role.SERVICE, Scope(sites=frozenset({NORTH, SOUTH})))
    answer = house.store(radiograph(), several)
    assert answer.status_code == 409 and "several sites" in answer.text
    told.append(answer.json()["00081198"]["Value"][0]["00000902"]["Value"][0])
    assert [len(comment) < 64 for comment in told] == [True, True], "an Error Comment (LO) is cut off there"
    early = house.token(Role.SERVICE, Scope(until=date(2024, 1, 31)))
    for study, code in (("1.2.12", 200), ("1.2.1", 409), ("1.2.77", 200)):  # of January, of February, new
        assert house.store(radiograph(StudyInstanceUID=study), early).status_code == code
    assert house.web.catalogue.studies.get("1.2.1").sites == (SOUTH,)
    assert house.store(intruder, house.administrator).status_code == 200
    assert house.web.catalogue.studies.get("1.2.0").sites == (NORTH, "stow")
    assert house.web.get("/studies/1.2.0/similar", headers=bearing(house.tokens[NORTH])).status_code == 404


def test_rows_name_other_patients_only_where_the_token_says_so(house: House) -> None:
    for token, names in ((house.token(Role.RADIOLOGIST), False), (house.token(Role.RADIOLOGIST, names=True), True)):
        row = house.rows(token)[0]
        assert ("Name1" in json.dumps(row)) == names and ("19410203" in json.dumps(row)) == names
        assert (row["00100020"]["Value"] == ["P1"]) == names and row["00100020"]["Value"][0].startswith("P")
        assert ("00080050" in row) == names
        assert "Name1" in json.dumps(house.rows(token, "/studies?StudyInstanceUID=1.2.1"))


def test_a_researcher_sees_pseudonyms_and_what_was_compared(house: House) -> None:
    token, image = house.token(Role.RESEARCHER), house.images[1]
    other = radiograph(StudyInstanceUID="1.2.1", PatientID="P1")
    assert house.store(other, house.tokens[SOUTH]).status_code == 200
    found = house.rows(token, "/studies?limit=100") + house.rows(token)
    text = json.dumps(found)
    birth_dates = [f"19{40 + number}0203" for number in range(COUNT)]  # whole: times have any four digits
    assert len(found) == COUNT + 10 and not any(word in text for word in ("Name", "ACC-", '"P1"', *birth_dates))
    assert len({row["00100020"]["Value"][0] for row in found}) == COUNT, "a pseudonym for each patient"
    headers = bearing(token)
    for key in ("PatientName=Name1*", "PatientID=P1", "AccessionNumber=ACC-1", "00101000=4711"):
        assert house.web.get(f"/studies?{key}", headers=headers).status_code == 400
        assert house.web.get(f"/studies/1.2.0/similar?{key}", headers=headers).status_code == 400
    assert house.web.get("/studies/1.2.0/similar", "application/dicom", headers=headers).status_code == 403
    for shown, status in ((image, 200), (other, 404)):
        where = f"/studies/1.2.1/series/{shown.SeriesInstanceUID}/instances/{shown.SOPInstanceUID}"
        assert house.web.get(where + "/rendered", headers=headers).status_code == status
        assert house.web.get(where, headers=headers).status_code == 403
    sidebar = requests.get(house.web.root + "/api/studies/1.2.0", headers=headers, timeout=30)
    assert sidebar.status_code == 200 and sidebar.json()["patient"] is None
    assert sidebar.json()["jobs_before"] is not None
    north = bearing(house.token(Role.RADIOLOGIST, Scope(sites=frozenset({NORTH}))))
    assert requests.get(house.web.root + "/api/studies/1.2.0", headers=north, timeout=30).json()["jobs_before"] is None


def test_withheld_patients_leave_every_answer(house: House) -> None:
    researcher, reader = house.token(Role.RESEARCHER), house.token(Role.RADIOLOGIST)
    house.web.catalogue.withheld.add("P1", Withheld.FROM_RESEARCH, by=TESTER, reason="no consent")
    house.web.catalogue.withheld.add("P2", Withheld.FROM_ALL, by=TESTER)
    house.web.catalogue.withheld.add("unborn", Withheld.FROM_ALL, by=TESTER)
    clear(house.web)
    assert uids(house.rows(researcher))[:2] == ["1.2.3", "1.2.4"] and len(house.rows(researcher)) == 10
    assert uids(house.rows(reader))[:2] == ["1.2.1", "1.2.3"]
    assert uids(house.rows(house.administrator))[:2] == ["1.2.1", "1.2.2"]
    assert "1.2.2" not in uids(house.rows(reader, "/studies?limit=100"))
    assert house.web.get("/studies/1.2.2/metadata", headers=bearing(reader)).status_code == 404
    late = radiograph(StudyInstanceUID="1.2.500", PatientID="unborn")
    assert house.store(late, house.administrator).status_code == 200
    assert house.rows(reader, "/studies?PatientID=unborn") == []
    assert len(house.rows(house.administrator, "/studies?PatientID=unborn")) == 1
    house.web.catalogue.withheld.remove("P2", by=TESTER)
    with pytest.raises(NotFound):
        house.web.catalogue.withheld.remove("P2", by=TESTER)
    clear(house.web)
    assert uids(house.rows(reader))[:2] == ["1.2.1", "1.2.2"]
    noted = house.web.catalogue.audit.events(patient_id="P2", event=AuditEvent.WITHHELD)
    assert len(noted) == 1 and noted[0].detail["degree"] == "FROM_ALL"


def test_a_report_for_a_foreign_study_is_refused(house: House) -> None:
    def send(study: str | None, site: str = NORTH, document: str | None = None, **said: Any) -> int:
        body: dict[str, Any] = {
            "resourceType": "DiagnosticReport",
            "status": "final",
            "identifier": [{"value": document or f"R-{study}"}],
            "code": {"text": "CT"},
            "issued": "2024-05-01T10:00:00Z",
            "imagingStudy": [{"identifier": {"system": "urn:dicom:uid", "value": f"urn:oid:{study}"}}],
            "presentedForm": [{"contentType": "text/plain", "data": "VGV4dC4="}],
        } | said
        headers = {"Content-Type": "application/fhir+json", **bearing(house.tokens[site])}
        return requests.post(
            house.web.root + "/fhir/DiagnosticReport", json=body, headers=headers, timeout=30
        ).status_code

    def of_number(number: int) -> dict[str, Any]:
        order = {"identifier": [{"value": f"ACC-{number}", "type": {"coding": [{"code": "ACSN"}]}}]}
        patient = {"resourceType": "Patient", "id": "p", "identifier": [{"value": f"P{number}"}]}
        return {
            "imagingStudy": None,
            "contained": [{"resourceType": "ServiceRequest", "id": "o", **order}, patient],
            "basedOn": [{"reference": "#o"}],
            "subject": {"reference": "#p"},
        }

    assert [send(study) for study in ("1.2.0", "1.2.1", "1.2.999")] == [201, 404, 404]
    later = {"status": "entered-in-error", "issued": "2024-05-01T11:00:00Z"}
    assert send("1.2.1", SOUTH, "R-1.2.0", **later) == 200, "a document of its own, whatever North calls one of its"
    assert [report.body for report in house.web.catalogue.reports.of_study("1.2.0")] == ["Text."]
    assert send(None, SOUTH, "new", **of_number(0)) == 404 and send(None, SOUTH, "new", **of_number(98)) == 404
    assert send(None, NORTH, "by number", **of_number(0)) in (200, 201)
    assert house.web.catalogue.report_versions.waiting() == ()
    nameless = {"imagingStudy": None} | later
    assert send("1.2.0", NORTH, "N") == 201 and send(None, SOUTH, "N", **nameless) == 404
    assert send(None, NORTH, "N", **nameless) == 200, "its own, though it names no study"
    assert send("1.2.0", NORTH, "R-1.2.0", **later) == 200
    both = [{"identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:{uid}"}]} for uid in ("1.2.0", "1.2.1")]
    assert send(None, NORTH, "both", imagingStudy=both) == 404
    stored = house.web.catalogue.audit.events(study_uid="1.2.0", event=AuditEvent.STORED)
    assert sum(event.detail.get("outcome") is not None for event in stored) == 5, "each names the study it changed"


def test_reports_of_two_sites_may_have_one_id(house: House) -> None:
    """A server's own id names a report among its own: another hospital's report 1 is none of its versions."""
    for site, study in ((NORTH, "1.2.0"), (SOUTH, "1.2.1")):
        body: dict[str, Any] = {
            "resourceType": "DiagnosticReport",
            "id": "1",
            "status": "final",
            "issued": "2024-05-01T10:00:00Z",
            "imagingStudy": [{"identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:{study}"}]}],
            "presentedForm": [{"contentType": "text/plain", "data": "VGV4dC4="}],
        }
        headers = {"Content-Type": "application/fhir+json", **bearing(house.tokens[site])}
        answer = requests.post(house.web.root + "/fhir/DiagnosticReport", json=body, headers=headers, timeout=30)
        assert answer.status_code == 201
    for study in ("1.2.0", "1.2.1"):
        assert [report.body for report in house.web.catalogue.reports.of_study(study)] == ["Text."]
