"""After the clock was set back, earlier rows lie in the future, and still nothing waits for years (P3)."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest

from radir_pacs.catalogue import Catalogue
from radir_pacs.errors import NotFound
from radir_pacs.index.writer import remove_unused
from radir_pacs.storage.blobs import YOUNG_S, BlobStore
from radir_pacs.types import JobKind, StudyState, Urgency
from tests.catalogue_material import MODEL, add, claimed, encoded, header, register

YEAR_S = 365 * 86_400.0


@pytest.fixture
def ahead(database_url: str):  # type: ignore[no-untyped-def]
    """A function that moves a column of times a year ahead, as if the clock had been set back by a year."""

    def move(table: LiteralString, *columns: LiteralString) -> None:
        with psycopg.connect(database_url) as connection:
            for column in columns:
                connection.execute(f"UPDATE {table} SET {column} = {column} + interval '1 year'")

    return move


def test_a_quiet_study_is_completed(catalogue: Catalogue, ahead) -> None:  # type: ignore[no-untyped-def]
    add(catalogue, header())
    assert catalogue.studies.complete_quiet(30) == []
    ahead("study", "last_instance_at", "received_at", "changed_at")
    assert catalogue.studies.complete_quiet(30) == ["2.25.1"]


def test_a_lease_is_over(catalogue: Catalogue, ahead) -> None:  # type: ignore[no-untyped-def]
    job = claimed(catalogue)
    ahead("job", "lease_until", "created_at")
    assert catalogue.jobs.sweep() == 1
    found = catalogue.jobs.get(job.id)
    assert found is not None and found.state == "PENDING"


def test_a_job_that_rested_or_was_rung_is_due(catalogue: Catalogue, ahead) -> None:  # type: ignore[no-untyped-def]
    job_id = catalogue.jobs.enqueue(JobKind.ENCODE, "2.25.1")
    catalogue.jobs.announced([job_id])
    assert catalogue.jobs.to_announce(10) == []
    ahead("job", "run_after", "rung_at")
    assert catalogue.jobs.to_announce(10) == [job_id]
    assert catalogue.jobs.studies_to_announce(1) == [(job_id, Urgency.NEW)]
    later = catalogue.jobs.enqueue(JobKind.ENCODE, "2.25.2")
    assert catalogue.jobs.to_announce(10) == [job_id, later], "what came before the clock went back is not the last"
    assert [job.id for job in catalogue.jobs.claim_studies(10, "test")] == [job_id, later]


def test_a_merge_that_failed_is_asked_for_again(catalogue: Catalogue, ahead) -> None:  # type: ignore[no-untyped-def]
    catalogue.jobs.fail(claimed(catalogue, JobKind.INDEX, f"{MODEL}/chest"), "the disk is full", retry=False)
    assert not catalogue.jobs.enqueue_merge(MODEL, "chest")
    ahead("job", "changed_at")
    assert catalogue.jobs.enqueue_merge(MODEL, "chest")


def test_ages_are_no_less_than_nothing_and_the_dead_are_silent(catalogue: Catalogue, ahead) -> None:  # type: ignore[no-untyped-def]
    catalogue.jobs.enqueue(JobKind.ENCODE, "2.25.1")
    catalogue.processes.say_alive("worker", 1, "UP")
    catalogue.refusals.add("2.25.9", "odd", 0xC000, "PEER")
    for table, column in (("job", "created_at"), ("process", "seen_at"), ("refusal", "at")):
        ahead(table, column)
    overview = catalogue.overview()
    assert (overview.oldest_open_job_s or 0) > YEAR_S - 60
    assert overview.processes[0].silent_s > YEAR_S - 60
    assert overview.refusals_last_day == 0


def test_what_is_kept_for_a_while_is_not_kept_for_years(catalogue: Catalogue, database_url: str, ahead) -> None:  # type: ignore[no-untyped-def]
    register(catalogue)
    encoded(catalogue, 1)
    catalogue.studies.delete("2.25.1")
    catalogue.jobs.finish(claimed(catalogue, JobKind.INDEX, f"{MODEL}/chest"))
    catalogue.processes.say_alive("worker", 1, "UP")
    catalogue.refusals.add("2.25.9", "odd", 0xC000, "PEER")
    as_of = catalogue.encodings.changes(MODEL, "chest").xid
    manifest = {"segments": [{"name": "s", "count": 1, "deleted": 1}], "oldest_deletion": None}
    catalogue.generations.record(MODEL, "chest", name="g1", count=0, as_of="0", manifest=manifest)
    assert catalogue.generations.to_forget(60) == []
    ahead("job", "changed_at")
    ahead("process", "seen_at")
    ahead("refusal", "at")
    ahead("encoding_gone", "at")
    assert catalogue.generations.to_forget(YEAR_S - 60) == [(MODEL, "chest")], "due to leave the index files"
    catalogue.generations.record(MODEL, "chest", name="g2", count=0, as_of=as_of, manifest=manifest)
    catalogue.jobs.prune(3600)
    catalogue.processes.prune(3600)
    catalogue.refusals.prune(keep_s=3600, most=100)
    catalogue.generations.prune(gone_keep_s=3600, generation_keep_s=3600)
    with psycopg.connect(database_url) as connection:
        for table in ("process", "refusal", "encoding_gone"):
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table
        left = connection.execute("SELECT count(*) FROM job WHERE state = 'DONE'").fetchone()
    assert left == (0,)


def test_a_token_does_not_open_for_years(catalogue: Catalogue, ahead) -> None:  # type: ignore[no-untyped-def]
    add(catalogue, header())
    catalogue.contexts.open("2.25.1", "token", 60)
    assert catalogue.contexts.get("token").study_uid == "2.25.1"
    ahead("viewer_context", "expires_at")
    with pytest.raises(NotFound):
        catalogue.contexts.get("token")


def test_the_newest_report_is_the_last_that_came(catalogue: Catalogue, ahead) -> None:  # type: ignore[no-untyped-def]
    add(catalogue, header())
    catalogue.studies.complete_now("2.25.1")
    catalogue.reports.add("2.25.1", body="the first", source="sr")
    ahead("report", "received_at")
    catalogue.reports.add("2.25.1", body="the second", source="csv")
    assert [report.body for report in catalogue.reports.of_study("2.25.1")] == ["the first", "the second"]


def test_a_file_from_the_future_grows_old(tmp_path: Path) -> None:
    blobs = BlobStore(tmp_path / "blobs")
    sha256, _ = blobs.put(b"pixels")
    path = blobs.path(sha256)
    os.utime(path, (time.time() + YEAR_S,) * 2)
    assert not blobs.delete(sha256), "its row may still come"
    assert abs(path.stat().st_mtime - time.time()) < 60
    os.utime(path, (time.time() - YOUNG_S - 1,) * 2)
    assert blobs.delete(sha256)


def test_a_generation_from_the_future_grows_old(tmp_path: Path) -> None:
    names = ["00000001-aaaaaaaaaaaa", "00000002-bbbbbbbbbbbb"]
    for name in names:
        (tmp_path / name).mkdir()
    os.utime(tmp_path / names[1], (2e9, 2e9))
    assert remove_unused(tmp_path, now_s=1e9, grace_s=100) == ()
    assert remove_unused(tmp_path, now_s=1e9 + 200, grace_s=100) == (names[0],)


def test_the_states_are_unchanged_without_a_jump(catalogue: Catalogue) -> None:
    """A row written a moment ago does not count as one of the future, however short the wait."""
    add(catalogue, header())
    assert catalogue.studies.complete_quiet(0) == ["2.25.1"]
    assert catalogue.studies.get("2.25.1").state is StudyState.STABLE
