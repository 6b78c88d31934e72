"""The administrator's pages over a real catalogue: who gets in, what their forms do, what they never show."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import date

import psycopg
import pytest
from flask import Flask
from flask.testing import FlaskClient

from radir_pacs.callers import AuditEvent, Role
from radir_pacs.catalogue import Catalogue, Happening
from radir_pacs.cli import main
from radir_pacs.config import Settings, to_environment
from radir_pacs.similar_cases import Feedback
from radir_pacs.types import ImageKind, JobKind, StudyState
from radir_pacs.web import session
from tests.catalogue_material import MODEL, TESTER, encoded, register
from tests.web_admin_material import (
    BROWSER,
    HOSTILE,
    PAGES,
    admin_app,
    archive,
    begun,
    read_again,
    secret,
    see,
    send,
    signed_in,
)


@pytest.fixture
def app(settings: Settings, catalogue: Catalogue) -> Iterator[Flask]:
    with admin_app(settings, catalogue) as made:
        yield made


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A browser on this machine, where no token was ever made."""
    return app.test_client()


def test_with_tokens_a_person_signs_in_by_a_form(app: Flask, catalogue: Catalogue) -> None:
    client, token = signed_in(app, catalogue)
    cookie = client.get_cookie(session.COOKIE)
    assert cookie is not None and cookie.http_only and cookie.same_site == "Lax" and cookie.path == "/"
    assert token not in cookie.value and cookie.max_age is None
    for path in PAGES:
        answer = client.get(path, headers=BROWSER)
        assert answer.status_code == 200, path
        assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
        assert "unsafe" not in answer.headers["Content-Security-Policy"]
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Referrer-Policy"] == "same-origin", "or browsers send forms with Origin: null"
        assert not re.search(r"<script(?! type=\"module\" src=\"/admin/static/admin.js\")|\son\w+=|style=", answer.text)
    (event,) = catalogue.audit.events(event=AuditEvent.SIGNED_IN)
    assert (event.caller, event.role) == ("a administrator", Role.ADMINISTRATOR)
    assert client.get("/status").status_code == 200, "the session has the rights of its token"


def test_who_is_not_signed_in_is_led_to_the_form_and_back(app: Flask, catalogue: Catalogue) -> None:
    _, token = signed_in(app, catalogue)
    client = app.test_client()
    answer = client.get("/admin/models", headers=BROWSER)
    assert (answer.status_code, answer.headers["Location"]) == (302, "/sign-in?to=%2Fadmin%2Fmodels")
    assert client.get("/admin/models").status_code == 401, "a program is told so"
    late = client.post("/admin/studies/2.25.2/retry", headers=BROWSER)
    assert late.headers["Location"] == "/sign-in?to=%2Fadmin", "a form is not sent again by itself"
    assert client.get("/admin/static/admin.css").status_code == 200
    back = send(client, "/sign-in", "/sign-in", token=token, to="/admin/models")
    assert (back.status_code, back.headers["Location"]) == (303, "/admin/models")


@pytest.mark.parametrize("role", [Role.RADIOLOGIST, Role.SERVICE])
def test_other_roles_stay_out(app: Flask, catalogue: Catalogue, role: Role) -> None:
    client, token = signed_in(app, catalogue, role)
    assert client.get("/admin", headers=BROWSER).status_code == 302
    for path in PAGES:
        assert client.get(path, headers={"Authorization": f"Bearer {token}"}).status_code == 403
    basic = client.get("/admin", headers=BROWSER | {"Authorization": f"Bearer {token}"})
    assert basic.status_code == 302, "a person may sign in with another token"
    wrong = send(app.test_client(), "/sign-in", "/sign-in", token=token + "x")
    assert wrong.status_code == 401 and token not in wrong.text
    assert {event.caller for event in catalogue.audit.events(event=AuditEvent.REFUSED)} >= {f"a {role}", ""}


def test_a_session_ends_with_its_token_with_time_and_by_the_button(
    app: Flask, catalogue: Catalogue, settings: Settings, database_url: str
) -> None:
    client, token = signed_in(app, catalogue)
    cookie = client.get_cookie(session.COOKIE)
    assert cookie is not None
    send(client, "/sign-out", "/admin")
    assert client.get("/admin", headers=BROWSER).status_code == 302
    client.set_cookie(session.COOKIE, cookie.value)
    assert client.get("/admin", headers=BROWSER).status_code == 302, "nobody's copy of the cookie is good any more"
    for column, ended_s in (("since", settings.session_longest_s), ("seen_at", settings.session_idle_s)):
        send(client, "/sign-in", "/sign-in", token=token)
        assert client.get("/admin", headers=BROWSER).status_code == 200
        with psycopg.connect(database_url) as connection:
            connection.execute(f"UPDATE web_session SET {column} = now() - interval '{ended_s + 1} seconds'".encode())
        read_again(app)
        assert client.get("/admin", headers=BROWSER).status_code == 302, column
    send(client, "/sign-in", "/sign-in", token=token)
    assert client.get("/admin", headers=BROWSER).status_code == 200
    catalogue.access_tokens.revoke("a administrator", by=TESTER)
    read_again(app)
    assert client.get("/admin", headers=BROWSER).status_code == 302


def test_a_form_needs_the_secret_of_its_session(app: Flask, client: FlaskClient, catalogue: Catalogue) -> None:
    archive(catalogue)
    ours, theirs = secret(client, "/admin/studies/2.25.2"), secret(app.test_client(), "/admin/studies/2.25.2")
    rules = [rule for rule in app.url_map.iter_rules() if rule.rule.startswith("/admin")]
    posts = [rule.rule for rule in rules if "POST" in (rule.methods or ())]
    assert len(posts) == 15
    for rule in posts:
        path = re.sub(r"<int:\w+>", "1", rule).replace("<study>", "2.25.2").replace("<model_id>", MODEL)
        path = path.replace("<action>", "retire").replace("<kind>", "cxr").replace("<code>", "DECODE_FAILED")
        path = path.replace("<name>", "meyer")
        for given in ({}, {"csrf": theirs}, {"csrf": ""}):
            answer = client.post(path, data=given | {"reason": "x"})
            assert (answer.status_code, (answer.json or {})["error"]["code"]) == (400, "bad_input"), path
    foreign = {"Origin": "https://evil.example"}
    assert client.post("/admin/studies/2.25.2/retry", data={"csrf": ours}, headers=foreign).status_code == 403
    assert catalogue.studies.get("2.25.2").state is StudyState.QUARANTINED, "nothing was done"
    answer = client.post("/admin/studies/2.25.2/retry", data={"csrf": ours}, headers=BROWSER)
    assert answer.status_code == 303 and catalogue.studies.get("2.25.2").state is StudyState.STABLE


def test_the_overview_tells_what_waits_and_what_failed(client: FlaskClient, catalogue: Catalogue) -> None:
    archive(catalogue)
    page = see(client, "/admin")
    assert '<section aria-labelledby="h-problems">' in see(client, "/admin/live")
    for told in ("DECODE_FAILED", "PEER_UNREACHABLE", "UNREADABLE", "NOT_CHEST", "worker-1", MODEL, "indexed"):
        assert told in page, told
    asked = see(client, "/admin/retry/DECODE_FAILED")
    assert "read again: 1; other jobs that run again: 0" in asked
    answer = send(client, "/admin/retry/DECODE_FAILED", "/admin/retry/DECODE_FAILED")
    assert answer.headers["Location"] == "/admin?studies=1&jobs=0"
    assert "studies 1" in see(client, answer.headers["Location"])
    send(client, "/admin/retry/peer_unreachable", "/admin/retry/PEER_UNREACHABLE")
    assert "PEER_UNREACHABLE" not in see(client, "/admin") and "DECODE_FAILED" not in see(client, "/admin")
    see(client, "/admin/retry/NONSENSE", 400)


def test_studies_are_found_as_the_command_finds_them(
    client: FlaskClient, catalogue: Catalogue, settings: Settings, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    archive(catalogue)
    for name, value in to_environment(settings).items():
        monkeypatch.setenv(name, value)
    for query, arguments, wanted in (
        ("find=ACC-2", ["ACC-2"], {"2.25.2"}),
        ("find=p3", ["p3"], {"2.25.3"}),
        ("find=2.25.1", ["2.25.1"], {"2.25.1"}),
        ("find=nobody", ["nobody"], set()),
        ("state=QUARANTINED", ["--state", "quarantined"], {"2.25.2"}),
        ("state=SKIPPED&reason=NOT_CHEST", ["--state", "SKIPPED", "--reason", "not_chest"], {"2.25.3"}),
        ("state=SKIPPED&reason=OBLIQUE", ["--state", "SKIPPED", "--reason", "OBLIQUE"], set()),
        ("", [], {"2.25.1", "2.25.2", "2.25.3"}),
    ):
        page = see(client, f"/admin/studies?{query}")
        assert set(re.findall(r'href="/admin/studies/([\d.]+)"', page)) == wanted, query
        assert main(["studies", *arguments, "--json"]) == (0 if wanted else 1)
        assert {study["study"] for study in json.loads(capsys.readouterr().out)["studies"]} == wanted
    assert {event.study_uid for event in catalogue.audit.events(event=AuditEvent.LISTED, caller="this machine")} == {
        "2.25.1",
        "2.25.2",
        "2.25.3",
    }


def test_a_study_tells_what_happened_and_is_tried_again(client: FlaskClient, catalogue: Catalogue) -> None:
    archive(catalogue)
    page = see(client, "/admin/studies/2.25.2")
    assert "DECODE_FAILED" in page and "quarantined" in page and "cannot be read" in page
    assert [event.study_uid for event in catalogue.audit.events(event=AuditEvent.OPENED)] == ["2.25.2"]
    happened = [event.what for event in catalogue.survey.timeline("2.25.2")]
    assert happened == [Happening.RECEIVED, Happening.QUEUED, Happening.JOB, Happening.STATE]
    catalogue.jobs.enqueue(JobKind.REENCODE, f"{MODEL}/2.25.1")
    catalogue.jobs.enqueue(JobKind.REENCODE, f"{MODEL}/2.25.11")
    found = [(event.what, event.subject) for event in catalogue.survey.timeline("2.25.1")]
    assert found.count((Happening.QUEUED, f"reencode {MODEL}")) == 1
    assert (Happening.ENCODED, MODEL) in found and (Happening.REPORTED, "csv") in found
    answer = send(client, "/admin/studies/2.25.2/retry", "/admin/studies/2.25.2")
    assert answer.status_code == 303
    assert catalogue.studies.get("2.25.2").state is StudyState.STABLE
    again = send(client, "/admin/studies/2.25.1/retry", "/admin/retraining")
    assert again.status_code == 409 and catalogue.studies.get("2.25.1").state is StudyState.INDEXED
    see(client, "/admin/studies/9.9.9", 404)


def test_hostile_words_and_names_of_patients_stay_harmless(
    client: FlaskClient, catalogue: Catalogue, caplog: pytest.LogCaptureFixture
) -> None:
    archive(catalogue)
    catalogue.models.register("m-hostile", ImageKind.CT, 8, {"training": {"data": HOSTILE}}, by=HOSTILE, reason=HOSTILE)
    for path in (*PAGES, "/admin/studies/2.25.1", "/admin/studies/2.25.2", "/admin/models/m-hostile"):
        page = see(client, path)
        assert "<script>alert" not in page and "49" not in re.sub(r"\d{2,}[:-]\d\d|\d+\.\d+|[\w-]*49[\w-]*", "", page)
        assert "Secret" not in page
        title = re.search(r"<title>(.*?)</title>", page)
        assert title is not None and not re.search(r"2\.25|ACC|script", title[1])
    assert "Secret" not in caplog.text and HOSTILE not in caplog.text and "2.25." not in caplog.text


def test_thumbs_are_counted_by_region(client: FlaskClient, catalogue: Catalogue) -> None:
    archive(catalogue)
    encoded(catalogue, 4)
    assert "Nobody has judged" in see(client, "/admin/feedback")
    given = Feedback(
        query_study_uid="2.25.1", case_study_uid="2.25.4", region="left_lung", model_id=MODEL, generation=None,
        rank=1, score=0.9, verdict="UP", reason=HOSTILE, reader="r1",
    )  # fmt: skip
    for reader, verdict in (("r1", "UP"), ("r2", "UP"), ("r3", "DOWN")):
        catalogue.feedback.add(replace(given, reader=reader, verdict=verdict))
    page = see(client, "/admin/feedback")
    assert "left lung" in page and "66.6" in page and "<script>alert" not in page
    assert "linke Lunge" in see(client, "/admin/feedback?lang=de")
    begun(catalogue, {"depth": "head", "thumbs": {"use": True, "weight": 0.25, "together": 0.1}})
    assert "learns from these thumbs with a weight of 0.25" in see(client, "/admin/feedback?lang=en")
    catalogue.feedback.add(replace(given, reader="r1", model_id="another", verdict="DOWN"))
    catalogue.feedback.add(replace(given, reader="r1", model_id="another", verdict=""))
    assert not catalogue.feedback.of_reader("2.25.1", "r1"), "an older judgement does not come back"


def test_the_weeks_of_a_model_and_what_fell(client: FlaskClient, catalogue: Catalogue) -> None:
    register(catalogue)
    assert "No week has been measured" in see(client, "/admin/quality") and "No week" in see(client, "/admin")
    good = {"count": 40, "mean": 0.8, "low": 0.75, "high": 0.85}
    fell = {"code": "OWN_REPORT_FELL", "value": 0.6, "before": 0.8}
    drift = {"code": "DRIFT", "scanner": HOSTILE, "value": 0.31, "before": 0.0}
    drifts = [{"scanner": HOSTILE, "studies": 30, "before": 30, "value": 0.31, "low": 0.2, "high": 0.4}]
    figures = {"studies": 50, "own_report": good, "first_ten": good, "by_parents": None, "drift": [], "notices": []}
    catalogue.quality.keep(date(2026, 11, 2), MODEL, ImageKind.CXR, figures)
    assert "week of 2026-11-02: no notice" in see(client, "/admin")
    bad = figures | {"own_report": good | {"mean": 0.6}, "drift": drifts, "notices": [fell, drift]}
    catalogue.quality.keep(date(2026, 11, 16), MODEL, ImageKind.CXR, bad)
    page = see(client, "/admin/quality")
    for told in ("2026-11-02", "2026-11-16", "0.600, 0.800 before", "0.310", 'points="0.0,40.0 640.0,80.0"'):
        assert told in page, told
    assert "<script>alert" not in page and "0.600, 0.800 before" in see(client, "/admin")
    assert "0,600, vorher 0,800" in see(client, "/admin/quality?lang=de")


def test_the_other_language_keeps_the_question_and_follows_no_form(client: FlaskClient, catalogue: Catalogue) -> None:
    archive(catalogue)
    page = see(client, "/admin/studies?state=SKIPPED&reason=NOT_CHEST")
    [query] = re.findall(r'<a href="\?([^"]*)" lang="de"', page)
    assert set(query.replace("&amp;", "&").split("&")) == {"state=SKIPPED", "reason=NOT_CHEST", "lang=de"}
    answer = client.post("/admin/studies/2.25.1/retry", data={"csrf": "wrong"}, headers=BROWSER)
    assert answer.status_code == 400 and 'lang="de"' not in answer.text, "a link would ask what only forms may"
