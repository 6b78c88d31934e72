"""Models and retrainings on the administrator's pages, over a real catalogue."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from flask import Flask
from flask.testing import FlaskClient

from radir_pacs.catalogue import Catalogue
from radir_pacs.cli import main
from radir_pacs.config import Settings, to_environment
from radir_pacs.models import Registry
from radir_pacs.models.run_files import WORK, RunFiles
from radir_pacs.types import ImageKind, ModelState, StepState
from radir_pacs.web.admin import retrain_command, retraining
from tests.catalogue_material import MODEL, register
from tests.model_material import seeded_bundle
from tests.web_admin_material import BROWSER, HOSTILE, admin_app, archive, begun, see, send


@pytest.fixture
def app(settings: Settings, catalogue: Catalogue) -> Iterator[Flask]:
    with admin_app(settings, catalogue) as made:
        yield made


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A browser on this machine, where no token was ever made."""
    return app.test_client()


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


def test_a_run_is_watched_and_cancelled(
    client: FlaskClient, catalogue: Catalogue, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(catalogue)
    number = begun(catalogue)
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
    number = begun(catalogue)
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
    number = begun(catalogue)
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


@pytest.mark.parametrize(("lang", "words"), [("en", "0.027 more in Recall@5"), ("de", "0,027 mehr in Recall@5")])
def test_what_a_plan_would_take_is_shown_with_the_gain_that_shows(
    client: FlaskClient, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch, lang: str, words: str
) -> None:
    register(catalogue)
    told = {
        "champion": MODEL,
        "counts": {"studies": 3501, "patients": 2500, "held_out_patients": 498},
        "visible_gain": 0.027,
        "missing_tokens": 0,
        "hours": 0.4,
        "memory_bytes": 10**9,
        "disk_bytes": 10**8,
        "plan_sha256": "ab" * 32,
        "refusals": [],
    }
    monkeypatch.setattr(retrain_command, "tried", lambda plan, settings: told)
    see(client, f"/admin/retraining?lang={lang}")
    assert words in send(client, "/admin/retraining/try", "/admin/retraining", kind="CXR", depth="head").text


def test_one_plan_at_a_time(client: FlaskClient, catalogue: Catalogue) -> None:
    register(catalogue)
    with retrain_command._busy:
        answer = send(client, "/admin/retraining/start", "/admin/retraining", kind="CXR", depth="head")
    assert answer.status_code == 409


def test_nothing_is_counted_of_a_model_that_was_cleared_away(client: FlaskClient, catalogue: Catalogue) -> None:
    archive(catalogue)
    assert "<meter" in see(client, "/admin/models")
    with psycopg.connect(catalogue.conninfo) as connection:
        connection.execute("UPDATE model SET state = 'RETIRED', kept_until = now()")
    for path in ("/admin/models", "/admin/models/live", f"/admin/models/{MODEL}"):
        page = see(client, path)
        assert MODEL in page and "<meter" not in page, path
