"""Quarantine has a way back: killed children are tried again, re-sent files and `radir problems retry` re-open."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest

from radir_pacs import cli
from radir_pacs.catalogue import Catalogue
from radir_pacs.catalogue.jobs import KILLED_ATTEMPTS
from radir_pacs.config import Settings, to_environment
from radir_pacs.dicom.pixels import PixelDecoder
from radir_pacs.intake.instances import Intake
from radir_pacs.reasons import ReasonCode
from radir_pacs.storage.blobs import BlobStore
from radir_pacs.types import JobKind, JobState, StudyState
from radir_workers.decoding_room import DecodingRoom
from tests.catalogue_material import register
from tests.dicom_files import radiograph, save
from tests.encoding_material import FakeShelf, by_hand, encoding_line

STUDY = "2.25.1234"


@pytest.fixture
def blobs(settings: Settings) -> BlobStore:
    return BlobStore(settings.home / "blobs")


@pytest.fixture
def send(catalogue: Catalogue, blobs: BlobStore, settings: Settings, tmp_path: Path) -> Callable[..., str]:
    """Store a radiograph, through the intake as a peer does; returns the study UID."""
    intake = Intake(catalogue, blobs, settings)

    def store(preamble: bytes = bytes(128), **changes: Any) -> str:
        picture = np.random.default_rng(3).integers(0, 4096, (128, 128)).astype(np.uint16)
        changes = {"StudyInstanceUID": STUDY} | changes
        uids = {
            "SeriesInstanceUID": f"{changes['StudyInstanceUID']}.1",
            "SOPInstanceUID": f"{changes['StudyInstanceUID']}.2",
        }
        ds = radiograph(**(uids | {"Rows": 128, "Columns": 128, "PixelData": picture.tobytes()} | changes))
        with blobs.incoming() as incoming:
            incoming.write(preamble + save(ds, tmp_path / "image.dcm").read_bytes()[128:])
            assert intake.store(incoming, source="TEST").ok
        return str(ds.StudyInstanceUID)

    return store


class Work:
    """Encodes what is due, without the pauses between attempts."""

    def __init__(self, catalogue: Catalogue, blobs: BlobStore, database_url: str) -> None:
        self.catalogue, self.database_url = catalogue, database_url
        self.blobs = blobs

    def once(self) -> int:
        """One attempt at each pending job; returns how many there were."""
        self.catalogue.studies.complete_quiet(0)
        with psycopg.connect(self.database_url) as connection:
            connection.execute("UPDATE job SET run_after = now() - interval '1 s', rung_at = NULL")
        jobs = self.catalogue.jobs.to_announce(100)
        with encoding_line(self.catalogue, self.blobs.root, FakeShelf(by_hand)) as line:
            line.run()
        return len(jobs)


@pytest.fixture
def work(catalogue: Catalogue, blobs: BlobStore, database_url: str) -> Work:
    register(catalogue)
    return Work(catalogue, blobs, database_url)


@pytest.fixture
def killer(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Kills decoding children in the middle of a file, as many times as the number in the list."""
    left = [0]
    answer = PixelDecoder._line

    def killed(decoder: PixelDecoder, deadline: float) -> Any:
        if left[0] > 0 and decoder._child is not None:
            left[0] -= 1
            os.kill(decoder._child.pid, signal.SIGKILL)
            decoder._child.wait()
        return answer(decoder, deadline)

    monkeypatch.setattr(PixelDecoder, "_line", killed)
    return left


def test_a_killed_child_is_tried_again(
    catalogue: Catalogue, send: Callable[..., str], work: Work, killer: list[int]
) -> None:
    uid = send()
    killer[0] = 5
    for _ in range(8):
        work.once()
    study = catalogue.studies.get(uid)
    assert (study.state, killer) == (StudyState.ENCODED, [0])


def test_a_child_that_is_always_killed_ends_in_quarantine_and_comes_back(
    catalogue: Catalogue, send: Callable[..., str], work: Work, killer: list[int]
) -> None:
    uid = send()
    killer[0] = 1000
    rounds = 0
    while catalogue.studies.get(uid).state is not StudyState.QUARANTINED:
        assert work.once(), "it neither waits for an attempt nor says that it failed"
        rounds += 1
    assert rounds == KILLED_ATTEMPTS
    assert catalogue.studies.get(uid).reason_code is ReasonCode.DECODER_KILLED
    assert not catalogue.studies.complete_now(uid)
    killer[0] = 0
    assert catalogue.studies.retry() == [uid]
    work.once()
    assert catalogue.studies.get(uid).state is StudyState.ENCODED


def test_the_attempt_after_a_kill_decodes_alone(
    catalogue: Catalogue, send: Callable[..., str], work: Work, killer: list[int], blobs: BlobStore
) -> None:
    send()
    killer[0] = 1
    work.once()
    room = DecodingRoom(blobs.root)
    entered, leave = threading.Event(), threading.Event()

    def beside() -> None:
        with room.shared():
            entered.set()
            leave.wait(30)

    other, attempt = threading.Thread(target=beside), threading.Thread(target=work.once)
    other.start()
    assert entered.wait(30)
    attempt.start()
    attempt.join(0.5)
    assert attempt.is_alive(), "it waits for the other to end"
    newcomer = threading.Thread(target=lambda: room.shared().__enter__(), daemon=True)
    newcomer.start()
    newcomer.join(0.2)
    assert newcomer.is_alive(), "a newcomer waits at the door"
    leave.set()
    for thread in (attempt, other, newcomer):
        thread.join(30)
    assert catalogue.studies.get(STUDY).state is StudyState.ENCODED


def test_the_same_file_sent_again_opens_what_only_the_machine_failed(
    catalogue: Catalogue, send: Callable[..., str], work: Work
) -> None:
    uid = send()
    for code, opens in (
        (ReasonCode.DECODER_KILLED, True),
        (ReasonCode.WORKER_FAILED, True),
        (ReasonCode.BLOB_DAMAGED, True),
        (ReasonCode.DECODE_FAILED, False),
        (ReasonCode.MISSING_SLICES, False),
    ):
        catalogue.studies.set_state(uid, StudyState.QUARANTINED, "said so", reason_code=code)
        send()
        state = catalogue.studies.get(uid).state
        assert state is (StudyState.RECEIVING if opens else StudyState.QUARANTINED), code


def test_the_same_instance_written_anew_opens_it_too(catalogue: Catalogue, send: Callable[..., str]) -> None:
    """A PACS writes its own preamble before it sends again."""
    uid = send()
    catalogue.studies.set_state(uid, StudyState.QUARANTINED, "said so", reason_code=ReasonCode.DECODER_KILLED)
    send(preamble=b"another writer".ljust(128, b"\0"))
    assert catalogue.studies.get(uid).state is StudyState.RECEIVING
    assert catalogue.corrections.recent() == ()


def test_a_damaged_file_is_quarantined_listed_and_mended_by_sending(
    catalogue: Catalogue, send: Callable[..., str], work: Work, blobs: BlobStore, database_url: str
) -> None:
    for damage in ("flipped", "zeroed", "cut", "gone"):
        uid = send(StudyInstanceUID=f"2.25.{ord(damage[0])}")
        instance = catalogue.instances.of_study(uid)[-1]
        path = blobs.path(instance.content_sha256)
        data = bytearray(path.read_bytes())
        if damage == "flipped":
            data[-100] ^= 1
        elif damage == "zeroed":
            data[-4096:] = bytes(4096)
        elif damage == "cut":
            del data[-10:]
        path.write_bytes(data)
        if damage == "gone":
            path.unlink()
        work.once()
        study = catalogue.studies.get(uid)
        assert (study.state, study.reason_code) == (StudyState.QUARANTINED, ReasonCode.BLOB_DAMAGED), damage
        assert [d.sop_uid for d in catalogue.damage.all()] == [instance.sop_uid]
        send(StudyInstanceUID=uid)
        work.once()
        assert catalogue.studies.get(uid).state is StudyState.ENCODED, damage
        assert catalogue.damage.all() == ()


def test_a_damaged_file_is_replaced_by_what_another_sender_wrote(
    catalogue: Catalogue, send: Callable[..., str], work: Work, blobs: BlobStore
) -> None:
    """A PACS seldom sends exactly the same bytes again: a file that can no longer be compared is replaced."""
    uid = send()
    path = blobs.path(catalogue.instances.of_study(uid)[0].content_sha256)
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    work.once()
    assert catalogue.studies.get(uid).reason_code is ReasonCode.BLOB_DAMAGED
    send(InstitutionName="written by another station")
    work.once()
    assert catalogue.studies.get(uid).state is StudyState.ENCODED
    assert catalogue.damage.all() == ()


def radir(settings: Settings, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    for name, value in to_environment(settings).items():
        monkeypatch.setenv(name, value)
    return cli.main(list(arguments))


def test_the_command_retries_and_drops(
    catalogue: Catalogue,
    send: Callable[..., str],
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first, second = (send(StudyInstanceUID=f"2.25.{n}") for n in (41, 42))

    def quarantine() -> None:
        for uid, code in ((first, ReasonCode.DECODER_KILLED), (second, ReasonCode.MISSING_SLICES)):
            catalogue.studies.set_state(uid, StudyState.QUARANTINED, "said so", reason_code=code)

    def states() -> list[StudyState]:
        return [catalogue.studies.get(uid).state for uid in (first, second)]

    quarantined, stable, skipped = StudyState.QUARANTINED, StudyState.STABLE, StudyState.SKIPPED
    for arguments, expected in (
        ((first,), [stable, quarantined]),
        (("--reason", "missing_slices", "--yes"), [quarantined, stable]),
        (("--all", "--yes"), [stable, stable]),
    ):
        quarantine()
        assert radir(settings, monkeypatch, "problems", "retry", *arguments) == 0
        assert states() == expected
    quarantine()
    capsys.readouterr()
    assert radir(settings, monkeypatch, "complete", first) == 1
    assert f"radir problems retry {first}" in capsys.readouterr().out
    assert radir(settings, monkeypatch, "problems", "drop", second) == 0
    assert states() == [quarantined, skipped]
    capsys.readouterr()
    assert radir(settings, monkeypatch, "problems", "--json") == 0
    listed = json.loads(capsys.readouterr().out)["studies"]
    assert [(row["study"], row["reason_code"]) for row in listed] == [(first, "DECODER_KILLED")]
    for wrong in (("retry",), ("retry", first, "--all"), ("drop", "--reason", "NONSENSE"), ("--all",)):
        assert radir(settings, monkeypatch, "problems", *wrong) == 1
    assert radir(settings, monkeypatch, "problems", "retry", "2.25.404") == 1


def test_other_jobs_that_failed_are_listed_and_tried_again(catalogue: Catalogue) -> None:
    job = catalogue.jobs.claim(catalogue.jobs.enqueue(JobKind.REPORT, "2.25.9.1"), "test")
    assert job is not None
    catalogue.jobs.fail(job, "internal error (KeyError)", reason_code=ReasonCode.WORKER_FAILED, retry=False)
    assert [(j.kind, j.key, j.reason_code) for j in catalogue.jobs.failed()] == [
        (JobKind.REPORT, "2.25.9.1", ReasonCode.WORKER_FAILED)
    ]
    assert catalogue.jobs.retry_failed(ReasonCode.PEER_FAILED) == 0
    assert catalogue.jobs.retry_failed() == 1
    assert catalogue.jobs.failed() == ()
    found = catalogue.jobs.get(job.id + 1)
    assert found is not None and found.state is JobState.PENDING


def test_what_is_tried_again_shows_among_the_problems(
    catalogue: Catalogue, settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A PACS that is away for an hour is seen at once, not only when a report was given up."""
    job = catalogue.jobs.claim(catalogue.jobs.enqueue(JobKind.SEND, "2.25.8", max_attempts=7), "test")
    assert job is not None and catalogue.jobs.retried() == ()
    catalogue.jobs.fail(job, "PACS cannot be reached", reason_code=ReasonCode.PEER_UNREACHABLE)
    (shown,) = catalogue.jobs.retried()
    assert (shown.kind, shown.key, shown.reason_code) == (JobKind.SEND, "2.25.8", ReasonCode.PEER_UNREACHABLE)
    assert radir(settings, monkeypatch, "problems", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["jobs"], [row["key"] for row in found["retried"]]) == ([], ["2.25.8"])
    assert radir(settings, monkeypatch, "problems") == 0
    assert "tried again" in capsys.readouterr().out
    with psycopg.connect(settings.database_url) as connection:
        connection.execute("UPDATE job SET run_after = now()")
    again = catalogue.jobs.claim(job.id, "test")
    assert again is not None and len(catalogue.jobs.retried()) == 1, "it still counts while it runs"
    catalogue.jobs.fail(again, "PACS is not set", reason_code=ReasonCode.WRONG_SETTING, retry=False)
    assert catalogue.jobs.retried() == () and len(catalogue.jobs.failed()) == 1
    assert catalogue.jobs.retry_failed() == 1
    with psycopg.connect(settings.database_url) as connection:
        row = connection.execute("SELECT max_attempts FROM job WHERE state = 'PENDING'").fetchone()
    assert row == (7,), "with as many attempts as before"
