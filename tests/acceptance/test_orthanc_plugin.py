"""The plugin in a real Orthanc beside a running stack: store, stable, handed over, encoded, asked, report back."""

from __future__ import annotations

import json
import time
import urllib.error
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser

from tests.conftest import free_port
from tests.integration.orthanc import DICOM_WEB, PYTHON, Orthanc, running_orthanc
from tests.services import ROOT
from tests.stack import Stack, running_stack

Hospital = tuple[Path, list[dict[str, Any]]]
SCRIPT = ROOT / "orthanc_plugin" / "radir_orthanc.py"


@contextmanager
def orthanc_with_plugin(
    folder: Path, *, web_port: int, listener_port: int = 9, port: int = 0, **own: Any
) -> Iterator[Orthanc]:
    """An Orthanc with our plugin; ``own`` is added to the RadIR block of its configuration."""
    settings: dict[str, Any] = {
        "PythonScript": str(SCRIPT),
        "DicomModalities": {"radir": ["RADIR", "127.0.0.1", listener_port]},
        "DicomModalitiesInDatabase": False,
        "DicomScuTimeout": 2,
        "RadIR": {"Url": f"http://127.0.0.1:{web_port}", "TimeBudget": 10.0} | own,
    }
    if port:
        settings["HttpPort"] = port
    with running_orthanc(folder, plugins=(DICOM_WEB, PYTHON), **settings) as orthanc:
        yield orthanc


def refused(orthanc: Orthanc, path: str, body: bytes | None = None) -> tuple[int, str]:
    """(status, message) of a request that must fail: a POST where there is a body."""
    with pytest.raises(urllib.error.HTTPError) as caught:
        orthanc.ask("GET" if body is None else "POST", path, body)
    return caught.value.code, json.loads(caught.value.read())["error"]["message"]


def wait_for_queue(orthanc: Orthanc, seconds: float = 60, **expected: Any) -> dict[str, Any]:
    """Until the plugin's queue says so."""
    deadline = time.monotonic() + seconds
    while True:
        queue: dict[str, Any] = orthanc.get("/radir/status")["queue"]
        if expected.items() <= queue.items():
            return queue
        assert time.monotonic() < deadline, queue
        time.sleep(0.1)


@dataclass
class House:
    """Orthanc, the stack, and the studies that went from the one to the other."""

    orthanc: Orthanc
    stack: Stack
    studies: list[dict[str, Any]]
    orthanc_ids: dict[str, str]  # by study UID

    def of_kind(self, kind: str) -> list[str]:
        return [study["study_uid"] for study in self.studies if study["kind"] == kind]


@pytest.fixture(scope="module")
def house(stack: Stack, hospital: Hospital, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder, studies = hospital
    with orthanc_with_plugin(
        tmp_path_factory.mktemp("orthanc"), web_port=stack.web_port, listener_port=stack.listener_port
    ) as orthanc:
        ids = {study["study_uid"]: orthanc.store(folder / file) for study in studies for file in study["files"]}
        stack.wait_until_done(len(studies))
        wait_for_queue(orthanc, waiting=0, handed_over=len(studies))
        yield House(orthanc, stack, studies, ids)


def test_stable_studies_are_forwarded_whole_and_encoded(house: House) -> None:
    status = house.stack.status()
    assert status["studies"] == {"INDEXED": len(house.studies)}
    assert status["refusals_last_day"] == 0
    for study in house.studies:
        _, body = house.orthanc.ask("GET", f"/studies/{house.orthanc_ids[study['study_uid']]}/instances")
        assert len(json.loads(body)) == len(study["files"])


def test_every_address_gives_the_services_own_answer(house: House) -> None:
    uid = house.of_kind("CXR")[0]
    region = quote("right lower lobe")
    expected = [case["study"] for case in house.stack.json("similar", uid, "--region", "RLL", "--limit", "4")["cases"]]
    assert expected
    for path in (
        f"/radir/similar/{house.orthanc_ids[uid]}?anatomy={region}&limit=4",
        f"/radir/similar/{uid}?anatomy={region}&limit=4",
        f"/radir/dicom-web/studies/{uid}/similar?anatomy={region}&limit=4",
        f"/radir/dicom-web/studies?similarto={uid}&anatomy={region}&limit=4",
    ):
        assert [row["0020000D"]["Value"][0] for row in house.orthanc.get(path)] == expected, path


def test_mistakes_are_named(house: House) -> None:
    uid = house.of_kind("CXR")[0]
    code, message = refused(house.orthanc, f"/radir/similar/{uid}?anatomy=left%20lowr%20lobe")
    assert code == 400 and "left lower lobe" in message
    assert refused(house.orthanc, "/radir/similar/1.2.3.4?anatomy=chest")[0] == 404
    assert refused(house.orthanc, "/radir/similar/" + "-".join(["01234567"] * 5))[0] == 404
    assert refused(house.orthanc, "/radir/similar/nonsense")[0] == 404
    assert refused(house.orthanc, "/radir/dicom-web/studies?anatomy=chest")[0] == 400
    assert refused(house.orthanc, f"/radir/similar/{uid}", b"[]")[0] == 400
    assert refused(house.orthanc, f"/radir/similar/{uid}", b"garbage")[0] == 400


def test_a_report_comes_back_and_does_not_go_round(house: House) -> None:
    uid = house.of_kind("CXR")[1]
    orthanc_id = house.orthanc_ids[uid]
    before = house.stack.status()
    handed_over = wait_for_queue(house.orthanc, waiting=0)["handed_over"]
    instance = house.orthanc.post(f"/radir/similar/{orthanc_id}", {"anatomy": "lungs"})["ID"]
    tags = house.orthanc.get(f"/instances/{instance}/simplified-tags")
    assert (tags["Modality"], tags["Manufacturer"]) == ("SR", "RadIR-PACS")
    assert tags["StudyInstanceUID"] == uid
    deadline = time.monotonic() + 30
    changes: list[Any] = []
    while [change["ID"] for change in changes if change["ChangeType"] == "StableStudy"].count(orthanc_id) < 2:
        assert time.monotonic() < deadline, "the study did not become stable again"
        changes = house.orthanc.get("/changes?limit=5000")["Changes"]
        time.sleep(0.1)
    jobs = len(house.orthanc.get("/jobs"))
    wait_for_queue(house.orthanc, waiting=0, handed_over=handed_over)
    assert len(house.orthanc.get("/jobs")) == jobs, "nothing was sent again"
    after = house.stack.status()
    assert after["studies"] == before["studies"] and after["refusals_last_day"] == 0


def test_orthanc_explorer_has_the_button_and_shows_no_html_of_others(house: House) -> None:
    _, script = house.orthanc.ask("GET", "/plugins/explorer.js")
    text = script.decode()
    assert "Similar cases" in text and house.stack.web in text
    own = (SCRIPT.parent / "radir_explorer.js").read_text()
    assert own in text
    assert "innerHTML" not in own and ".html(" not in own


def test_a_person_finds_similar_cases_in_orthanc_explorer(house: House, browser: Browser) -> None:
    uid = house.of_kind("CXR")[2]
    expected = house.stack.json("similar", uid, "--region", "left lower lobe")["cases"]
    page = browser.new_page()
    page.goto(f"{house.orthanc.url}/app/explorer.html#study?uuid={house.orthanc_ids[uid]}")
    page.get_by_text("Similar cases").click()
    page.get_by_label("Region").fill("left lowr lobe")
    page.get_by_text("Find similar cases").click()
    page.get_by_text("nearest: left lower lobe").wait_for()
    page.get_by_label("Region").fill("LLL")
    page.keyboard.press("Enter")
    page.get_by_text("by likeness in the left lower lobe").wait_for()
    scores = page.locator("#radir-panel tbody td:nth-child(2)").all_inner_texts()
    assert scores == [f"{case['score']:.3f}" for case in expected]
    link = page.get_by_text("Open in RadIR").get_attribute("href")
    assert link == f"{house.stack.web}/sidebar?StudyInstanceUID={uid}"
    page.get_by_text("Save a report").click()
    page.get_by_text("The report was added").wait_for()
    page.close()

    series = house.orthanc.get(f"/studies/{house.orthanc_ids[uid]}/series")
    assert [one["MainDicomTags"]["Modality"] for one in series].count("SR") == 2, "the patient's report, and ours"


def test_the_configuration_that_we_ship_works(tmp_path: Path) -> None:
    """As it stands, save for folders, the port, and the DICOM server that Debian's Orthanc would bind everywhere."""
    shipped = json.loads((ROOT / "deploy" / "orthanc" / "orthanc.json").read_text())
    plugins = tuple(Path(plugin).name for plugin in shipped.pop("Plugins"))
    for name in ("StorageDirectory", "IndexDirectory", "HttpPort"):
        shipped.pop(name)
    assert Path(shipped["PythonScript"]).name == SCRIPT.name
    changed = shipped | {"PythonScript": str(SCRIPT), "DicomModalitiesInDatabase": False}
    with running_orthanc(tmp_path, plugins=plugins, **changed) as orthanc:
        assert orthanc.get("/radir/status")["forward"] == "store"
        assert orthanc.get("/modalities?expand")["radir"]["AET"] == "RADIR"
        assert orthanc.get("/dicom-web/servers?expand")["radir"]["Url"].endswith("/dicom-web/")


def test_what_is_stored_while_the_service_is_down_goes_later_and_survives_a_kill(
    hospital: Hospital, tmp_path: Path
) -> None:
    folder, studies = hospital
    study, cut_short = [study for study in studies if study["kind"] == "CXR"][:2]
    with orthanc_with_plugin(tmp_path / "orthanc", web_port=free_port(), listener_port=free_port()) as orthanc:
        for file in study["files"]:
            orthanc.store(folder / file)
        queue = wait_for_queue(orthanc, waiting=1)
        assert queue["handed_over"] == 0
        code, message = refused(orthanc, f"/radir/similar/{study['study_uid']}")
        assert (code, message) == (502, "the RadIR service cannot be reached or talks nonsense")
        for file in cut_short["files"]:
            orthanc.store(folder / file)
        orthanc.process.kill()  # before that study is stable: Orthanc itself will never say so of it
    with (
        running_stack(tmp_path / "home") as stack,
        orthanc_with_plugin(
            tmp_path / "orthanc", web_port=stack.web_port, listener_port=stack.listener_port
        ) as orthanc,
    ):
        wait_for_queue(orthanc, waiting=0, handed_over=2)
        stack.wait_until_done(2)
        assert stack.status()["studies"] == {"INDEXED": 2}


def test_a_reference_is_pulled(hospital: Hospital, tmp_path: Path) -> None:
    folder, studies = hospital
    port = free_port()
    chosen = [next(study for study in studies if study["kind"] == kind) for kind in ("CXR", "CT")]
    with (
        running_stack(tmp_path / "home", pull_url=f"http://127.0.0.1:{port}/dicom-web") as stack,
        orthanc_with_plugin(tmp_path / "orthanc", web_port=stack.web_port, port=port, Forward="pull") as orthanc,
    ):
        for study in chosen:
            for file in study["files"]:
                orthanc.store(folder / file)
        wait_for_queue(orthanc, waiting=0, handed_over=len(chosen))
        stack.wait_until_done(len(chosen))
        status = stack.status()
        assert status["studies"] == {"INDEXED": len(chosen)} and status["refusals_last_day"] == 0
