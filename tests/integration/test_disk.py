"""What fills the disk is told, and what may make room does: the oldest, encoded, that the PACS says it has."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs

import pytest

from radir_pacs.catalogue import Catalogue, Stored
from radir_pacs.catalogue.jobs import AWAY_ATTEMPTS
from radir_pacs.cli.disk import gather
from radir_pacs.config import Settings
from radir_pacs.delivery.commitment import NO_SUCH_INSTANCE
from radir_pacs.errors import BlobDamaged, SettingError, StorageFailed
from radir_pacs.intake.commitments import check
from radir_pacs.intake.instances import OUT_OF_RESOURCES, Intake
from radir_pacs.intake.sources import Pacs, Sources
from radir_pacs.reasons import ReasonCode
from radir_pacs.storage import open_blobs
from radir_pacs.storage.blobs import SWEEP_PARTS, BlobStore
from radir_pacs.types import JobKind, StudyState
from radir_workers.evict_files import EvictFiles
from radir_workers.outcome import Outcome
from radir_workers.relay import Relay
from radir_workers.runner import Runner
from tests.catalogue_material import add, claimed, encoding, header, register
from tests.dicom_files import radiograph, save
from tests.unit.test_blobs import make_old

MIB = 1 << 20


@contextmanager
def pacs(
    known: dict[str, list[str]],
    *,
    page: int = 1000,
    asked_for: list[str] | None = None,
    fails: tuple[str, ...] = (),
    says: bytes = b"",
) -> Iterator[Pacs]:
    """A PACS that has these instances, by study (QIDO-RS), and names no more than a page of them at once.

    fails: studies for which it answers with an error of its own. says: what it answers instead.
    """

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, _, asked = self.path.partition("?")
            (asked_for if asked_for is not None else []).append(path)
            offset = int(parse_qs(asked)["offset"][0])
            study_uid = path.removeprefix("/studies/").removesuffix("/instances")
            if study_uid in fails:
                self.send_error(500)
                return
            uids = known.get(study_uid, [])[offset : offset + page]
            body = says or json.dumps([{"00080018": {"vr": "UI", "Value": [uid]}} for uid in uids]).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield Pacs(url=f"http://127.0.0.1:{server.server_port}", authorization="")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def blobs(settings: Settings) -> BlobStore:
    return open_blobs(settings)


def study(catalogue: Catalogue, blobs: BlobStore, number: int, indexed: bool = True) -> str:
    """A study of one MiB, old enough to go; returns its file's hash."""
    sha256, size_bytes = blobs.put(bytes([number]) * MIB)
    catalogue.instances.add(header(number), content_sha256=sha256, size_bytes=size_bytes, source="TEST")
    if indexed:
        catalogue.studies.complete_now(f"2.25.{number}")
        job = claimed(catalogue, key=f"2.25.{number}")
        catalogue.encodings.save_several(f"2.25.{number}", [encoding(number, number)], 1, job)
        catalogue.studies.mark_indexed()
    make_old(blobs.path(sha256))
    return sha256


def counted(catalogue: Catalogue, blobs: BlobStore) -> None:
    """As the sweep does, in ten minutes."""
    for part in range(256):
        catalogue.disk.note_usage(part, *blobs.usage(part))


def test_the_oldest_that_the_pacs_has_makes_room(settings: Settings, catalogue: Catalogue, blobs: BlobStore) -> None:
    register(catalogue)
    waiting = study(catalogue, blobs, 1, indexed=False)
    files = {number: study(catalogue, blobs, number) for number in (2, 3, 4, 5)}
    reopened = study(catalogue, blobs, 6)
    add(catalogue, header(6, 1, 2))  # a late image: acknowledged, and not yet encoded
    counted(catalogue, blobs)
    assert catalogue.disk.usage()[:2] == (6, 6 * MIB)
    known = {f"2.25.{number}": [f"2.25.{number}.1.{one}" for one in (7, 8, 1)] for number in (1, 2, 4, 5, 6)}
    known["2.25.3"] = ["2.25.3.1.8"]  # as many as here, but another
    with pacs(known, page=2) as there:
        tight = replace(
            settings, disk_budget_mib=6, evict_files=True, evict_above=0.9, evict_below=0.7, pull_url=there.url
        )
        rung: list[str] = []
        Relay(catalogue, blobs, tight, lambda job, queue: rung.append(queue)).round()
        job_id = catalogue.jobs.enqueue(JobKind.EVICT, "files")
        runner = Runner(
            catalogue,
            {JobKind.EVICT: EvictFiles(catalogue, blobs, Sources(default=there), tight)},
            worker="t",
            lease_s=60,
        )
        runner.run(job_id)
    assert "transfer" in " ".join(rung)
    stand = {number for number, sha256 in files.items() if blobs.path(sha256).exists()}
    assert stand == {3, 5}, "the two oldest that can be fetched again, no more than needed"
    assert blobs.path(waiting).exists(), "acknowledged and not yet encoded"
    assert blobs.path(reopened).exists()
    assert catalogue.disk.usage()[1] == 4 * MIB
    assert catalogue.studies.get("2.25.2").state == "INDEXED"

    assert catalogue.damage.note(files[2]), "it is no damage"
    assert catalogue.damage.all() == ()
    pull = catalogue.jobs.claim(catalogue.jobs.enqueue(JobKind.PULL, "2.25.2"), "t")
    assert pull is not None
    blobs.put(bytes([2]) * MIB)
    catalogue.instances.add(header(2), content_sha256=files[2], size_bytes=MIB, source="PULL")
    catalogue.instances.came_again("2.25.2", files[2])
    assert not catalogue.damage.note(files[2]), "it is here again, and may be damaged like any other"


def test_the_pacs_is_asked_once_a_day_for_what_it_lacks(
    settings: Settings, catalogue: Catalogue, blobs: BlobStore
) -> None:
    register(catalogue)
    study(catalogue, blobs, 1)
    counted(catalogue, blobs)
    asked: list[str] = []
    with pacs({}, asked_for=asked) as there:
        evict = EvictFiles(catalogue, blobs, Sources(default=there), replace(settings, disk_budget_mib=1))
        for _ in range(2):
            evict(claimed(catalogue, JobKind.EVICT, "files"))
    assert asked == ["/studies/2.25.1/instances"]


def test_one_study_that_the_pacs_cannot_answer_for_does_not_stop_making_room(
    settings: Settings, catalogue: Catalogue, blobs: BlobStore
) -> None:
    register(catalogue)
    files = [study(catalogue, blobs, number) for number in (1, 2, 3)]
    counted(catalogue, blobs)
    known = {f"2.25.{number}": [f"2.25.{number}.1.1"] for number in (1, 2, 3)}
    with pacs(known, fails=("2.25.1",)) as there:
        evict = EvictFiles(catalogue, blobs, Sources(default=there), replace(settings, disk_budget_mib=1))
        evict(claimed(catalogue, JobKind.EVICT, "files"))
    assert [blobs.path(sha256).exists() for sha256 in files] == [True, False, False]


def test_nothing_makes_room_for_a_job_that_came_or_under_a_backup(
    settings: Settings, catalogue: Catalogue, blobs: BlobStore
) -> None:
    register(catalogue)
    study(catalogue, blobs, 1)
    [found] = catalogue.disk.evictable(["2.25.1"])
    assert (len(found.hashes), found.sop_uids) == (1, ["2.25.1.1.1"])
    with catalogue.backups.alone() as connection, catalogue.backups.snapshot(connection):
        assert catalogue.disk.evict(found) == [], "it may be about to be copied"
    job = catalogue.jobs.claim(catalogue.jobs.enqueue(JobKind.REENCODE, "a model/2.25.1"), "t")
    assert job is not None
    assert catalogue.disk.evict(found) == [], "its pixels are wanted"
    assert catalogue.disk.evictable(["2.25.1"])[0].hashes == []
    catalogue.jobs.finish(job)
    assert catalogue.disk.evict(found) == found.hashes


def test_a_file_that_a_killed_eviction_left_goes_with_the_sweep(
    settings: Settings, catalogue: Catalogue, blobs: BlobStore
) -> None:
    """Its row says that it made room: killed between the row and the file, the file would have stayed for ever."""
    register(catalogue)
    kept, left = study(catalogue, blobs, 1), study(catalogue, blobs, 2)
    assert catalogue.disk.evict(catalogue.disk.evictable(["2.25.2"])[0]) == [left]
    for part in range(SWEEP_PARTS):
        blobs.sweep(catalogue.instances.known_blobs, part)
    assert (blobs.path(kept).exists(), blobs.path(left).exists()) == (True, False)


@pytest.mark.parametrize("is_last", [False, True])
def test_a_study_whose_files_made_room_waits_for_them_with_its_vectors(
    is_last: bool, catalogue: Catalogue, blobs: BlobStore
) -> None:
    """A late image re-opens it: it was put into quarantine, and was in no answer until its files were back."""
    register(catalogue)
    sha256 = study(catalogue, blobs, 1)
    catalogue.disk.evict(catalogue.disk.evictable(["2.25.1"])[0])
    blobs.delete(sha256)
    add(catalogue, header(1, 1, 2))
    catalogue.studies.complete_now("2.25.1")
    sources = Sources(default=Pacs(url="http://127.0.0.1:9"))
    outcome, job = Outcome(catalogue, sources), claimed(catalogue, key="2.25.1")
    revision = outcome.begin(job)
    assert revision is not None
    outcome.failed(replace(job, attempt=AWAY_ATTEMPTS if is_last else job.max_attempts), revision, BlobDamaged(sha256))
    found = catalogue.studies.get("2.25.1")
    if is_last:  # it is mended when the pictures are back, whoever sends them
        assert (found.state, found.reason_code) == (StudyState.INDEXED, ReasonCode.BLOB_AWAY)
        catalogue.instances.came_again("2.25.1", sha256)
        assert catalogue.studies.get("2.25.1").state is StudyState.RECEIVING
    else:
        assert (found.state, len(catalogue.encodings.models_of_study("2.25.1"))) == (StudyState.STABLE, 1)
    assert catalogue.damage.all() == ()
    assert [count.count for count in catalogue.overview().jobs if count.kind is JobKind.PULL] == [1]


def test_a_commitment_to_what_made_room_is_refused_and_pulls_nothing(catalogue: Catalogue, blobs: BlobStore) -> None:
    register(catalogue)
    sha256 = study(catalogue, blobs, 1)
    catalogue.disk.evict(catalogue.disk.evictable(["2.25.1"])[0])
    blobs.delete(sha256)
    instance = catalogue.instances.of_study("2.25.1")[0]
    asked = catalogue.commitments.add("2.25.9", "MODALITY", [(instance.sop_class_uid, instance.sop_uid)])
    assert [reason for _, _, reason in check(asked, catalogue, blobs).failed] == [NO_SUCH_INSTANCE]
    assert not [count for count in catalogue.overview().jobs if count.kind is JobKind.PULL]


def test_a_bucket_has_a_file_before_any_row_is_locked(
    settings: Settings, catalogue: Catalogue, blobs: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    add_instance = catalogue.instances.add
    monkeypatch.setattr(blobs, "is_remote", True, raising=False)
    monkeypatch.setattr(blobs, "keep", lambda sha256, path: done.append("uploaded"))

    def adds(*given: Any, **named: Any) -> Stored:
        done.append("added")
        return add_instance(*given, **named)

    monkeypatch.setattr(catalogue.instances, "add", adds)
    path = tmp_path / "one.dcm"
    save(radiograph(), path)
    with blobs.incoming() as incoming:
        incoming.write(path.read_bytes())
        assert Intake(catalogue, blobs, settings).store(incoming, source="TEST").ok
    assert done == ["uploaded", "added"]


def test_nothing_is_stored_beyond_the_budget(
    settings: Settings, catalogue: Catalogue, blobs: BlobStore, tmp_path: Path
) -> None:
    study(catalogue, blobs, 1, indexed=False)
    counted(catalogue, blobs)
    path = tmp_path / "late.dcm"
    save(radiograph(), path)
    outcomes = []
    for budget_mib in (1, 2):
        intake = Intake(catalogue, blobs, replace(settings, disk_budget_mib=budget_mib))
        with blobs.incoming() as incoming:
            incoming.write(path.read_bytes())
            outcomes.append(intake.store(incoming, source="TEST").status)
    assert outcomes == [OUT_OF_RESOURCES, 0]
    with pytest.raises(StorageFailed, match="are kept free"):
        Intake(catalogue, blobs, replace(settings, min_free_disk_mib=1 << 40)).check_room()


def test_who_uses_what(settings: Settings, catalogue: Catalogue, blobs: BlobStore) -> None:
    study(catalogue, blobs, 1, indexed=False)
    (settings.home / "logs").mkdir()
    (settings.home / "logs" / "web.log").write_bytes(bytes(10_000))
    found = gather(settings)
    assert found["files"] == [{"modality": "DX", "files": 1, "bytes": MIB, "evicted_bytes": 0}]
    assert found["folders"]["logs"] >= 10_000
    assert found["database"]["tables"]["instance"] > 0
    assert found["image_tokens"] > 0


def test_eviction_needs_a_way_back(settings: Settings) -> None:
    with pytest.raises(SettingError, match="pull_url"):
        replace(settings, evict_files=True)
    with pytest.raises(SettingError, match="disk_budget_mib"):
        replace(settings, evict_files=True, pull_url="http://pacs", blob_store="s3://radir/blobs")
    with pytest.raises(SettingError, match="evict_below"):
        replace(settings, evict_below=0.95)
