"""A sidebar's token opens its study and the pictures of cases like it; everything else stays closed to its holder."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import requests
from werkzeug.routing import Rule

from radir_pacs.catalogue import contexts
from radir_pacs.types import JobKind
from tests.dicom_files import radiograph
from tests.integration.conftest import Web, part10
from tests.integration.test_web_similar import archive, uid
from tests.integration.test_web_wado import path_of

SERVICE = "the-token-of-the-pacs"
SIGNED_IN = {"Authorization": f"Bearer {SERVICE}"}
OWN, OTHER = uid(0), uid(1)
QUESTION = {"anatomy": "left lung", "limit": "2"}
OPEN = ("/health/live", "/health/ready", "/favicon.ico", "/viewer/", "/ohif/")
VALUES = {"study": OTHER, "series": "1.2.3", "instance": "1.2.4", "frames": "1", "where": "00420011", "reader": "me"}
VALUES |= {"name": "panel.js", "filename": "radir.css", "ohif_chunk": "1.css"}


@pytest.fixture
def guarded(web: Web, serve: Callable[..., Web]) -> Web:
    """Seven studies behind a token."""
    archive(web)
    return serve(api_tokens=(SERVICE,))


def link(web: Web, **more: str) -> dict[str, str]:
    """The cookie of a browser that opened the sidebar on study 0."""
    body = {"StudyInstanceUID": OWN, **more}
    answer = requests.post(web.root + "/sidebar/context", json=body, headers=SIGNED_IN, timeout=30)
    assert answer.status_code == 201
    page = requests.get(answer.json()["url"].replace(web.settings.public_url, web.root), timeout=30)
    cookie = page.cookies["radir_context"]
    assert cookie is not None
    return {"radir_context": cookie}


def lines(answer: requests.Response) -> list[dict[str, Any]]:
    return [json.loads(line) for line in answer.text.splitlines()]


def address(rule: Rule) -> str:
    path = str(rule.rule)
    for argument in rule.arguments:
        for converter in ("", "path:", "ohif_chunk:"):
            path = path.replace(f"<{converter}{argument}>", VALUES.get(argument, "1"))
    return path


def test_its_own_study_is_read_whole(guarded: Web) -> None:
    cookies = link(guarded)
    for path in ("", "/metadata", "/series", "/instances", "/rendered", "/thumbnail"):
        answer = requests.get(f"{guarded.base}/studies/{OWN}{path}", cookies=cookies, timeout=30)
        assert answer.status_code == 200, path
    assert requests.get(f"{guarded.root}/api/studies/{OWN}", cookies=cookies, timeout=30).status_code == 200
    assert requests.get(f"{guarded.root}/api/regions?study={OWN}", cookies=cookies, timeout=30).status_code == 200


def test_a_new_link_opens_whatever_cookie_an_earlier_one_left(guarded: Web) -> None:
    body = {"StudyInstanceUID": OWN}
    opened = requests.post(guarded.root + "/sidebar/context", json=body, headers=SIGNED_IN, timeout=30).json()
    page = opened["url"].replace(guarded.settings.public_url, guarded.root)
    answer = requests.get(page, cookies={"radir_context": "a-token-that-ended"}, timeout=30)
    assert answer.status_code == 200
    assert answer.cookies["radir_context"] == opened["context"]
    assert requests.get(page + "x", cookies=link(guarded), timeout=30).status_code == 401, "nor does a cookie help it"


def test_how_a_job_of_its_study_goes_is_told(guarded: Web) -> None:
    """The sidebar saves a report as a job and watches it."""
    cookies = link(guarded)
    own, other = (guarded.catalogue.jobs.enqueue(JobKind.PULL, study) for study in (OWN, OTHER))

    def status(study: str, job: int) -> int:
        return requests.get(f"{guarded.root}/api/studies/{study}/jobs/{job}", cookies=cookies, timeout=30).status_code

    assert [status(OWN, own), status(OWN, other), status(OTHER, other)] == [200, 404, 403]


def test_searches_see_no_other_study(guarded: Web) -> None:
    cookies = link(guarded)
    for query in ("", "?PatientName=*", f"?StudyInstanceUID={OTHER}", f"?StudyInstanceUID={OWN}", "?limit=101"):
        for level in ("studies", "series", "instances"):
            answer = requests.get(f"{guarded.base}/{level}{query}", cookies=cookies, timeout=30)
            found = {row["0020000D"]["Value"][0] for row in answer.json()} if answer.status_code == 200 else set()
            assert found <= {OWN} and (OTHER in query or found == {OWN}), (level, query)
    similar = requests.get(guarded.base + "/studies", {"similarto": OWN, **QUESTION}, cookies=cookies, timeout=30)
    assert similar.status_code == 403
    assert (
        requests.get(f"{guarded.base}/studies/{OWN}/similar", QUESTION, cookies=cookies, timeout=30).status_code == 403
    )


def test_pictures_of_cases_open_when_they_were_answered(guarded: Web) -> None:
    cookies = link(guarded)
    picture = f"{guarded.base}/studies/{OTHER}/rendered"
    assert requests.get(picture, cookies=cookies, timeout=30).status_code == 403
    answer = requests.get(f"{guarded.root}/api/studies/{OWN}/similar", QUESTION, cookies=cookies, timeout=30)
    assert [line["study"] for line in lines(answer) if line["type"] == "case"] == [uid(1), uid(2)]
    assert "Name1" not in answer.text
    assert requests.get(picture, cookies=cookies, timeout=30).status_code == 200
    for path in ("", "/metadata", "/series", "/instances"):
        answer = requests.get(f"{guarded.base}/studies/{OTHER}{path}", cookies=cookies, timeout=30)
        assert answer.status_code == 403, path
    assert requests.get(f"{guarded.base}/studies/{uid(5)}/rendered", cookies=cookies, timeout=30).status_code == 403
    another = link(guarded)
    assert requests.get(picture, cookies=another, timeout=30).status_code == 403, "tokens open nothing for each other"


def test_slices_are_those_of_its_study_and_of_cases_that_were_answered(guarded: Web) -> None:
    cookies = link(guarded)

    def status(study: str, case: str | None = None) -> int:
        asked = {"series": "1.2.3", **({} if case is None else {"case": case})}
        url = f"{guarded.root}/api/studies/{study}/similar/slices"
        return requests.get(url, asked, cookies=cookies, timeout=30).status_code

    assert [status(OWN), status(OWN, ""), status(OWN, OWN), status(OWN, OTHER)] == [200, 200, 200, 403]
    requests.get(f"{guarded.root}/api/studies/{OWN}/similar", QUESTION, cookies=cookies, timeout=30)
    assert [status(OWN, OTHER), status(OWN, uid(5)), status(OTHER, OTHER), status(OTHER, OWN)] == [200, 403, 403, 403]


def test_what_can_be_asked_for_is_no_secret_and_the_addresses_are(guarded: Web) -> None:
    cookies = link(guarded)
    assert requests.get(f"{guarded.root}/api/findings", cookies=cookies, timeout=30).status_code == 200
    assert requests.get(f"{guarded.root}/developers", cookies=cookies, timeout=30).status_code == 403


def test_reports_of_other_cases_stay_closed(guarded: Web) -> None:
    """A picture names nobody; a rendered report names its patient."""
    cookies = link(guarded)
    made = {}
    for study, patient in ((OWN, "P0"), (OTHER, "P1")):
        made[study] = radiograph(
            StudyInstanceUID=study,
            PatientID=patient,
            SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11",
            Modality="SR",
        )
        for keyword in ("PixelData", "Rows", "Columns"):
            delattr(made[study], keyword)
        headers = SIGNED_IN | {"Content-Type": "application/dicom"}
        sent = requests.post(f"{guarded.base}/studies", part10(made[study]), headers=headers, timeout=30)
        assert sent.status_code == 200
    requests.get(f"{guarded.root}/api/studies/{OWN}/similar", QUESTION, cookies=cookies, timeout=30)
    for study, status in ((OWN, 200), (OTHER, 403)):
        answer = requests.get(f"{guarded.base}{path_of(made[study])}/rendered", cookies=cookies, timeout=30)
        assert answer.status_code == status, study
    by_query = {"requestType": "WADO", "objectUID": made[OTHER].SOPInstanceUID}
    assert requests.get(f"{guarded.root}/wado", by_query, cookies=cookies, timeout=30).status_code == 403


def test_a_token_does_not_page_through_the_archive(guarded: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contexts, "MOST_CASES", 3)
    cookies = link(guarded)
    for offset, status in ((0, 200), (2, 413), (0, 200)):
        asked = {**QUESTION, "offset": str(offset)}
        answer = requests.get(f"{guarded.root}/api/studies/{OWN}/similar", asked, cookies=cookies, timeout=30)
        assert answer.status_code == status, offset
    assert requests.get(f"{guarded.base}/studies/{uid(3)}/rendered", cookies=cookies, timeout=30).status_code == 403


def test_nothing_is_stored_or_deleted(guarded: Web) -> None:
    cookies = link(guarded)
    headers = {"Content-Type": "application/dicom"}
    body = part10(radiograph(StudyInstanceUID=OWN))
    for method, path in (
        ("POST", "/studies"),
        ("POST", f"/studies/{OWN}"),
        ("POST", f"/studies/{OWN}/similar"),
        ("POST", f"/studies/{OTHER}/similar"),
        ("POST", f"/studies/{OWN}/complete"),
        ("DELETE", f"/studies/{OWN}"),
        ("DELETE", f"/studies/{OTHER}"),
    ):
        answer = requests.request(method, guarded.base + path, data=body, headers=headers, cookies=cookies, timeout=30)
        assert answer.status_code == 403, (method, path)
    assert (
        requests.post(
            f"{guarded.root}/api/studies/{OTHER}/report?anatomy=heart", json={}, cookies=cookies, timeout=30
        ).status_code
        == 403
    )


def judgement(reader: str, verdict: str = "UP") -> dict[str, Any]:
    asked = {"case": OTHER, "region": "left_lung", "model": "test-model", "rank": 1, "score": 0.9}
    return {**asked, "verdict": verdict, "reader": reader}


def test_nobody_judges_in_another_readers_name(guarded: Web) -> None:
    url = f"{guarded.root}/api/studies/{OWN}/feedback"
    assert requests.post(url, json=judgement("dr-a"), headers=SIGNED_IN, timeout=30).status_code == 204
    unnamed, named = link(guarded), link(guarded, reader="dr-b")
    for cookies in (unnamed, named):
        assert requests.get(f"{url}/dr-a", cookies=cookies, timeout=30).json() == [], "another's are not read"
        assert requests.post(url, json=judgement("dr-a", "DOWN"), cookies=cookies, timeout=30).status_code == 204
        other = f"{guarded.root}/api/studies/{OTHER}/feedback"
        assert requests.post(other, json=judgement("me"), cookies=cookies, timeout=30).status_code == 403
    kept = {(row.reader, row.verdict) for row in guarded.catalogue.feedback.all()}
    assert kept == {("dr-a", "UP"), ("link:dr-a", "DOWN"), ("dr-b", "DOWN")}


def test_every_other_route_is_closed(guarded: Web) -> None:
    """Also those that somebody adds: what names no study but the token's own answers 403, or needs no token at all."""
    cookies = link(guarded)
    narrowed = {"/dicom-web/studies", "/dicom-web/series", "/dicom-web/instances"}
    free = {"/api/regions", "/api/findings", "/api/typed", "/static/<path:filename>", "/sidebar"}
    asked = 0
    for rule in guarded.app.url_map.iter_rules():
        path = address(rule)
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            if path.startswith(OPEN) or "ohif" in str(rule.rule):
                continue
            if method == "GET" and (str(rule.rule) in free or str(rule.rule) in narrowed):
                continue
            answer = requests.request(method, guarded.root + path, cookies=cookies, timeout=30)
            assert answer.status_code == 403, (method, path, answer.status_code)
            asked += 1
    assert asked > 30
