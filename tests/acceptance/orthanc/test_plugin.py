"""The plugin in a real Orthanc beside a running stack: store, stable, handed over, encoded, asked, report back."""

from __future__ import annotations

import json
import urllib.error
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.acceptance.orthanc_house import (
    SCRIPT,
    SHIPPED,
    Hospital,
    House,
    orthanc_with_plugin,
    refused,
    wait_for_queue,
    wait_until_seen,
)
from tests.conftest import free_port
from tests.integration.orthanc import running_orthanc
from tests.stack import here, running_stack


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
    for path in (f"/radir/similar/{uid}", f"/radir/api/studies/{uid}/report"):  # not for a region that nobody chose
        assert refused(house.orthanc, path, b"{}") == (400, "name the region: anatomy")


def test_a_report_comes_back_and_does_not_go_round(house: House) -> None:
    uid = house.of_kind("CXR")[1]
    orthanc_id = house.orthanc_ids[uid]
    before = house.stack.status()
    wait_for_queue(house.orthanc, waiting=0)
    jobs = len(house.orthanc.get("/jobs"))
    instance = house.orthanc.post(f"/radir/similar/{orthanc_id}", {"anatomy": "lungs"})["ID"]
    tags = house.orthanc.get(f"/instances/{instance}/simplified-tags")
    assert (tags["Modality"], tags["Manufacturer"]) == ("SR", "RadIR-PACS")
    assert tags["StudyInstanceUID"] == uid
    wait_until_seen(house.orthanc, "StableStudy", orthanc_id, times=2)
    wait_for_queue(house.orthanc, waiting=0)
    assert len(house.orthanc.get("/jobs")) == jobs, "nothing was sent again"
    after = house.stack.status()
    assert after["studies"] == before["studies"] and after["refusals_last_day"] == 0


def test_what_a_page_of_another_site_sends_triggers_nothing(house: House) -> None:
    uid = house.of_kind("CXR")[0]
    body = json.dumps({"anatomy": "chest"}).encode()
    for path in (f"/radir/similar/{uid}", f"/radir/api/studies/{uid}/report", f"/radir/api/studies/{uid}/feedback"):
        for headers in ({"Sec_Fetch_Site": "cross-site"}, {"Origin": "http://elsewhere.example"}):
            assert refused(house.orthanc, path, body, **headers)[0] == 403, path


def test_only_what_is_listed_is_passed_on(house: House) -> None:
    for path in ("/radir/health/live", "/radir/admin", "/radir/viewer/../health/live", "/radir/dicom-web/studies/1.2"):
        with pytest.raises(urllib.error.HTTPError) as caught:
            house.orthanc.ask("GET", path)
        assert caught.value.code in (400, 404), path


def test_the_configuration_that_we_ship_works(tmp_path: Path) -> None:
    """Unchanged except for folders, the port, and the DICOM server, which Debian's Orthanc binds to all addresses."""
    shipped = json.loads(SHIPPED.read_text())
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
        assert (code, message) == (502, "the RadIR service cannot be reached or its answer cannot be read")
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
    port, host = free_port(), here()
    others = {"RemoteAccessAllowed": host != "127.0.0.1"}  # there it is in a network of the test alone
    chosen = [next(study for study in studies if study["kind"] == kind) for kind in ("CXR", "CT")]
    with (
        running_stack(tmp_path / "home", pull_url=f"http://{host}:{port}/dicom-web") as stack,
        orthanc_with_plugin(
            tmp_path / "orthanc", web_port=stack.web_port, port=port, orthanc=others, Forward="pull"
        ) as orthanc,
    ):
        for study in chosen:
            for file in study["files"]:
                orthanc.store(folder / file)
        wait_for_queue(orthanc, waiting=0, handed_over=len(chosen))
        stack.wait_until_done(len(chosen))
        status = stack.status()
        assert status["studies"] == {"INDEXED": len(chosen)} and status["refusals_last_day"] == 0
