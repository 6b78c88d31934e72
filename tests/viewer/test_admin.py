"""The administrator's pages in a browser: wide and narrow, light and dark, by keyboard, while things change."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import psycopg
import pytest
from playwright.sync_api import Browser, Page, expect

from radir_pacs.callers import Role
from radir_pacs.catalogue import Catalogue
from radir_pacs.encode import default_bundles
from radir_pacs.models import Registry
from radir_pacs.models.run_files import RunFiles
from radir_pacs.reasons import ReasonCode
from radir_pacs.similar_cases import Feedback
from radir_pacs.types import Encoding, ImageKind, JobKind, StepState, StudyState
from tests.catalogue_material import TESTER, add, claimed, encoding, header, receive
from tests.integration.conftest import Web
from tests.viewer.conftest import _WATCH, MODEL, PICTURES, serious_issues, serving

FAILED = "2.25.7"
STEPS = ("preflight", "snapshot", "data", "train", "examine", "gates", "evidence")
PAGES = {
    "overview": "/admin",
    "studies": "/admin/studies",
    "study": f"/admin/studies/{FAILED}",
    "models": "/admin/models",
    "model": "/admin/models/{challenger}",
    "promote": "/admin/models/{challenger}/promote",
    "rollback": "/admin/rollback/cxr",
    "retraining": "/admin/retraining",
    "run": "/admin/retraining/1",
    "running": "/admin/retraining/2",
    "quality": "/admin/quality",
    "feedback": "/admin/feedback",
    "error": "/admin/studies/1.2.3",
}
LOOKS = ((1280, "light"), (480, "dark"))


class Desk:
    """A signed-in administrator's browser and the installation behind it."""

    def __init__(self, web: Web, browser: Browser, token: str, challenger: str) -> None:
        self.web, self.token, self.challenger = web, token, challenger
        self.context = browser.new_context(locale="en-GB", reduced_motion="reduce")
        self.context.add_init_script(_WATCH)

    def url(self, name: str) -> str:
        return self.web.root + PAGES[name].format(challenger=self.challenger)


@pytest.fixture(scope="module")
def desk(postgres: str, browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with serving(postgres, tmp_path_factory.mktemp("admin")) as web:
        challenger = filled(web)
        token = web.catalogue.access_tokens.create("Dr. Meyer", Role.ADMINISTRATOR, by=TESTER)
        desk = Desk(web, browser, token, challenger)
        page = desk.context.new_page()
        page.goto(desk.url("models"))
        page.get_by_text("Sign in with a token").click()
        page.get_by_label("Token", exact=True).focus()
        for width, scheme in LOOKS:
            look(page, width, scheme, "admin-sign-in")
        page.keyboard.type(token)
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_have_text("Models")
        yield desk
        desk.context.close()


@pytest.fixture
def page(desk: Desk) -> Iterator[Page]:
    page = desk.context.new_page()
    page.set_viewport_size({"width": 1280, "height": 900})
    yield page
    assert page.evaluate("window.violations ?? []") == []
    page.close()


def filled(web: Web) -> str:
    """Days of an archive; returns the id of a model in shadow."""
    catalogue, rng = web.catalogue, random.Random(3)
    for number in range(1, 61):
        day = date(2026, 11, 1) + timedelta(days=number % 28)
        given = header(number, accession_number=f"A26-{4100 + number}", study_date=day, study_description="Chest PA")
        add(catalogue, given)
        if number > 56:
            continue
        catalogue.studies.complete_now(given.study_uid)
        if number in (7, 8, 9):
            job = claimed(catalogue, key=given.study_uid)
            catalogue.jobs.fail(job, "pixel data is cut short", reason_code=ReasonCode.DECODE_FAILED, retry=False)
        elif number % 9 == 0:
            job = claimed(catalogue, key=given.study_uid)
            catalogue.studies.set_state(
                given.study_uid, StudyState.SKIPPED, "a knee", reason_code=ReasonCode.NOT_CHEST, job=job
            )
        elif number < 52:
            one = encoding(number, number, MODEL[ImageKind.CXR])
            job = claimed(catalogue, key=given.study_uid)
            catalogue.encodings.save(_longer(one), 1, job=job)
            receive(catalogue, given.study_uid, "FINDINGS: Pleural effusion on the left.")
    catalogue.studies.mark_indexed()
    watched(catalogue)
    job = claimed(catalogue, JobKind.SEND, "2.25.99")
    catalogue.jobs.fail(job, "the PACS does not answer", reason_code=ReasonCode.PEER_UNREACHABLE, retry=False)
    catalogue.refusals.add("2.25.98", "not DICOM", 0xC000, "CT99", reason_code=ReasonCode.UNREADABLE)
    for name, detail in (
        ("listener-1", ""),
        ("web-1", ""),
        ("relay", ""),
        ("worker-1", "encodes on cpu"),
        ("indexer", ""),
    ):
        catalogue.processes.say_alive(name, 1000, "UP", detail)
    with psycopg.connect(web.settings.database_url, autocommit=True) as connection:
        connection.execute("UPDATE process SET seen_at = now() - interval '3 minutes' WHERE name = 'indexer'")
        rows = connection.execute("SELECT id FROM job ORDER BY id").fetchall()
        for (number,) in rows:
            hours = 24 * rng.random() ** 1.5
            connection.execute(
                "UPDATE job SET created_at = now() - make_interval(secs => %s::float8), changed_at = now() -"
                " make_interval(secs => %s::float8) WHERE id = %s",
                (hours * 3600, hours * 3500, number),
            )
    for number, (region, verdict) in enumerate((("left_lung", "UP"), ("left_lung", "DOWN"), ("heart", "UP"))):
        judged(catalogue, number, region, verdict)
    catalogue.models.register("cxr-before", ImageKind.CXR, 16, {}, by="Dr. Meyer", reason="made in 2025")
    for model_id, reason in (("cxr-before", "the first one"), (MODEL[ImageKind.CXR], "better by 0.04 to 0.06")):
        catalogue.models.promote(model_id, by="Dr. Meyer", reason=reason, least_coverage=0.0)
    return retrained(web)


def _longer(one: Encoding) -> Encoding:
    """With vectors of the length that the model here has."""
    vectors = np.concatenate([one.vectors, np.zeros_like(one.vectors)], axis=1)
    return replace(one, vectors=vectors)


def judged(catalogue: Catalogue, number: int, region: str, verdict: str) -> None:
    catalogue.feedback.add(
        Feedback(
            query_study_uid="2.25.1",
            case_study_uid=f"2.25.{number + 2}",
            region=region,
            model_id=MODEL[ImageKind.CXR],
            generation=None,
            rank=1,
            score=0.9,
            verdict=verdict,
            reader="r",
        )
    )


def watched(catalogue: Catalogue) -> None:
    """Five weeks of the model that serves, in the last of which it fell and a scanner drifted."""
    for number in range(5):
        mean = 0.81 + 0.01 * (number % 3) - (0.2 if number == 4 else 0)
        told = {"count": 180, "mean": mean, "low": mean - 0.03, "high": mean + 0.03}
        parents = {"count": 180, "mean": 0.04 + 0.01 * number, "low": 0.02, "high": 0.1}
        drift = {"scanner": "Maker\\DX 3", "studies": 60, "before": 400, "value": 0.02, "low": 0.01, "high": 0.03}
        notices = [
            {"code": "OWN_REPORT_FELL", "value": mean, "before": 0.82},
            {"code": "DRIFT", "scanner": "Maker\\DX 3", "value": 0.02, "before": 0.0},
        ]
        figures = {"studies": 300, "own_report": told, "first_ten": told, "by_parents": parents, "drift": [drift]}
        figures["notices"] = notices if number == 4 else []
        week = date(2026, 10, 19) + timedelta(days=7 * number)
        catalogue.quality.keep(week, MODEL[ImageKind.CXR], ImageKind.CXR, figures)


def retrained(web: Web) -> str:
    """A run that is done, one that trains, and its challenger, the model that ships, in shadow."""
    catalogue = web.catalogue
    registry = Registry(catalogue, web.settings)
    model = registry.register(default_bundles()[ImageKind.CXR], by="Dr. Meyer", reason="retraining 1: all gates passed",
                              evidence="retraining/1/evidence.json")  # fmt: skip
    registry.shadow(model.model_id, by="Dr. Meyer", reason="retraining 1: all gates passed")
    for number in (1, 2):
        run_id = catalogue.retraining.start(
            kind=ImageKind.CXR, depth="head", plan={"depth": "head", "recipe": {"epochs": 20}}, plan_sha256="5f" * 32,
            champion=MODEL[ImageKind.CXR], started_by="Dr. Meyer", steps=STEPS,
        )  # fmt: skip
        assert run_id == number
        token = catalogue.retraining.hold(run_id, "test", 600.0)
        done = STEPS if number == 1 else STEPS[:3]
        for place, _ in enumerate(done, 1):
            catalogue.retraining.tell(run_id, token, place, StepState.RUNNING, begins=True)
            catalogue.retraining.tell(
                run_id, token, place, StepState.DONE, progress=1.0, note="412 studies of 298 patients"
            )
        files = RunFiles.of(web.settings, run_id)
        files.folder.mkdir(parents=True)
        starts = {"contrast": 3.1, "findings": 0.42, "report": 1.9, "whole": 2.2}
        shape = [(step, (0.25 + 0.75 * 0.99**step) * (1 + 0.02 * (7 * step % 5))) for step in range(1, 201, 2)]
        curve = {
            name: [[step, start * share ** (1 - 0.2 * number)] for step, share in shape]
            for number, (name, start) in enumerate(starts.items())
        }
        (files.folder / "losses.json").write_text(json.dumps(curve))
        (files.folder / "run.log").write_text('{"level": "INFO", "message": "step begins", "step": "train"}\n' * 3)
        if number == 2:
            catalogue.retraining.tell(run_id, token, 4, StepState.RUNNING, begins=True)
            catalogue.retraining.tell(
                run_id, token, 4, StepState.RUNNING, progress=0.4, note="epoch 8 of 20: contrast 1.204"
            )
            continue
        (files.folder / "examination.json").write_text(json.dumps(examination()))
        told = {"judged": True, "interval_95": None, "value": 0.05, "limit": 0.0, "of": ""}
        gates = [
            told | {"code": "OVERALL", "passed": True, "text": "mean of all regions: 0.054; must lie above 0.000"},
            told | {"code": "REGION", "passed": True, "text": "left lower lobe: 0.110; must not lie below 0.000"},
            told | {"code": "LATENCY", "passed": True, "text": "1.01 times the champion's; at most 1.25"},
        ]
        (files.folder / "gates.json").write_text(json.dumps(gates))
        (files.folder / "evidence.html").write_text("<!doctype html><title>Evidence</title><h1>Evidence</h1>")
        catalogue.retraining.note(run_id, token, challenger=model.model_id, passed=True)
        catalogue.retraining.end(run_id, token, "DONE")
    return model.model_id


def examination() -> dict[str, object]:
    rows = {
        "left_lower_lobe": (38, 0.61, 0.72, 0.11, (0.02, 0.2)),
        "right_lower_lobe": (41, 0.63, 0.66, 0.03, (-0.04, 0.1)),
        "heart": (52, 0.71, 0.7, -0.01, (-0.05, 0.03)),
        "left_pleura": (9, None, None, None, None),
    }
    names = ("queries", "champion", "challenger", "difference", "interval_95")
    paired = {key: {"name": key, "random": 0.31, **dict(zip(names, row, strict=True))} for key, row in rows.items()}
    overall = paired["left_lower_lobe"] | {"queries": 131, "difference": 0.054, "interval_95": (0.01, 0.1)}
    groups = [paired["heart"] | {"by": "sex", "group": "F", "judged": True}]
    measure = "Recall@5, queries whose region is abnormal by their mined report"
    return {
        "measure": measure, "images": 83, "patients": 60, "overall": overall, "regions": paired, "groups": groups
    }  # fmt: skip


def look(page: Page, width: int, scheme: str, name: str) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.set_viewport_size({"width": width, "height": 900})
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"{name}-{width}-{scheme}.png", full_page=True)


@pytest.mark.parametrize("name", PAGES)
def test_each_page_fits_wide_and_narrow_light_and_dark(page: Page, desk: Desk, name: str) -> None:
    page.goto(desk.url(name))
    for width, scheme in LOOKS:
        look(page, width, scheme, f"admin-{name}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert serious_issues(page) == []


def test_a_language_that_is_chosen_is_kept(page: Page, desk: Desk) -> None:
    page.goto(desk.url("overview"))
    page.get_by_role("link", name="Deutsch").click()
    page.get_by_role("navigation").get_by_role("link", name="Studien").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Studien")
    page.get_by_role("link", name="English").click()
    expect(page.locator("html")).to_have_attribute("lang", "en")


def test_a_failed_study_is_found_and_tried_again_by_keyboard(page: Page, desk: Desk) -> None:
    page.goto(desk.url("studies"))
    page.get_by_label("UID, accession number").focus()
    page.keyboard.type("A26-4108")
    page.keyboard.press("Enter")
    page.get_by_role("link", name="A26-4108").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text("pixel data is cut short").first).to_be_visible()
    page.get_by_role("button", name="Try again").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("It is read again")
    assert desk.web.catalogue.studies.get("2.25.8").state is StudyState.STABLE


def test_a_run_that_is_watched_moves_without_a_reload(page: Page, desk: Desk) -> None:
    page.goto(desk.url("running"))
    bar = page.get_by_role("progressbar", name="Train")
    expect(bar).to_have_js_property("value", 0.4)
    page.get_by_text("Log", exact=True).click()
    expect(page.locator("#log pre")).to_be_visible()
    page.get_by_role("heading", level=1).click()  # nothing below has the focus
    page.evaluate("document.activeElement.blur()")
    token = psycopg.connect(desk.web.settings.database_url).execute("SELECT token FROM retraining_run WHERE id = 2")
    [(held,)] = token.fetchall()
    desk.web.catalogue.retraining.tell(2, held, 4, StepState.RUNNING, progress=0.75, note="epoch 15 of 20")
    expect(bar).to_have_js_property("value", 0.75)
    expect(page.locator("#log pre")).to_be_visible()
    desk.web.catalogue.retraining.end(2, held, "FAILED", "the disk is full")
    expect(page.get_by_role("button", name="Go on")).to_be_visible()
