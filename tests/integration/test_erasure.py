"""Erasure: nothing of a study or a patient is left in any place, and what cannot go at once is found and said."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import psycopg
import pytest

from radir_pacs.access import erasure
from radir_pacs.callers import AuditEvent
from radir_pacs.catalogue import (
    Catalogue,
    Message,
    OrderLink,
    PatientMerge,
    ReportStatus,
    ReportVersion,
    SnapshotStudy,
    Verdict,
)
from radir_pacs.cli import main
from radir_pacs.config import Settings, to_environment
from radir_pacs.errors import BadInput, NotFound
from radir_pacs.index import partition_folder
from radir_pacs.storage import open_blobs, s3_blobs
from radir_pacs.storage.blobs import BlobStore
from radir_pacs.types import JobKind
from radir_workers.index_partition import IndexPartition
from tests.catalogue_material import MODEL, TESTER, claimed, encoding, header, register
from tests.s3_server import s3_server

KEY = "\\4711"


def stored(catalogue: Catalogue, blobs: BlobStore, study: int, key: str) -> str:
    """A study with its file, its vectors, its report; returns the name of the file."""
    sha256, size = blobs.put(f"file of study {study}".encode())
    old = time.time() - 600
    os.utime(blobs.path(sha256), (old, old))
    one = header(
        study, patient_key=key, patient_id=key.partition("\\")[2], patient_keys=(key,), accession_number=f"A{study}"
    )
    catalogue.instances.add(one, content_sha256=sha256, size_bytes=size, source="CT1")
    assert catalogue.encodings.save(encoding(study, seed=study), 1)
    return sha256


def version(document: str, **changes: object) -> ReportVersion:
    now = datetime.now(UTC)
    given = {
        "source": "hl7",
        "document": document,
        "status": ReportStatus.FINAL,
        "version_at": now,
        "sent_at": now,
        "body": "A text that names somebody.",
        "patient_keys": (KEY,),
    }
    return ReportVersion(**(given | changes))  # type: ignore[arg-type]


def found(places: tuple[erasure.SearchedPlace, ...]) -> dict[str, int]:
    return {place.name: place.found for place in places if place.found}


def every_word_of(database_url: str) -> str:
    """All rows of all tables as text, but the audit trail."""
    with psycopg.connect(database_url) as connection:
        tables = connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'audit_event'"
        ).fetchall()
        rows = [connection.execute(f"SELECT t::text FROM {name} AS t".encode()).fetchall() for (name,) in tables]
    return "\n".join(text for table in rows for (text,) in table)


def test_nothing_of_a_patient_is_left(catalogue: Catalogue, settings: Settings, database_url: str) -> None:
    register(catalogue)
    blobs = BlobStore(settings.home / "blobs")
    files = [stored(catalogue, blobs, number, key) for number, key in ((1, KEY), (2, "\\4712"), (3, "\\815"))]
    catalogue.report_versions.receive(version("in force", numbers=("A1",)))
    catalogue.report_versions.receive(version("waiting", numbers=("nowhere",)))
    message = Message(sender="RIS", control_id="1", kind="ADT^A40", body=b"x")
    catalogue.messages.take(message, (PatientMerge(pairs=((KEY, "\\4712"),)),), Verdict())
    order = Message(sender="RIS", control_id="2", kind="ORM^O01", body=b"y")
    catalogue.messages.take(order, (OrderLink(numbers=("A1",), study_uid="2.25.1"),), Verdict())
    for number, body in (("3", b"PID|1||4711^^^\r"), ("4", b"PID|1||47110^^^\r")):
        kept = Message(sender="RIS", control_id=number, kind="ORU^R01", body=body)
        catalogue.messages.take(kept, (), Verdict(answer="AE", reason="unusable"))
    catalogue.jobs.enqueue(JobKind.PULL, "2.25.1")
    catalogue.contexts.open("2.25.1", "a token", 60)
    run = catalogue.retraining.start(
        kind=catalogue.models.get(MODEL).kind,  # type: ignore[union-attr]
        depth="head",
        plan={},
        plan_sha256="0" * 64,
        champion=MODEL,
        started_by="tester",
        steps=("one",),
    )
    snapshot = SnapshotStudy(study_uid="2.25.1", revision=1, report_sha256="0" * 64, held_out=False)
    catalogue.retraining.keep_snapshot(run, [snapshot])
    work = settings.home / "retraining" / str(run) / "work" / "inputs"
    work.mkdir(parents=True)
    page = work.parents[1] / "evidence.html"
    page.write_text("with a picture of the patient")
    before = found(erasure.look("4711", catalogue, settings))
    assert before["table: studies"] == 2 and before["table: kept messages"] == 1

    places = erasure.erase("4711", catalogue, settings, by=TESTER)
    assert found(places) == {} and len(places) > 15
    assert list(catalogue.studies.uids()) == ["2.25.3"]
    assert [blobs.path(sha256).exists() for sha256 in files] == [False, False, True]
    assert not work.parent.exists() and not page.exists()
    with psycopg.connect(database_url) as connection:
        connection.execute("DELETE FROM erasure")
    words = every_word_of(database_url)
    for word in ("2.25.1", "\\4711", "names somebody"):
        assert word not in words, word
    assert {event.event for event in catalogue.audit.events(patient_id=KEY)} >= {AuditEvent.ERASED}
    assert len(catalogue.messages.kept()) == 1, "another patient's message stays"
    with pytest.raises(NotFound):
        erasure.erase("4711", catalogue, settings, by=TESTER)


def test_vectors_leave_the_index_files(catalogue: Catalogue, settings: Settings) -> None:
    """What is sealed in a segment is found until the merge that is due; no vector of it remains then."""
    register(catalogue)
    blobs = BlobStore(settings.home / "blobs")
    for number in range(1, 6):
        stored(catalogue, blobs, number, f"\\{number}")
    merged = IndexPartition(catalogue, settings.home)
    region = "chest"

    def index() -> None:
        merged(claimed(catalogue, JobKind.INDEX, f"{MODEL}/{region}"))

    index()
    assert found(erasure.erase("2.25.2", catalogue, settings, by=TESTER)) == {"index segments": 1}
    index()
    published = catalogue.generations.published(MODEL, region)
    assert published is not None and published.count == 4
    folder = partition_folder(settings.home, MODEL, region)
    listed = {one["name"] for one in published.manifest["segments"]}
    for segment in (folder / "segments").iterdir():
        if segment.is_dir() and segment.name not in listed:
            assert 2 in np.fromfile(segment / "labels.i64", "<i8"), "the old segment, which readers may have open"
            for path in segment.iterdir():
                path.unlink()
            segment.rmdir()
    assert found(erasure.look("2.25.2", catalogue, settings)) == {}


def test_a_young_file_is_found_until_it_goes(catalogue: Catalogue, settings: Settings) -> None:
    blobs = BlobStore(settings.home / "blobs")
    register(catalogue)
    sha256 = stored(catalogue, blobs, 1, KEY)
    os.utime(blobs.path(sha256))
    assert found(erasure.erase("2.25.1", catalogue, settings, by=TESTER)) == {"files as received": 1}
    old = time.time() - 600
    os.utime(blobs.path(sha256), (old, old))
    blobs.sweep(catalogue.instances.known_blobs)
    assert found(erasure.look("2.25.1", catalogue, settings)) == {}


def test_what_a_backup_needs_is_found_until_it_ends(catalogue: Catalogue, settings: Settings) -> None:
    register(catalogue)
    stored(catalogue, BlobStore(settings.home / "blobs"), 1, KEY)
    with catalogue.backups.alone() as connection, catalogue.backups.snapshot(connection):
        assert found(erasure.erase("2.25.1", catalogue, settings, by=TESTER)) == {"files as received": 1}


def test_another_machines_files_are_not_said_to_be_gone(
    catalogue: Catalogue, settings: Settings, tmp_path: Path
) -> None:
    register(catalogue)
    stored(catalogue, BlobStore(settings.home / "blobs"), 1, KEY)
    elsewhere = replace(settings, home=tmp_path / "another machine")
    places = {place.name: place for place in erasure.look("2.25.1", catalogue, elsewhere)}
    for name in ("files as received", "index segments", "work folders of retrainings"):
        assert places[name].found is None and places[name].when, name
    assert not (tmp_path / "another machine").exists(), "to look makes nothing"


def test_files_in_a_bucket_are_erased_and_found(
    catalogue: Catalogue, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with s3_server() as endpoint:
        there = replace(
            settings,
            blob_store=f"s3://radir/{tmp_path.name}",
            s3_endpoint=endpoint,
            s3_access_key_id="test",
            s3_secret_access_key="test",
        )
        register(catalogue)
        sha256 = stored(catalogue, open_blobs(there, catalogue.backups.installation()), 1, KEY)
        monkeypatch.setattr(s3_blobs, "YOUNG_THERE_S", 3600.0)
        assert found(erasure.erase("2.25.1", catalogue, there, by=TESTER)) == {"files as received": 1}
        monkeypatch.setattr(s3_blobs, "YOUNG_THERE_S", -1.0)
        assert open_blobs(there, catalogue.backups.installation()).delete(sha256)
        assert found(erasure.look("2.25.1", catalogue, there)) == {}


def test_another_issuers_patient_stays(catalogue: Catalogue, settings: Settings) -> None:
    blobs = BlobStore(settings.home / "blobs")
    register(catalogue)
    for number, key in ((1, "A\\7"), (2, "B\\7"), (3, "B\\9")):
        stored(catalogue, blobs, number, key)
    message = Message(sender="RIS", control_id="1", kind="ADT^A40", body=b"x")
    catalogue.messages.take(message, (PatientMerge(pairs=(("B\\7", "B\\9"),)),), Verdict())
    with pytest.raises(BadInput, match="several patients"):
        erasure.erase("7", catalogue, settings, by=TESTER)
    erasure.erase("A\\7", catalogue, settings, by=TESTER)
    assert list(catalogue.studies.uids()) == ["2.25.2", "2.25.3"]


def test_a_merged_patient_is_found_by_the_earlier_id(catalogue: Catalogue, settings: Settings) -> None:
    register(catalogue)
    stored(catalogue, BlobStore(settings.home / "blobs"), 1, "A\\7")
    message = Message(sender="RIS", control_id="1", kind="ADT^A40", body=b"x")
    catalogue.messages.take(message, (PatientMerge(pairs=(("A\\7", "A\\8"),)),), Verdict())
    assert catalogue.studies.get("2.25.1").patient_id == "8"
    assert found(erasure.look("7", catalogue, settings))["table: studies"] == 1
    assert found(erasure.erase("7", catalogue, settings, by=TESTER)) == {}
    assert list(catalogue.studies.uids()) == []


def test_the_command(
    catalogue: Catalogue,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in to_environment(settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("radir_pacs.cli.erase.must_run", lambda settings: None)
    register(catalogue)
    stored(catalogue, BlobStore(settings.home / "blobs"), 1, KEY)
    assert main(["erase", "4711", "--prove"]) == 1, "it is all there"
    assert list(catalogue.studies.uids()) == ["2.25.1"]
    assert main(["erase", "4711"]) == 0
    capsys.readouterr()
    assert main(["erase", "4711", "--prove", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["found"] == 0 and len(told["places"]) > 15
    assert main(["erase", "4711"]) == 1
