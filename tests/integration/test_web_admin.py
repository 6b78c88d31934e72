"""The administrator's pages over a real catalogue: who gets in, what their forms do, what they never show."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from radir_pacs.callers import AuditEvent, Role
from radir_pacs.catalogue import Catalogue, Happening
from radir_pacs.cli import main
from radir_pacs.config import Settings, to_environment
from radir_pacs.models import Registry
from radir_pacs.models.run_files import WORK, RunFiles
from radir_pacs.query import Searcher
from radir_pacs.reasons import ReasonCode
from radir_pacs.similar_cases import Feedback
from radir_pacs.storage.blobs import BlobStore
from radir_pacs.types import ImageKind, JobKind, ModelState, StepState, StudyState
from radir_pacs.web import session
from radir_pacs.web.admin import retrain_command, retraining
from radir_pacs.web.app import create_app
from tests.catalogue_material import MODEL, TESTER, add, claimed, encoded, header, receive, register
from tests.model_material import seeded_bundle

BROWSER = {"Accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"}
HOSTILE = "<script>alert(1)</script>\"'>{{7*7}}"
NAME = "Secret^Patient"
FOLDERS = "studies models retraining quality feedback accounts tokens emergencies"
PAGES = tuple("/admin" + name for name in ("", *(f"/{folder}" for folder in FOLDERS.split())))


@pytest.fixture
def app(settings: Settings, catalogue: Catalogue) -> Iterator[Flask]:
    settings.home.mkdir(parents=True, exist_ok=True)
    app = create_app(settings, catalogue, Searcher(catalogue, settings), BlobStore(settings.home / "blobs"))
    yield app
    app.extensions["radir"].decoder.close()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A browser on this machine, where no token was ever made."""
    return app.test_client()


def see(client: FlaskClient, path: str, status: int = 200) -> str:
    answer = client.get(path, headers=BROWSER)
    assert answer.status_code == status, (path, answer.status_code, answer.text[:500])
    return answer.text


def secret(client: FlaskClient, path: str = "/sign-in") -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', client.get(path, headers=BROWSER).text)
    assert found is not None
    return found[1]


def send(client: FlaskClient, path: str, form_of: str, **fields: Any) -> TestResponse:
    """Send a form with the secret of the page that shows it."""
    return client.post(path, data={"csrf": secret(client, form_of), **fields}, headers=BROWSER)


def signed_in(app: Flask, catalogue: Catalogue, role: Role = Role.ADMINISTRATOR) -> tuple[FlaskClient, str]:
    token = catalogue.access_tokens.create(f"a {role}", role, by=TESTER)
    read_again(app)
    client = app.test_client()
    send(client, "/sign-in", "/sign-in", token=token)
    return client, token


def read_again(app: Flask) -> None:
    """Let the service read tokens and sessions now, as it does once a second."""
    app.extensions["radir"].bearers._read_s = float("-inf")
    app.extensions["radir"].sessions._fresh.clear()


def archive(catalogue: Catalogue) -> None:
    """A study that is found, one that failed, one of another kind, and a job that failed."""
    register(catalogue)
    encoded(catalogue, 1, patient_name=NAME, accession_number=HOSTILE, study_description=HOSTILE)
    catalogue.studies.mark_indexed()
    receive(catalogue, "2.25.1", "FINDINGS: Pleural effusion on the left.")
    add(catalogue, header(2, accession_number="ACC-2", patient_name=NAME))
    catalogue.studies.complete_now("2.25.2")
    job = claimed(catalogue, key="2.25.2")
    catalogue.jobs.fail(job, f"cannot be read: {HOSTILE}", reason_code=ReasonCode.DECODE_FAILED, retry=False)
    add(catalogue, header(3))
    catalogue.studies.set_state("2.25.3", StudyState.SKIPPED, "a knee", reason_code=ReasonCode.NOT_CHEST)
    send_job = claimed(catalogue, JobKind.SEND, "2.25.9")
    catalogue.jobs.fail(send_job, "the peer is away", reason_code=ReasonCode.PEER_UNREACHABLE, retry=False)
    catalogue.refusals.add("2.25.7", "not DICOM", 0xC000, HOSTILE, reason_code=ReasonCode.UNREADABLE)
    catalogue.processes.say_alive("worker-1", 4711, "UP", HOSTILE)


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


def test_a_model_is_shadowed_promoted_and_rolled_back_with_reasons(
    client: FlaskClient, catalogue: Catalogue, settings: Settings, tmp_path: Path
) -> None:
    registry = Registry(catalogue, settings)
    for name in ("1", "2"):
        seeded_bundle(ImageKind.CXR, int(name)).save(tmp_path / name)
    first, second = (registry.register(tmp_path / name, by="t", reason="t").model_id for name in ("1", "2"))
    form = f"/admin/models/{first}/promote"
    assert "CXR" in see(client, form)
    assert send(client, form, form, reason=" ").status_code == 400
    assert catalogue.models.serving(ImageKind.CXR) is None, "a reason is asked for"
    send(client, form, form, reason=HOSTILE)
    serving = catalogue.models.serving(ImageKind.CXR)
    assert serving is not None and serving.model_id == first
    send(client, f"/admin/models/{second}/shadow", f"/admin/models/{second}/shadow", reason="to see", evidence="file 7")
    assert registry.get(second).state is ModelState.SHADOW
    asked = see(client, f"/admin/models/{second}/promote")
    assert f"It takes the place of {first}" in asked and "30 days" in asked and "100" in asked
    done = send(client, f"/admin/models/{second}/promote", f"/admin/models/{second}/promote", reason="better")
    assert "It answers from the next question on" in see(client, done.headers["Location"])
    see(client, "/admin/models")
    asked = see(client, "/admin/rollback/cxr")
    assert f'name="instead_of" value="{second}"' in asked
    stale = send(client, "/admin/rollback/cxr", "/admin/rollback/cxr", reason="worse", instead_of=first)
    assert stale.status_code == 409, "another model serves than the form that was sent shows"
    send(client, "/admin/rollback/cxr", "/admin/rollback/cxr", reason="worse on portables", instead_of=second)
    serving = catalogue.models.serving(ImageKind.CXR)
    assert serving is not None and serving.model_id == first
    last = registry.history()[-1]
    assert (last.who, last.reason) == ("this machine", "worse on portables")
    assert "<script>alert" not in see(client, "/admin/models") and "worse on portables" in see(client, "/admin/models")
    refused = send(client, f"/admin/models/{first}/retire", "/admin/retraining", reason="x")
    assert refused.status_code == 409
    see(client, "/admin/rollback/mri", 400)
    see(client, f"/admin/models/{first}/nonsense", 404)


def test_a_promotion_that_would_be_refused_says_why_beforehand(
    client: FlaskClient, catalogue: Catalogue, settings: Settings, tmp_path: Path
) -> None:
    archive(catalogue)
    seeded_bundle(ImageKind.CXR, 3).save(tmp_path / "b")
    model = Registry(catalogue, settings).register(tmp_path / "b", by="t", reason="t").model_id
    asked = see(client, f"/admin/models/{model}/promote")
    assert "has encoded 0" in asked and '<button class="primary"' not in asked
    sent = send(client, f"/admin/models/{model}/promote", f"/admin/models/{model}/shadow", reason="all the same")
    assert sent.status_code == 409 and catalogue.models.serving(ImageKind.CXR).model_id == MODEL  # type: ignore[union-attr]


def _run(catalogue: Catalogue, plan: dict[str, Any] | None = None) -> int:
    return catalogue.retraining.start(
        kind=ImageKind.CXR,
        depth="head",
        plan=plan or {"depth": "head"},
        plan_sha256="ab" * 32,
        champion=MODEL,
        started_by=HOSTILE,
        steps=("preflight", "train"),
    )


def test_a_run_is_watched_and_cancelled(
    client: FlaskClient, catalogue: Catalogue, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(catalogue)
    number = _run(catalogue)
    files = RunFiles.of(settings, number)
    files.folder.mkdir(parents=True)
    (files.folder / "losses.json").write_text(json.dumps({"contrast": [[1, 2.0], [2, 1.0]], "zero": [[1, 0.0]]}))
    (files.folder / "run.log").write_text(f"{HOSTILE}\x1b[31m\n")
    page = see(client, f"/admin/retraining/{number}")
    assert "Takes about" not in page
    (files.folder / "preflight.json").write_text(json.dumps({"estimated_s": 90.0}))
    page = see(client, f"/admin/retraining/{number}")
    assert "<dt>Takes about</dt><dd>90 s</dd>" in page
    assert "waiting" in page and "Go on" not in page, "its process is just beginning"
    monkeypatch.setattr(retraining, "_BEGINS", timedelta(0))
    page = see(client, f"/admin/retraining/{number}")
    assert (
        "stopped" in page
        and "Go on" in page
        and "<polyline" in page
        and "<script>alert" not in page
        and "\x1b" not in page
    )
    live = client.get(f"/admin/retraining/{number}/live", headers=BROWSER)
    assert live.headers["X-Radir-State"] == "STOPPED" and "Set-Cookie" not in live.headers
    token = catalogue.retraining.hold(number, "test", 60.0)
    assert client.get(f"/admin/retraining/{number}/live").headers["X-Radir-State"] == "RUNNING"
    catalogue.retraining.tell(number, token, 2, StepState.RUNNING, begins=True, progress=0.5)
    page = see(client, f"/admin/retraining/{number}/live")
    assert '<span class="badge running">running</span></td><td><progress' in page
    catalogue.retraining.end(number, token, "FAILED", "the disk is full")
    page = see(client, f"/admin/retraining/{number}")
    assert "badge running" not in page and '<span class="badge failed">failed</span></td><td><progress' in page
    assert "Go on" in page
    token = catalogue.retraining.hold(number, "test", 60.0)
    send(client, f"/admin/retraining/{number}/cancel", f"/admin/retraining/{number}")
    assert catalogue.retraining.get(number).cancel_asked
    assert "Cancel</button>" not in see(client, f"/admin/retraining/{number}")
    (files.folder / WORK).mkdir()
    with psycopg.connect(catalogue.conninfo) as connection:  # its process was killed before it saw that
        connection.execute("UPDATE retraining_run SET lease_until = now()")
    assert "Cancel</button>" in see(client, f"/admin/retraining/{number}")
    send(client, f"/admin/retraining/{number}/cancel", f"/admin/retraining/{number}")
    assert catalogue.retraining.get(number).state == "CANCELLED" and not (files.folder / WORK).exists()
    assert "data-live" not in see(client, f"/admin/retraining/{number}")
    see(client, "/admin/retraining/99", 404)


def test_evidence_is_shown_in_a_cage(client: FlaskClient, catalogue: Catalogue, settings: Settings) -> None:
    register(catalogue)
    number = _run(catalogue)
    see(client, f"/admin/retraining/{number}/evidence", 404)
    files = RunFiles.of(settings, number)
    files.folder.mkdir(parents=True)
    (files.folder / "evidence.html").write_text("<h1>Evidence</h1>")
    paired = {"queries": 30, "champion": 0.5, "challenger": 0.75, "random": 0.1, "difference": 0.25}
    worse = paired | {"difference": -0.2, "interval_95": [-0.3, -0.1]}
    told = {
        "measure": "Recall@5",
        "images": 40,
        "patients": 30,
        "overall": paired | {"interval_95": [0.1, 0.4]},
        "regions": {
            "left_lung": worse | {"name": "left lung", "chance": 0.2024},
            "heart": paired | {"interval_95": None, "name": "heart"},
        },
        "groups": [worse | {"by": "sex", "group": "F", "judged": True}],
    }
    (files.folder / "examination.json").write_text(json.dumps(told))
    gate = {"code": "OVERALL", "passed": True, "judged": True, "text": HOSTILE}
    unjudged = {"code": "GROUP", "passed": True, "judged": False, "text": "age 40: too few queries"}
    watch = {"code": "REGION", "passed": True, "judged": True, "watch": True, "text": "aorta: -0.200"}
    judged = [gate, gate | {"passed": False, "code": "REGION"}, unjudged, watch]
    (files.folder / "gates.json").write_text(json.dumps(judged))
    answer = client.get(f"/admin/retraining/{number}/evidence", headers=BROWSER)
    assert answer.text == "<h1>Evidence</h1>"
    policy = answer.headers["Content-Security-Policy"]
    assert "sandbox" in policy and "script-src" not in policy and "default-src 'none'" in policy
    page = see(client, f"/admin/retraining/{number}")
    assert "+0.250" in page and "−0.300 … −0.100" in page and "too few" in page and "<script>alert" not in page
    assert "Not judged: 1" in page and "age 40: too few queries" in page
    assert page.count("passed, to be watched") == 1 and "look at it before a promotion" in page
    assert page.count("by chance somewhere") == 1 and re.search(r"by chance somewhere: 20\.2\s%", page)


def test_who_promoted_the_challenger_of_a_run_is_shown(
    client: FlaskClient,
    catalogue: Catalogue,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    register(catalogue)
    number = _run(catalogue)
    files = RunFiles.of(settings, number)
    files.folder.mkdir(parents=True)
    title = "When it began to answer"
    assert title not in see(client, f"/admin/retraining/{number}")
    event = catalogue.models.history(MODEL)[-1]
    told = {"model": MODEL, "serving": [asdict(event) | {"who": "Dr. Meyer", "replaces": "older", "reason": HOSTILE}]}
    (files.folder / "promotion.json").write_text(json.dumps(told, default=str))
    page = see(client, f"/admin/retraining/{number}")
    assert title in page and "Dr. Meyer" in page and "older" in page and "<script>alert" not in page
    for name, value in to_environment(settings).items():
        monkeypatch.setenv(name, value)
    assert main(["retrain", "show", str(number), "--json"]) == 0
    [shown] = json.loads(capsys.readouterr().out)["promotions"]
    assert (shown["change"], shown["who"], shown["replaces"]) == ("PROMOTED", "Dr. Meyer", "older")
    assert main(["retrain", "show", str(number)]) == 0
    assert f"promoted {MODEL} instead of older, by Dr. Meyer" in " ".join(capsys.readouterr().out.split())


def test_a_plan_is_tried_by_the_command_and_its_refusal_read(client: FlaskClient, catalogue: Catalogue) -> None:
    register(catalogue)
    page = send(client, "/admin/retraining/try", "/admin/retraining", kind="CXR", depth="deep")
    assert page.status_code == 400
    answer = send(client, "/admin/retraining/try", "/admin/retraining", kind="CXR", depth="head", plan="epochs = 3")
    assert answer.status_code == 400 and "plan: there is no epochs" in answer.text, answer.text
    assert catalogue.retraining.runs() == ()


def test_one_plan_at_a_time(client: FlaskClient, catalogue: Catalogue) -> None:
    register(catalogue)
    with retrain_command._busy:
        answer = send(client, "/admin/retraining/start", "/admin/retraining", kind="CXR", depth="head")
    assert answer.status_code == 409


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
    _run(catalogue, {"depth": "head", "thumbs": {"use": True, "weight": 0.25, "together": 0.1}})
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


def test_nothing_is_counted_of_a_model_that_was_cleared_away(client: FlaskClient, catalogue: Catalogue) -> None:
    archive(catalogue)
    assert "<meter" in see(client, "/admin/models")
    with psycopg.connect(catalogue.conninfo) as connection:
        connection.execute("UPDATE model SET state = 'RETIRED', kept_until = now()")
    for path in ("/admin/models", "/admin/models/live", f"/admin/models/{MODEL}"):
        page = see(client, path)
        assert MODEL in page and "<meter" not in page, path
