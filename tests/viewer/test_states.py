"""What people see when there is no list to show, with each state produced for real; and what leaves the panel."""

from __future__ import annotations

import copy
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pydicom
import pytest
import requests
from playwright.sync_api import Page, expect
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE, evt
from pynetdicom.sop_class import Comprehensive3DSRStorage  # type: ignore[attr-defined]

from radir_pacs.types import ImageKind, JobKind, StudyState
from radir_workers.runner import Runner
from radir_workers.send_report import SendReport
from tests.catalogue_material import serve_model
from tests.conftest import free_port
from tests.integration.conftest import Web, running
from tests.viewer.conftest import DIM, MODEL, THIN, Archive, encode, picture_of, serving


@pytest.fixture(scope="module")
def radiograph(phantoms: Path) -> Dataset:
    return pydicom.dcmread(phantoms / "patient_00000" / "visit_1_cxr" / "frontal.dcm")


@pytest.fixture(scope="module")
def young(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    """A service that has nothing yet."""
    with serving(postgres, tmp_path_factory.mktemp("home")) as web:
        yield web


def copy_of(ds: Dataset, number: int) -> Dataset:
    """The image as another study."""
    copied = copy.deepcopy(ds)
    copied.StudyInstanceUID, copied.SeriesInstanceUID = f"2.25.900{number}", f"2.25.900{number}.1"
    copied.SOPInstanceUID = copied.file_meta.MediaStorageSOPInstanceUID = UID(f"2.25.900{number}.1.1")
    copied.PatientID = f"STATE-{number}"
    return copied


def notice(page: Page):  # type: ignore[no-untyped-def]
    return page.locator(".state .notice")


def sidebar(web: Web, study: str) -> str:
    return f"{web.root}/sidebar?StudyInstanceUID={study}"


def test_a_study_on_its_way_shows_its_progress_and_then_its_cases(page: Page, young: Web, radiograph: Dataset) -> None:
    studies = [copy_of(radiograph, number) for number in range(1, 8)]
    query = studies[0].StudyInstanceUID
    young.store(studies[0])
    page.goto(sidebar(young, query))
    expect(notice(page)).to_contain_text("Still encoding")
    expect(notice(page)).to_contain_text("Images are still arriving (1 so far).")
    expect(page.get_by_role("progressbar", name="Step 1 of 4")).to_be_visible()
    picture_of(page, "state-encoding")
    young.store(*studies[1:])
    for ds in studies[1:]:
        young.catalogue.studies.complete_now(ds.StudyInstanceUID)
        young.catalogue.jobs.hurry(ds.StudyInstanceUID)  # other readers wait for these
    young.catalogue.studies.complete_now(query)
    expect(notice(page)).to_contain_text("Studies to be encoded before it: 6")
    for number, ds in enumerate(studies):
        encode(young, ds, ImageKind.CXR, number)
    young.catalogue.studies.mark_indexed()
    expect(page.locator("li.case")).to_have_count(6)
    expect(notice(page)).to_have_count(0)
    expect(page.locator(".messages")).to_contain_text("This study has no report yet")
    picture_of(page, "state-no-report")


@pytest.mark.parametrize(
    ("state", "title"),
    [
        (StudyState.SKIPPED, "Not a study for this search"),
        (StudyState.QUARANTINED, "This study could not be encoded"),
    ],
)
def test_a_study_that_ended_otherwise_says_why(
    page: Page, young: Web, radiograph: Dataset, state: StudyState, title: str
) -> None:
    ds = copy_of(radiograph, 20 + len(title))
    young.store(ds)
    young.catalogue.studies.set_state(ds.StudyInstanceUID, state, "a <b>reason</b> of its own")
    page.goto(sidebar(young, ds.StudyInstanceUID))
    expect(notice(page)).to_contain_text(title)
    expect(notice(page)).to_contain_text("a <b>reason</b> of its own")
    picture_of(page, f"state-{state.lower()}")


def test_a_study_that_is_not_here(page: Page, young: Web) -> None:
    page.goto(sidebar(young, "2.25.404"))
    expect(notice(page)).to_contain_text("The study is not here")
    expect(page.get_by_role("button", name="Try again")).to_be_visible()


def test_while_the_model_is_replaced(page: Page, archive: Archive) -> None:
    catalogue = archive.web.catalogue
    serve_model(catalogue, "cxr-new", ImageKind.CXR, DIM, {"name": "test"})
    try:
        page.goto(archive.sidebar())
        expect(notice(page)).to_contain_text("The model is being replaced")
        picture_of(page, "state-replaced")
    finally:
        serve_model(catalogue, MODEL[ImageKind.CXR], ImageKind.CXR, DIM, {"name": "test"})
    expect(page.locator("li.case").first).to_be_visible()


def test_a_server_that_goes_and_comes_back(page: Page, archive: Archive) -> None:
    settings = archive.web.settings
    port = free_port()
    moved = type(settings)(**{**vars(settings), "web_port": port})
    with running(moved, archive.web.catalogue) as web:
        page.goto(sidebar(web, archive.query))
        expect(page.locator("li.case").first).to_be_visible()
    page.get_by_role("combobox").fill("RLL")
    page.get_by_role("combobox").press("Enter")
    expect(notice(page)).to_contain_text("The server does not answer")
    expect(notice(page)).to_have_attribute("role", "alert")
    picture_of(page, "state-down")
    with running(moved, archive.web.catalogue):
        expect(page.locator("li.case").first).to_be_visible(timeout=15_000)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (THIN, "{} has too few cases: answered from {}"),
        ("minor_fissure", "{} is not a region of this model: answered from {}"),
    ],
)
def test_a_thin_region_answers_from_its_parent_and_says_so(page: Page, archive: Archive, asked: str, said: str) -> None:
    head = archive.answer(archive.query, anatomy=asked)[0]
    names = head["region_asked"]["name"], head["region_answered"]["name"]
    assert names[0] != names[1]
    page.goto(archive.sidebar(anatomy=asked))
    expect(page.locator("li.case").first).to_be_visible()
    expect(page.locator(".messages")).to_contain_text(said.format(*names))
    picture_of(page, f"state-parent-{asked}")


def test_too_few_cases_anywhere_are_counted(page: Page, archive: Archive) -> None:
    page.goto(archive.sidebar(anatomy="LLL"))
    expect(page.locator("li.case").first).to_be_visible()
    page.get_by_text("Filters").click()
    page.get_by_label("Sex").select_option("F")
    shown = [line for line in archive.answer(archive.query, anatomy="LLL", PatientSex="F") if line["type"] == "case"]
    assert 0 < len(shown) < archive.web.settings.min_cases
    expect(page.locator(".messages")).to_contain_text(
        re.compile(f"only {len(shown)} cases? available for left lower lobe")
    )


def test_when_no_case_can_answer(page: Page, archive: Archive) -> None:
    page.goto(archive.sidebar())
    expect(page.locator("li.case").first).to_be_visible()
    page.get_by_text("Filters").click()
    page.get_by_label("Sex").select_option("O")
    expect(page.locator(".messages")).to_contain_text("No case matches here.")
    expect(page.locator("li.case")).to_have_count(0)


def test_a_context_token_stands_for_the_identifiers(
    page: Page, archive: Archive, serve: Callable[..., Archive]
) -> None:
    guarded = serve(api_tokens=("secret-token-of-us",), sidebar_context_tokens=True)
    root = guarded.web.root
    assert requests.get(guarded.sidebar(), timeout=30).status_code == 401
    bearer = {"Authorization": "Bearer secret-token-of-us"}
    assert requests.get(guarded.sidebar(), headers=bearer, timeout=30).status_code == 400
    opened = requests.post(
        root + "/sidebar/context", json={"StudyInstanceUID": guarded.query}, headers=bearer, timeout=30
    ).json()
    assert guarded.query not in opened["url"]
    with page.expect_request("**/api/studies/*/similar?*") as asked:
        page.goto(opened["url"])
    assert asked.value.headers["x-radir-link"] == "1", "nobody who is signed in answers for the link's page"
    expect(page.locator("li.case").first).to_be_visible()
    assert page.locator("li.case img").first.evaluate("img => img.decode().then(() => img.naturalWidth)") > 50
    assert page.evaluate("document.cookie") == ""
    assert page.request.delete(f"{root}/studies/{guarded.query}").status == 403
    assert page.request.delete(f"{root}/dicom-web/studies/{guarded.query}").status == 403

    _expire_contexts(archive)
    page.get_by_role("combobox").fill("RLL")
    page.get_by_role("combobox").press("Enter")
    expect(notice(page)).to_contain_text("You may not see similar cases here")
    picture_of(page, "state-forbidden")
    assert requests.get(opened["url"], timeout=30).status_code == 401


def _expire_contexts(archive: Archive) -> None:
    with psycopg.connect(archive.web.settings.database_url) as connection:
        connection.execute("UPDATE viewer_context SET expires_at = now() - interval '1 second'")


def test_rights_leave_out_what_is_not_allowed(page: Page, serve: Callable[..., Archive]) -> None:
    discreet = serve(sidebar_shows=())
    page.goto(discreet.sidebar(anatomy="LLL"))
    lines = discreet.answer(discreet.query, anatomy="LLL")
    shown = len([line for line in lines if line["type"] == "case"])
    expect(page.locator("li.case")).to_have_count(shown)
    assert page.locator(".who").all_inner_texts() == [""] * shown
    expect(page.locator(".patient")).to_be_hidden()
    expect(page.locator("li.case").first).to_contain_text("Reports are not shown here")
    assert not [line for line in lines if line["type"] == "excerpt"]
    assert {line[key] for line in lines if line["type"] == "case" for key in ("age", "sex", "days")} == {None}


def send_once(web: Web) -> None:
    """One attempt of the one job that waits, as the transfer process makes it."""
    deadline = time.monotonic() + 20
    while not (jobs := web.catalogue.jobs.to_announce(9, kinds=(JobKind.SEND,))):
        assert time.monotonic() < deadline, "nothing is to be sent"
        time.sleep(0.02)
    use_case = SendReport(
        web.catalogue,
        web.blobs,
        destination=web.settings.return_destination,
        calling_ae_title="RADIR",
        budget_s=5.0,
    )
    Runner(web.catalogue, {JobKind.SEND: use_case}, worker="test", lease_s=60).run(jobs[-1])


def reports_of(archive: Archive) -> int:
    """How many reports of similar cases are stored beside the study that is asked about."""
    return sum(one.source == "similar" for one in archive.web.catalogue.instances.of_study(archive.query))


def test_save_to_pacs_says_what_happened(page: Page, serve: Callable[..., Archive], archive: Archive) -> None:
    received: list[Dataset] = []

    def store(event: Any) -> int:
        received.append(event.dataset)
        return 0x0000

    ae = AE(ae_title="PACS")
    ae.add_supported_context(Comprehensive3DSRStorage)
    peer = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    assert peer is not None and peer.socket is not None
    port = peer.socket.getsockname()[1]
    gone = f"GONE@127.0.0.1:{free_port()}"
    before = reports_of(archive)
    try:
        for destination, attempts, said in (
            ("", 1, ["The report is stored here; no PACS is configured as a destination."]),
            (f"PACS@127.0.0.1:{port}", 1, ["Stored here; being sent to PACS …", "Stored here and sent to PACS."]),
            (gone, 1, ["Stored here, but not sent to GONE: it cannot be reached"]),
            (gone, 9, ["Stored here, but not yet sent to GONE: it cannot be reached. Trying again"]),
        ):
            one = serve(return_destination=destination, return_attempts=attempts)
            page.goto(one.sidebar(anatomy="LLL"))
            expect(page.locator("li.case").first).to_be_visible()
            page.get_by_role("button", name="Save to PACS").click()
            if len(said) == 2:
                expect(page.locator(".foot .said")).to_contain_text(said[0])
            if destination:
                send_once(one.web)
            expect(page.locator(".foot .said")).to_contain_text(said[-1])
    finally:
        ae.shutdown()
    (document,) = received
    assert document.StudyInstanceUID == archive.query
    assert reports_of(archive) == before + 4  # each outcome kept its report here


def test_a_form_of_another_site_cannot_judge_or_save(archive: Archive) -> None:
    for path in ("feedback", "report"):
        answer = requests.post(
            f"{archive.web.root}/api/studies/{archive.query}/{path}",
            json={},
            headers={"Origin": "https://elsewhere.example"},
            timeout=30,
        )
        assert answer.status_code == 403


@pytest.mark.parametrize(
    "body",
    [
        [],
        {"case": "1.2.3"},
        {"case": "../etc", "rank": 1, "score": 0.5},
        {"case": "1.2.3", "rank": 1, "score": 9, "region": "chest", "verdict": "UP"},
        {"case": "1.2.3", "rank": 1, "score": 0.5, "region": "chest", "verdict": "MAYBE"},
        {"case": "1.2.3", "rank": 1, "score": 0.5, "region": "nowhere", "verdict": "UP"},
        {"case": "1.2.3", "rank": 1, "score": 0.5, "region": "chest", "verdict": "UP", "reason": "x" * 501},
        {"case": "1.2.3", "rank": 1, "score": 0.5, "region": "chest", "verdict": "UP", "model": "m"},
        {"case": "1.2.3", "rank": True, "score": float("nan"), "region": "chest", "verdict": "UP", "model": "m"},
    ],
)
def test_a_bad_judgement_is_refused(archive: Archive, body: Any) -> None:

    before = archive.web.catalogue.feedback.all()
    answer = requests.post(
        f"{archive.web.root}/api/studies/{archive.query}/feedback",
        data=json.dumps(body),
        headers={"Content-Type": "application/json"},
        timeout=30,
    )
    assert answer.status_code in (400, 404), answer.text
    assert archive.web.catalogue.feedback.all() == before
