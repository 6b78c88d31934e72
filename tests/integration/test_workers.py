"""The use cases of the workers and the runner around them, on a real catalogue, blobs, pixels and index."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest

from radir_pacs.catalogue import Catalogue
from radir_pacs.config import Settings
from radir_pacs.dicom.header import read_header
from radir_pacs.encode import EncoderInput
from radir_pacs.errors import BadInput, LeaseLost, Quarantined, StorageFailed
from radir_pacs.index import Partition, open_generation, partition_folder
from radir_pacs.index.manifest import VECTORS
from radir_pacs.storage.blobs import BlobStore
from radir_pacs.types import Encoding, ImageKind, JobKind, JobState, StudyState
from radir_workers.index_partition import IndexPartition
from radir_workers.leases import EXIT_HUNG
from radir_workers.mine_report import MineReport
from radir_workers.runner import Runner, UseCase
from tests.catalogue_material import (
    DIM,
    MODEL,
    REGIONS,
    add,
    claimed,
    encoded,
    encoding,
    header,
    mined_findings,
    owners,
    register,
)
from tests.dicom_files import radiograph, save
from tests.encoding_material import FakeShelf, Network, by_hand, encoding_line
from tests.index_material import segment_of


@pytest.fixture
def blobs(settings: Settings) -> BlobStore:
    return BlobStore(settings.home / "blobs")


@pytest.fixture
def receive(catalogue: Catalogue, blobs: BlobStore, tmp_path: Path) -> Callable[..., str]:
    """Store a 128 x 128 radiograph with changes and complete its study; returns the study UID."""

    def store(**changes: Any) -> str:
        picture = np.random.default_rng(3).integers(0, 4096, (128, 128)).astype(np.uint16)
        ds = radiograph(**({"Rows": 128, "Columns": 128, "PixelData": picture.tobytes()} | changes))
        path = save(ds, tmp_path / "image.dcm")
        sha256, size_bytes = blobs.put(path.read_bytes())
        catalogue.instances.add(read_header(path), content_sha256=sha256, size_bytes=size_bytes, source="TEST")
        catalogue.studies.complete_quiet(0)
        return str(ds.StudyInstanceUID)

    return store


def run(catalogue: Catalogue, use_case: UseCase, kind: JobKind, key: str) -> JobState:
    """One job through the runner; returns how it stands then."""
    job_id = catalogue.jobs.enqueue(kind, key)
    Runner(catalogue, {kind: use_case}, worker="test", lease_s=60).run(job_id)
    job = catalogue.jobs.get(job_id)
    assert job is not None
    return job.state


@pytest.fixture
def encode(catalogue: Catalogue, blobs: BlobStore) -> Callable[..., JobState]:
    register(catalogue)

    def work(study_uid: str, network: Network = by_hand) -> JobState:
        job_id = catalogue.jobs.enqueue(JobKind.ENCODE, study_uid)
        with encoding_line(catalogue, blobs.root, FakeShelf(network)) as line:
            line.run()
        job = catalogue.jobs.get(job_id)
        assert job is not None
        return job.state

    return work


def test_a_chest_radiograph_is_encoded(
    catalogue: Catalogue, receive: Callable[..., str], encode: Callable[..., JobState]
) -> None:
    seen: list[EncoderInput] = []

    def network(one: EncoderInput) -> Encoding:
        seen.append(one)
        return by_hand(one)

    uid = receive()
    assert encode(uid, network) is JobState.DONE
    assert [one.image.shape for one in seen] == [(1, 128, 128)]
    assert catalogue.studies.mark_indexed() == [uid]
    assert catalogue.encodings.models_of_study(uid) == ((MODEL, ImageKind.CXR),)


def test_what_is_no_chest_is_skipped_with_a_reason(
    catalogue: Catalogue, receive: Callable[..., str], encode: Callable[..., JobState]
) -> None:
    uid = receive(BodyPartExamined="KNEE")
    assert encode(uid) is JobState.DONE
    study = catalogue.studies.get(uid)
    assert study.state is StudyState.SKIPPED and "body part" in (study.reason or "")


def test_pixels_that_cannot_be_read_quarantine_with_a_reason(
    catalogue: Catalogue, receive: Callable[..., str], encode: Callable[..., JobState]
) -> None:
    uid = receive(PixelData=b"\0" * 100)
    assert encode(uid) is JobState.DONE
    study = catalogue.studies.get(uid)
    assert study.state is StudyState.QUARANTINED and study.reason


def test_what_no_codec_reads_is_skipped_and_says_so(
    catalogue: Catalogue, database_url: str, receive: Callable[..., str], encode: Callable[..., JobState]
) -> None:
    """As an earlier release, which refused nothing at storing, may have left it."""
    uid = receive()
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE instance SET transfer_syntax_uid = '1.2.840.10008.1.2.4.55'")
    assert encode(uid) is JobState.DONE
    study = catalogue.studies.get(uid)
    assert study.state is StudyState.SKIPPED
    assert study.reason == "no codec here reads the transfer syntax 1.2.840.10008.1.2.4.55"


def test_a_network_that_sees_nothing_quarantines(
    catalogue: Catalogue, receive: Callable[..., str], encode: Callable[..., JobState]
) -> None:
    def network(one: EncoderInput) -> Encoding:
        raise Quarantined("a flat image")

    uid = receive()
    encode(uid, network)
    assert (catalogue.studies.get(uid).state, catalogue.studies.get(uid).reason) == (
        StudyState.QUARANTINED,
        "a flat image",
    )


def test_a_study_reopened_meanwhile_is_superseded(
    catalogue: Catalogue, receive: Callable[..., str], encode: Callable[..., JobState]
) -> None:
    uid = receive()

    def network(one: EncoderInput) -> Encoding:
        add(catalogue, header(7, study_uid=uid))
        return by_hand(one)

    assert encode(uid, network) is JobState.DONE
    assert catalogue.studies.get(uid).state is StudyState.RECEIVING
    assert catalogue.encodings.get(uid, MODEL) is None
    assert encode(uid) is JobState.DONE, "a job for a study that still receives does nothing"
    assert catalogue.studies.get(uid).state is StudyState.RECEIVING


def test_a_study_that_is_gone_ends_its_job(encode: Callable[..., JobState]) -> None:
    assert encode("2.25.404") is JobState.DONE


@pytest.mark.parametrize(
    ("error", "state", "text"),
    [
        (StorageFailed("the disk is full"), JobState.PENDING, None),
        (BadInput("of another kind"), JobState.FAILED, "of another kind"),
        (ZeroDivisionError("Doe^John"), JobState.PENDING, None),
    ],
)
def test_errors_are_tried_again_unless_that_is_useless(
    catalogue: Catalogue, error: Exception, state: JobState, text: str | None
) -> None:
    def breaks(job: object) -> None:
        raise error

    add(catalogue, header())
    catalogue.studies.complete_quiet(0)
    assert run(catalogue, breaks, JobKind.ENCODE, "2.25.1") is state
    assert catalogue.studies.get("2.25.1").reason == text


def test_an_unknown_error_names_no_patient(catalogue: Catalogue, database_url: str) -> None:

    def breaks(job: object) -> None:
        raise KeyError("Doe^John")

    run(catalogue, breaks, JobKind.ENCODE, "2.25.1")
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT error FROM job").fetchone() == ("internal error (KeyError)",)


def test_the_heartbeat_outlives_the_lease(settings: Settings) -> None:
    with Catalogue.open(replace(settings, job_lease_s=1.0)) as catalogue:
        swept = threading.Event()

        def slow(job: Any) -> None:
            beats = 0
            while beats < 15:  # half as long again as the lease
                beats += 1
                assert catalogue.jobs.sweep() == 0
                swept.wait(0.1)
            catalogue.jobs.finish(job)

        job_id = catalogue.jobs.enqueue(JobKind.ENCODE, "2.25.1")
        Runner(catalogue, {JobKind.ENCODE: slow}, worker="test", lease_s=1.0).run(job_id)
        job = catalogue.jobs.get(job_id)
        assert job is not None and (job.state, job.attempt) == (JobState.DONE, 1)


def merge(catalogue: Catalogue, home: Path, region: str = "chest") -> JobState:
    return run(catalogue, IndexPartition(catalogue, home), JobKind.INDEX, f"{MODEL}/{region}")


def answers(catalogue: Catalogue, home: Path) -> set[int]:
    """What a fresh reader finds: the published generation and the changes since."""
    partition = Partition(model_id=MODEL, region="chest", dim=DIM)
    published = catalogue.generations.published(MODEL, "chest")
    since = "0"
    if published is not None:
        folder = partition_folder(home, MODEL, "chest") / published.name
        partition.swap(open_generation(folder, model_id=MODEL, region="chest", dim=DIM))
        since = published.as_of
    changes = catalogue.encodings.changes(MODEL, "chest", since)
    partition.apply(labels=changes.ids, vectors=changes.vectors, deleted=changes.gone)
    query = encoding().vectors[REGIONS.index("chest")]
    return set(partition.search(query, 100).labels.tolist())


def test_a_merge_changes_no_answer(catalogue: Catalogue, settings: Settings) -> None:
    register(catalogue)
    labels = {encoded(catalogue, study) for study in range(6)}
    assert answers(catalogue, settings.home) == labels
    assert merge(catalogue, settings.home) is JobState.DONE
    assert answers(catalogue, settings.home) == labels
    whose = owners(catalogue, sorted(labels))
    gone = next(label for label, owner in whose.items() if owner.study.study_uid == "2.25.0")
    catalogue.studies.delete("2.25.0")
    new = encoded(catalogue, 9)
    assert answers(catalogue, settings.home) == labels - {gone} | {new}
    merge(catalogue, settings.home)
    published = catalogue.generations.published(MODEL, "chest")
    assert published is not None and published.count == 6
    assert answers(catalogue, settings.home) == labels - {gone} | {new}


def test_a_damaged_generation_is_refused_and_rebuilt(catalogue: Catalogue, settings: Settings) -> None:
    register(catalogue)
    labels = {encoded(catalogue, study) for study in range(3)}
    merge(catalogue, settings.home)
    published = catalogue.generations.published(MODEL, "chest")
    assert published is not None
    vectors = segment_of(partition_folder(settings.home, MODEL, "chest") / published.name) / VECTORS
    content = bytearray(vectors.read_bytes())
    content[-1] ^= 1
    vectors.write_bytes(content)
    merge(catalogue, settings.home)
    rebuilt = catalogue.generations.published(MODEL, "chest")
    assert rebuilt is not None and rebuilt.name != published.name and rebuilt.count == 3
    assert answers(catalogue, settings.home) == labels


def segments(catalogue: Catalogue) -> list[tuple[int, int]]:
    """(count, deleted) of the published segments of "chest"."""
    published = catalogue.generations.published(MODEL, "chest")
    assert published is not None
    return [(segment["count"], segment["deleted"]) for segment in published.manifest["segments"]]


def test_a_merge_takes_in_no_more_than_it_should(
    catalogue: Catalogue, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten wait, four fit: three merges, each after the other; every reader has all ten at any time."""
    monkeypatch.setattr("radir_pacs.index.writer._SMALL", 1)
    register(catalogue)
    labels = {encoded(catalogue, study) for study in range(10)}
    index = IndexPartition(catalogue, settings.home, most=4)
    for expected in ([(4, 0)], [(4, 0), (4, 0)], [(4, 0), (4, 0), (2, 0)]):
        assert run(catalogue, index, JobKind.INDEX, f"{MODEL}/chest") is JobState.DONE
        assert segments(catalogue) == expected
        assert answers(catalogue, settings.home) == labels


def test_encodings_of_one_transaction_are_merged_together(
    catalogue: Catalogue, settings: Settings, database_url: str
) -> None:
    """As after a bulk load: no snapshot lies between them, so one merge builds several segments."""
    register(catalogue)
    labels = {encoded(catalogue, study) for study in range(10)}
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE encoding SET xid = (SELECT min(xid::text)::xid8 FROM encoding)")
    index = IndexPartition(catalogue, settings.home, most=4)
    assert run(catalogue, index, JobKind.INDEX, f"{MODEL}/chest") is JobState.DONE
    assert [count for count, _ in segments(catalogue)] == [4, 4, 2]
    assert answers(catalogue, settings.home) == labels


def test_deletions_inside_a_sealed_segment_survive_a_restart(
    catalogue: Catalogue, settings: Settings, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They stand in the generation; the catalogue forgets them once every generation has them."""
    monkeypatch.setattr("radir_pacs.index.writer._SMALL", 1)
    register(catalogue)
    labels = {study: encoded(catalogue, study) for study in range(10)}
    merge(catalogue, settings.home)
    catalogue.studies.delete("2.25.3")
    merge(catalogue, settings.home)
    assert segments(catalogue) == [(10, 1)], "one of ten is not worth another build"
    with psycopg.connect(database_url) as connection:
        connection.execute("DELETE FROM encoding_gone")
    assert answers(catalogue, settings.home) == set(labels.values()) - {labels[3]}
    for study in (4, 5):
        catalogue.studies.delete(f"2.25.{study}")
    merge(catalogue, settings.home)
    assert segments(catalogue) == [(7, 0)], "three of ten are"
    assert answers(catalogue, settings.home) == {labels[study] for study in (0, 1, 2, 6, 7, 8, 9)}


def test_a_generation_of_an_earlier_format_is_rebuilt(catalogue: Catalogue, settings: Settings) -> None:
    register(catalogue)
    labels = {encoded(catalogue, study) for study in range(3)}
    folder = partition_folder(settings.home, MODEL, "chest") / "00000004-0123456789ab"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text('{"format": "radir-index-generation/1", "sha256": ""}')
    as_of = catalogue.encodings.changes(MODEL, "chest").xid
    catalogue.generations.record(MODEL, "chest", name=folder.name, count=3, as_of=as_of, manifest={"count": 3})
    merge(catalogue, settings.home)
    assert segments(catalogue) == [(3, 0)]
    assert answers(catalogue, settings.home) == labels


def test_a_writer_that_lost_its_lease_leaves_no_build(catalogue: Catalogue, settings: Settings) -> None:
    register(catalogue)
    encoded(catalogue, 1)
    job = claimed(catalogue, JobKind.INDEX, f"{MODEL}/chest")
    catalogue.jobs.finish(job)
    with pytest.raises(LeaseLost):
        IndexPartition(catalogue, settings.home)(job)
    assert not [path for path in partition_folder(settings.home, MODEL, "chest").rglob("*") if path.is_file()]
    assert catalogue.generations.published(MODEL, "chest") is None


def test_a_merge_for_a_model_that_is_gone_ends(catalogue: Catalogue, settings: Settings) -> None:
    assert merge(catalogue, settings.home) is JobState.DONE


def text_item(text: str) -> dict[str, Any]:
    return {"0040A040": {"vr": "CS", "Value": ["TEXT"]}, "0040A160": {"vr": "UT", "Value": [text]}}


@pytest.mark.parametrize(
    ("attributes", "n_reports"),
    [
        ({"0040A730": {"vr": "SQ", "Value": [text_item("FINDINGS: Large left pleural effusion.")]}}, 1),
        ({"0040A730": {"vr": "SQ", "Value": []}}, 0),
    ],
)
def test_a_report_is_mined_as_it_arrives(
    catalogue: Catalogue, attributes: dict[str, Any], n_reports: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says of which study, whose trace leads through all roles: the job's key does not."""
    from tests.catalogue_material import report_header

    add(catalogue, header())
    add(catalogue, report_header(attributes=attributes))
    with caplog.at_level(logging.INFO):
        assert run(catalogue, MineReport(catalogue), JobKind.REPORT, report_header().sop_uid) is JobState.DONE
    assert len(catalogue.reports.of_study("2.25.1")) == n_reports
    assert len(mined_findings(catalogue, "2.25.1")) == n_reports
    told = [vars(record).get("study_uid") for record in caplog.records if record.message == "report is mined"]
    assert told == ["2.25.1"] * n_reports


def test_a_job_that_hangs_ends_its_worker_and_counts(catalogue: Catalogue) -> None:
    """A thread cannot be ended from outside: the process goes, and the lease is not prolonged for ever."""
    job_id = catalogue.jobs.enqueue(JobKind.INDEX, "m/chest")
    given_up = threading.Event()
    codes: list[int] = []

    def hang(job: Any) -> None:
        assert given_up.wait(30)

    def give_up(code: int) -> None:
        codes.append(code)
        given_up.set()

    Runner(catalogue, {JobKind.INDEX: hang}, worker="test", lease_s=0.3, longest_s=0.5, give_up=give_up).run(job_id)
    assert codes == [EXIT_HUNG]


def test_what_the_catalogue_cannot_even_claim_is_not_raised(
    catalogue: Catalogue, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Celery would log the exception's text."""

    def broken(job_id: int, worker: str) -> None:
        raise ValueError("DOE^JANE")

    monkeypatch.setattr(catalogue.jobs, "claim", broken)
    Runner(catalogue, {}, worker="test", lease_s=60).run(1)
    assert [record.message for record in caplog.records] == ["job could not be run"]
