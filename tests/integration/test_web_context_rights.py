"""A sidebar's token opens its study and the pictures of cases like it; everything else stays closed to its holder."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import psycopg
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
OPEN = (
    "/sign-in",
    "/health/live",
    "/health/ready",
    "/favicon.ico",
    "/viewer/",
    "/ohif/",
    "/admin/static/",
    "/admin/sign-in",
)
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


def ask_for_cases(web: Web, cookies: dict[str, str]) -> list[str]:
    """The studies of the cases that the sidebar shows, which its token sees from now on."""
    answer = requests.get(f"{web.root}/api/studies/{OWN}/similar", QUESTION, cookies=cookies, timeout=30)
    return [line["study"] for line in lines(answer) if line["type"] == "case"]


def lines(answer: requests.Response) -> list[dict[str, Any]]:
    return [json.loads(line) for line in answer.text.splitlines()]


def address(rule: Rule) -> str:
    path = str(rule.rule)
    for argument in rule.arguments:
        for converter in ("", "int:", "path:", "ohif_chunk:"):
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


def test_of_a_case_that_was_answered_the_picture_that_was_compared_opens(guarded: Web) -> None:
    cookies = link(guarded)
    (compared,) = guarded.catalogue.instances.of_study(OTHER)
    same_series = radiograph(StudyInstanceUID=OTHER, PatientID="P1", SeriesInstanceUID=compared.series_uid)
    other_series = radiograph(StudyInstanceUID=OTHER, PatientID="P1")
    for image in (same_series, other_series):
        headers = SIGNED_IN | {"Content-Type": "application/dicom"}
        assert requests.post(f"{guarded.base}/studies", part10(image), headers=headers, timeout=30).status_code == 200
    shown = f"/studies/{OTHER}/series/{compared.series_uid}/instances/{compared.sop_uid}"

    def status(path: str, with_cookies: dict[str, str] = cookies) -> int:
        return requests.get(guarded.base + path, cookies=with_cookies, timeout=30).status_code

    assert status(shown + "/rendered") == 403
    asked = requests.get(f"{guarded.root}/api/studies/{OWN}/similar", QUESTION, cookies=cookies, timeout=30)
    cases = [line for line in lines(asked) if line["type"] == "case"]
    assert [case["study"] for case in cases] == [uid(1), uid(2)]
    assert "Name1" not in asked.text
    for address in (cases[0]["thumbnail"], cases[0]["picture"], cases[0]["query"]["picture"]):
        assert requests.get(guarded.root + address, cookies=cookies, timeout=30).status_code == 200, address
    for path in ("/rendered", "/thumbnail", "/frames/1/rendered"):
        assert status(shown + path) == 200, path
    for path in ("", "/metadata", "/frames/1"):
        assert status(shown + path) == 403, path
    for image in (same_series, other_series):
        assert status(path_of(image) + "/rendered") == 403, "the study holds it, and no answer showed it"
    for path in ("", "/metadata", "/series", "/instances", "/rendered", "/thumbnail"):
        assert status(f"/studies/{OTHER}{path}") == 403, path
    assert status(f"/studies/{OTHER}/series/{compared.series_uid}/rendered") == 403
    (unasked,) = guarded.catalogue.instances.of_study(uid(5))
    assert status(f"/studies/{uid(5)}/series/{unasked.series_uid}/instances/{unasked.sop_uid}/rendered") == 403
    assert status(shown + "/rendered", link(guarded)) == 403, "tokens open nothing for each other"


def test_of_a_ct_every_slice_of_the_series_that_was_compared_opens(guarded: Web) -> None:
    """The comparison scrolls through it."""
    cookies = link(guarded)
    (compared,) = guarded.catalogue.instances.of_study(OTHER)
    ask_for_cases(guarded, cookies)
    picture = f"{guarded.base}/studies/{OTHER}/series/{compared.series_uid}/instances"
    beside = radiograph(StudyInstanceUID=OTHER, PatientID="P1", SeriesInstanceUID=compared.series_uid)
    headers = SIGNED_IN | {"Content-Type": "application/dicom"}
    assert requests.post(f"{guarded.base}/studies", part10(beside), headers=headers, timeout=30).status_code == 200
    with psycopg.connect(guarded.settings.database_url) as connection:
        connection.execute("UPDATE model SET kind = 'CT'")
    for sop_uid in (compared.sop_uid, beside.SOPInstanceUID):
        assert requests.get(f"{picture}/{sop_uid}/rendered", cookies=cookies, timeout=30).status_code == 200


def test_slices_are_those_of_its_study_and_of_series_that_were_compared(guarded: Web) -> None:
    cookies = link(guarded)
    series = {study: guarded.catalogue.instances.of_study(study)[0].series_uid for study in (OWN, OTHER, uid(5))}

    def status(study: str, case: str | None = None, of: str | None = None) -> int:
        asked = {"series": of or series[case or study], **({} if case is None else {"case": case})}
        url = f"{guarded.root}/api/studies/{study}/similar/slices"
        return requests.get(url, asked, cookies=cookies, timeout=30).status_code

    assert [status(OWN), status(OWN, ""), status(OWN, OWN), status(OWN, OTHER)] == [200, 200, 200, 403]
    ask_for_cases(guarded, cookies)
    assert [status(OWN, OTHER), status(OWN, uid(5)), status(OTHER, OTHER), status(OTHER, OWN)] == [200, 403, 403, 403]
    assert status(OWN, OTHER, of="1.2.3") == 403


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
    (beyond,) = guarded.catalogue.instances.of_study(uid(3))
    picture = f"{guarded.base}/studies/{uid(3)}/series/{beyond.series_uid}/instances/{beyond.sop_uid}/rendered"
    assert requests.get(picture, cookies=cookies, timeout=30).status_code == 403


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
        unasked = requests.post(url, json=judgement("dr-a", "DOWN"), cookies=cookies, timeout=30)
        assert unasked.status_code == 403, "it was shown no such case"
        ask_for_cases(guarded, cookies)
        assert requests.get(f"{url}/dr-a", cookies=cookies, timeout=30).json() == [], "another's are not read"
        assert requests.post(url, json=judgement("dr-a", "DOWN"), cookies=cookies, timeout=30).status_code == 204
        other = f"{guarded.root}/api/studies/{OTHER}/feedback"
        assert requests.post(other, json=judgement("me"), cookies=cookies, timeout=30).status_code == 403
    kept = {(row.reader, row.verdict) for row in guarded.catalogue.feedback.all()}
    assert kept == {("dr-a", "UP"), ("link:dr-a", "DOWN"), ("dr-b", "DOWN")}


def test_a_token_saves_so_much_and_no_more(guarded: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contexts, "MOST_REPORTS", 1)
    monkeypatch.setattr(contexts, "MOST_JUDGEMENTS", 2)
    cookies = link(guarded)
    ask_for_cases(guarded, cookies)

    def save() -> int:
        url = f"{guarded.root}/api/studies/{OWN}/report?anatomy=left+lung&limit=2"
        return requests.post(url, json={}, cookies=cookies, timeout=30).status_code

    def judge(reader: str) -> int:
        url = f"{guarded.root}/api/studies/{OWN}/feedback"
        return requests.post(url, json=judgement(reader), cookies=cookies, timeout=30).status_code

    assert [save(), save()] == [201, 413]
    assert [judge("a"), judge("b"), judge("c")] == [204, 204, 413], "however many names it gives"
    assert len(guarded.catalogue.feedback.all()) == 2
    stored = guarded.catalogue.instances.of_study(OWN)
    assert len([instance for instance in stored if not instance.rows_px]) == 1
    with psycopg.connect(guarded.settings.database_url) as connection:  # those of an earlier link count no more
        connection.execute("UPDATE instance SET received_at = received_at - interval '2 days'")
    assert save() == 201


def test_every_other_route_is_closed(guarded: Web) -> None:
    """Also those that somebody adds: what names no study but the token's own answers 403, or needs no token at all."""
    cookies = link(guarded)
    narrowed = {"/dicom-web/studies", "/dicom-web/series", "/dicom-web/instances"}
    free = {"/api/regions", "/api/findings", "/api/typed", "/static/<path:filename>", "/sidebar"}
    free.add("/api/emergency")  # whose answer is always no
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
