"""A saved report goes to the PACS as a job: the web service never waits for it, and the outcome can be queried."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import requests
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from radir_pacs.cli import main
from radir_pacs.types import JobKind, JobState
from radir_workers.runner import Runner
from radir_workers.send_report import SendReport
from tests.conftest import free_port
from tests.integration.conftest import Web
from tests.integration.test_return_to_pacs import scp
from tests.integration.test_web_similar import archive, uid


@contextmanager
def silent() -> Iterator[int]:
    """A PACS that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        yield server.getsockname()[1]


def to(port: int) -> str:
    return f"PACS@127.0.0.1:{port}"


def press_save(web: Web) -> requests.Response:
    return requests.post(f"{web.root}/api/studies/{uid(0)}/report?anatomy=chest", timeout=30)


def attempt(web: Web, job_id: int, budget_s: float = 5.0) -> dict[str, Any]:
    """One attempt as the transfer process makes it, and what the web then says of the job."""
    use_case = SendReport(
        web.catalogue,
        web.blobs,
        destination=web.settings.return_destination,
        calling_ae_title="RADIR",
        budget_s=budget_s,
    )
    Runner(web.catalogue, {JobKind.SEND: use_case}, worker="test", lease_s=60).run(job_id)
    told = requests.get(f"{web.root}/api/studies/{uid(0)}/jobs/{job_id}", timeout=30)
    assert told.status_code == 200
    answer: dict[str, Any] = told.json()
    return answer


def test_a_saved_report_is_sent_by_a_job_that_can_be_asked_for(serve: Callable[..., Web]) -> None:
    with scp() as (port, got):
        web = serve(return_destination=to(port))
        archive(web)
        saved = press_save(web)
        assert saved.status_code == 202
        told = saved.json()
        assert told["destination"] == "PACS" and told["job_url"] == saved.headers["Location"]
        assert got == [], "nothing was sent by the web"
        pending = requests.get(web.root + told["job_url"], timeout=30).json()
        assert (pending["kind"], pending["state"], pending["reason_code"]) == ("send", "PENDING", None)
        done = attempt(web, told["job"])
        assert (done["state"], done["message"]) == ("DONE", "sent, status 0000")
        again = attempt(web, told["job"])
        assert again == done and len(got) == 1, "a job that is done is not done again"
    assert told["stored"].endswith(got[0].SOPInstanceUID)


def test_without_a_destination_it_stays_here(serve: Callable[..., Web]) -> None:
    web = serve()
    archive(web)
    saved = press_save(web)
    assert saved.status_code == 201
    assert {name: saved.json()[name] for name in ("destination", "job", "job_url")} == dict.fromkeys(
        ("destination", "job", "job_url")
    )
    assert web.catalogue.jobs.to_announce(9, kinds=(JobKind.SEND,)) == []


def test_ten_presses_towards_a_silent_pacs_hold_no_thread(serve: Callable[..., Web]) -> None:
    with silent() as port:
        web = serve(return_destination=to(port), web_threads=2)
        archive(web)
        press_save(web)  # what is made at the first use is not measured
        began = time.monotonic()
        with ThreadPoolExecutor(10) as pool:
            presses = [pool.submit(press_save, web) for _ in range(10)]
            assert requests.get(web.root + "/health/live", timeout=30).status_code == 200
            answers = [press.result() for press in presses]
        assert {answer.status_code for answer in answers} == {202}
        assert len({answer.json()["job"] for answer in answers}) == 10
        assert time.monotonic() - began < 20, "a single attempt of the former way took 10 s, and two threads served"


@pytest.mark.parametrize(
    ("peer", "reason"),
    [
        ("nobody", "PEER_UNREACHABLE"),
        ("silent", "PEER_TOO_SLOW"),
        ("refuses", "PEER_REFUSED"),
        ("takes no reports", "PEER_NOT_SUPPORTED"),
        ("does not know us", "PEER_REJECTED"),
    ],
)
def test_a_failed_attempt_has_a_code_and_is_tried_again(serve: Callable[..., Web], peer: str, reason: str) -> None:
    with (
        silent() as quiet,
        scp(0xA700) as (full, _),
        scp(sop_class="1.2.840.10008.5.1.4.1.1.2") as (ct_only, _),
        scp(admits=["OTHER"]) as (strict, _),
    ):
        ports = {"nobody": free_port(), "silent": quiet, "refuses": full}
        ports |= {"takes no reports": ct_only, "does not know us": strict}
        web = serve(return_destination=to(ports[peer]), return_attempts=2)
        archive(web)
        job_id = press_save(web).json()["job"]
        first = attempt(web, job_id, budget_s=1.0)
    assert (first["state"], first["attempt"], first["max_attempts"]) == ("PENDING", 1, 2)
    assert first["reason_code"] == reason and first["message"]
    last = until_failed(web, job_id)
    assert (last["state"], last["attempt"]) == ("FAILED", 2)


def until_failed(web: Web, job_id: int) -> dict[str, Any]:
    deadline = time.monotonic() + 30
    while True:
        told = attempt(web, job_id, budget_s=1.0)
        if told["state"] == "FAILED":
            return told
        assert time.monotonic() < deadline, told
        time.sleep(0.1)


def test_a_report_that_was_deleted_meanwhile_is_not_tried_again(serve: Callable[..., Web]) -> None:
    web = serve(return_destination=to(free_port()))
    archive(web)
    job_id = press_save(web).json()["job"]
    web.catalogue.studies.delete(uid(0))
    use_case = SendReport(
        web.catalogue, web.blobs, destination=web.settings.return_destination, calling_ae_title="RADIR", budget_s=1.0
    )
    Runner(web.catalogue, {JobKind.SEND: use_case}, worker="test", lease_s=60).run(job_id)
    found = web.catalogue.jobs.progress(job_id)
    assert (found.state, found.reason_code, found.attempt) == (JobState.FAILED, "NOT_FOUND", 1)


def test_a_damaged_report_is_not_sent(serve: Callable[..., Web]) -> None:
    with scp() as (port, got):
        web = serve(return_destination=to(port))
        archive(web)
        told = press_save(web).json()
        path = web.blobs.path(web.catalogue.instances.get(told["stored"].rpartition("/")[2]).content_sha256)
        path.write_bytes(path.read_bytes()[:-2] + b"??")
        assert attempt(web, told["job"])["reason_code"] == "BLOB_DAMAGED"
    assert got == []


def test_a_returned_report_that_comes_back_wakes_nothing(serve: Callable[..., Web]) -> None:
    """A PACS routes what it was given back to our listener: known by its content, and no job comes of it."""
    with scp() as (port, got):
        web = serve(return_destination=to(port))
        archive(web)
        attempt(web, press_save(web).json()["job"])
        (returned,) = got
        before = {kind: web.catalogue.jobs.to_announce(99, kinds=(kind,)) for kind in JobKind}
        returned.file_meta = FileMetaDataset()
        returned.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        web.store(returned)
    assert {kind: web.catalogue.jobs.to_announce(99, kinds=(kind,)) for kind in JobKind} == before
    assert len(got) == 1


@pytest.fixture
def command_line(monkeypatch: pytest.MonkeyPatch) -> Callable[[Web], None]:
    """Lets `main` speak to a web service of the test."""

    def point(web: Web) -> None:
        monkeypatch.setenv("RADIR_HOME", str(web.settings.home))
        monkeypatch.setenv("RADIR_DATABASE_URL", web.settings.database_url)
        monkeypatch.setenv("RADIR_WEB_PORT", str(web.settings.web_port))

    return point


@contextmanager
def transfers(web: Web, budget_s: float = 5.0) -> Iterator[None]:
    """What the transfer process does, in a thread."""
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(0.05):
            for job_id in web.catalogue.jobs.to_announce(9, kinds=(JobKind.SEND,)):
                attempt(web, job_id, budget_s)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_the_command_waits_until_the_report_is_there(
    serve: Callable[..., Web], command_line: Callable[[Web], None], capsys: pytest.CaptureFixture[str]
) -> None:
    with scp() as (port, got):
        web = serve(return_destination=to(port))
        archive(web)
        command_line(web)
        with transfers(web):
            assert main(["save", uid(0), "--region", "left lung", "--limit", "2"]) == 0
            said = capsys.readouterr().out
            assert main(["save", uid(0), "--json"]) == 0
            told = json.loads(capsys.readouterr().out)
    assert "kept at http://" in said and "sent to PACS: sent, status 0000" in said
    assert told["outcome"]["state"] == "DONE" and len(got) == 2


def test_the_command_says_what_the_pacs_did_not_take(
    serve: Callable[..., Web], command_line: Callable[[Web], None], capsys: pytest.CaptureFixture[str]
) -> None:
    with scp(0xA700) as (port, _):
        web = serve(return_destination=to(port), return_attempts=2)
        archive(web)
        command_line(web)
        with transfers(web):
            assert main(["save", uid(0)]) == 1
    said = capsys.readouterr()
    assert "not sent to PACS" in said.out and "A700" in said.out
    assert "trying again" in said.err
    assert main(["save", "1.2.999"]) == 1
    assert "1.2.999" in capsys.readouterr().err


def test_the_command_without_a_destination(
    serve: Callable[..., Web], command_line: Callable[[Web], None], capsys: pytest.CaptureFixture[str]
) -> None:
    web = serve()
    archive(web)
    command_line(web)
    assert main(["save", uid(0)]) == 0
    assert "return_destination" in capsys.readouterr().out
    web.end()
    assert main(["save", uid(0)]) == 1
    assert "does not answer" in capsys.readouterr().err
