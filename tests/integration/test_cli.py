"""What commands say and where they leave an installation, on a real catalogue and real peers."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pynetdicom import AE, evt
from pynetdicom.sop_class import DigitalXRayImageStorageForPresentation  # type: ignore[attr-defined]

from radir_pacs.catalogue import Catalogue
from radir_pacs.cli import main
from radir_pacs.config import Settings, to_environment
from radir_pacs.delivery import send
from radir_pacs.delivery.destination import Destination
from radir_pacs.delivery.send import send_files
from radir_pacs.errors import PeerFailed
from radir_pacs.storage.blobs import YOUNG_S, BlobStore
from tests.catalogue_material import add, encoded, header, register
from tests.conftest import free_port
from tests.dicom_files import radiograph, save


@pytest.fixture(autouse=True)
def environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands find this test's installation."""
    for name, value in to_environment(settings).items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    (tmp_path / "images").mkdir()
    return [save(radiograph(SOPInstanceUID=f"2.25.{n}"), tmp_path / "images" / f"{n}.dcm") for n in range(1, 6)]


@contextmanager
def peer_that_takes(count: int) -> Iterator[Destination]:
    """A storage SCP that ends the association after so many instances and refuses every later one."""
    taken: list[str] = []
    ae = AE(ae_title="PACS")
    ae.add_supported_context(DigitalXRayImageStorageForPresentation)

    def on_store(event: Any) -> int:
        if len(taken) == count:
            ae.require_calling_aet = ["SOMEBODY ELSE"]
            event.assoc.abort()
            return 0xA700
        taken.append(event.request.AffectedSOPInstanceUID)
        return 0x0000

    port = free_port()
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, on_store)])
    assert server is not None
    try:
        yield Destination(ae_title="PACS", host="127.0.0.1", port=port)
    finally:
        server.shutdown()


def test_deleting_an_unknown_study_is_an_error(catalogue: Catalogue, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["delete", "2.25.404"]) == 1
    assert capsys.readouterr().err == "error: there is no study 2.25.404\n"
    assert main(["complete", "2.25.404"]) == 1
    assert "there is no study" in capsys.readouterr().err


def test_delete_says_which_files_are_gone_and_which_follow(
    catalogue: Catalogue, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    blobs = BlobStore(settings.home / "blobs")
    old, young = (blobs.put(content)[0] for content in (b"old", b"young"))
    os.utime(blobs.path(old), (time.time() - YOUNG_S - 1,) * 2)
    for number, sha256 in enumerate((old, young), start=1):
        catalogue.instances.add(header(number=number), content_sha256=sha256, size_bytes=3, source="TEST")
    assert main(["delete", header().study_uid]) == 0
    assert capsys.readouterr().out.strip() == "deleted; 1 file removed; 1 too recent to remove now, gone within minutes"
    assert not blobs.path(old).exists() and blobs.path(young).exists()


def test_completing_is_said_once(catalogue: Catalogue, capsys: pytest.CaptureFixture[str]) -> None:
    add(catalogue, header())
    assert main(["complete", header().study_uid]) == 0
    assert "encoding follows" in capsys.readouterr().out
    assert main(["complete", header().study_uid]) == 0
    assert "nothing to do" in capsys.readouterr().out


def test_status_of_processes_that_no_supervisor_started(
    catalogue: Catalogue, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in containers with a database of their own: who says that it lives tells."""
    assert main(["status", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["running"] is False
    catalogue.processes.say_alive("web", 7, "UP")
    assert main(["status", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["running"] and [(p["name"], p["state"], p["pid"]) for p in found["processes"]] == [("web", "UP", 7)]
    assert main(["status"]) == 0
    assert "studies" in capsys.readouterr().out


def test_sending_to_nobody_is_one_line(images: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    assert main(["send", str(images[0].parent), "--to", f"PACS@127.0.0.1:{port}"]) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last == f"error: PACS@127.0.0.1:{port} does not answer"


def test_what_a_peer_that_goes_away_did_not_take_is_said(
    images: list[Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(send, "_RESTART_S", 1.0)
    with peer_that_takes(2) as peer:
        results = send_files(images, peer)
        assert [result.path for result in results] == images
        assert [result.status for result in results] == [0, 0, None, None, None]
        assert all(result.reason for result in results[2:])
        with pytest.raises(PeerFailed, match="rejects the association"):
            send_files(images, peer)
    with peer_that_takes(2) as peer:
        assert main(["send", str(images[0].parent), "--to", str(peer)]) == 1
    said = capsys.readouterr().out
    assert "2 of 5 files stored" in said and "rejects the association" in said


def test_what_the_system_refuses_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["phantom", "--out", str(tmp_path / "file" / "below"), "--patients", "1", "--size", "small"]) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ") and "file" in last


def test_an_empty_answer_says_why_and_what_to_ask(
    catalogue: Catalogue, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    register(catalogue)
    for study in (1, 2):
        encoded(catalogue, study, patient_key=str(study))
    region = ["--region", "consolidation in the left lung"]
    assert main(["similar", "2.25.1", *region]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "no report of a case that may be shown affirms consolidation there" in said
    assert 'try --region "left lung": 1 case' in said and "--same-patient" in said
    report = tmp_path / "answer.dcm"
    assert main(["similar", "2.25.1", *region, "--json", "--sr", str(report)]) == 1, "no report is written"
    assert json.loads(capsys.readouterr().out)["offers"] and not report.exists()
