"""Jobs: lease, fencing token, attempt cap, sweep and announcement (P2, P3)."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from radir_pacs.catalogue import Catalogue
from radir_pacs.config import Settings
from radir_pacs.errors import LeaseLost
from radir_pacs.reasons import ReasonCode
from radir_pacs.types import Job, JobKind, JobState, StudyState
from tests.catalogue_material import MODEL, add, claimed, encoding, header, register


def expire(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE job SET lease_until = now() - interval '1 s' WHERE state = 'RUNNING'")


def due(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE job SET run_after = now() WHERE state = 'PENDING'")


def stable(catalogue: Catalogue) -> None:
    add(catalogue, header())
    catalogue.studies.complete_quiet(0)


def test_one_of_many_claimers_wins(catalogue: Catalogue) -> None:
    job_id = catalogue.jobs.enqueue(JobKind.ENCODE, "2.25.1")
    with ThreadPoolExecutor(8) as pool:
        jobs = list(pool.map(lambda n: catalogue.jobs.claim(job_id, f"w{n}"), range(16)))
    [job] = [job for job in jobs if job is not None]
    assert (job.attempt, job.state) == (1, JobState.RUNNING)


def test_a_key_has_one_open_job(catalogue: Catalogue) -> None:
    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(lambda _: catalogue.jobs.enqueue(JobKind.ENCODE, "2.25.1"), range(16)))
    assert len(ids) == 1
    assert catalogue.jobs.enqueue(JobKind.INDEX, "2.25.1") not in ids


def test_an_expired_lease_is_given_to_another_and_the_first_is_fenced(catalogue: Catalogue, database_url: str) -> None:
    register(catalogue)
    stable(catalogue)
    first = claimed(catalogue)
    assert catalogue.jobs.sweep() == 0
    expire(database_url)
    assert catalogue.jobs.sweep() == 1
    due(database_url)
    second = claimed(catalogue)
    assert (second.attempt, second.token > first.token) == (2, True)
    with pytest.raises(LeaseLost):
        catalogue.encodings.save(encoding(seed=1), 1, first)
    with pytest.raises(LeaseLost):
        catalogue.studies.set_state("2.25.1", StudyState.SKIPPED, "late", revision=1, job=first)
    for act in (catalogue.jobs.finish, lambda job: catalogue.jobs.fail(job, "late")):
        with pytest.raises(LeaseLost):
            act(first)
    assert catalogue.encodings.get("2.25.1", MODEL) is None, "the data of the loser is undone with it"
    assert catalogue.encodings.save(encoding(seed=2), 1, second)
    job = catalogue.jobs.get(second.id)
    assert job is not None and job.state is JobState.DONE


def test_a_late_worker_may_finish_while_nobody_took_over(catalogue: Catalogue, database_url: str) -> None:
    job = claimed(catalogue)
    expire(database_url)
    assert catalogue.jobs.finish(job) is JobState.DONE
    assert catalogue.jobs.sweep() == 0


def test_a_heartbeat_keeps_the_lease(catalogue: Catalogue, database_url: str) -> None:
    job = claimed(catalogue)
    expire(database_url)
    catalogue.jobs.heartbeat_all([job])
    assert catalogue.jobs.sweep() == 0


def test_the_heartbeat_of_the_first_prolongs_nothing_for_the_second(catalogue: Catalogue, database_url: str) -> None:
    first = claimed(catalogue)
    expire(database_url)
    assert catalogue.jobs.sweep() == 1
    due(database_url)
    claimed(catalogue)
    expire(database_url)
    catalogue.jobs.heartbeat_all([first])
    assert catalogue.jobs.sweep() == 1


def test_what_is_asked_for_again_runs_again(catalogue: Catalogue) -> None:
    job = claimed(catalogue)
    assert catalogue.jobs.enqueue(JobKind.ENCODE, "2.25.1") == job.id
    assert catalogue.jobs.finish(job) is JobState.PENDING
    again = claimed(catalogue)
    assert (again.id, again.attempt) == (job.id, 1)
    assert catalogue.jobs.finish(again) is JobState.DONE
    assert catalogue.jobs.enqueue(JobKind.ENCODE, "2.25.1") != job.id


def test_asking_for_a_pending_job_changes_nothing(catalogue: Catalogue) -> None:
    catalogue.jobs.enqueue(JobKind.ENCODE, "2.25.1")
    assert catalogue.jobs.finish(claimed(catalogue)) is JobState.DONE


@pytest.mark.parametrize("by_death", [True, False])
def test_the_attempt_cap_quarantines_the_study(catalogue: Catalogue, database_url: str, by_death: bool) -> None:
    stable(catalogue)
    for attempt in (1, 2, 3):
        due(database_url)
        job = claimed(catalogue)
        assert job.attempt == attempt
        if by_death:
            expire(database_url)
            assert catalogue.jobs.sweep() == 1
        else:
            state = catalogue.jobs.fail(job, "the disk refused")
            assert state is (JobState.FAILED if attempt == 3 else JobState.PENDING)
    study = catalogue.studies.get("2.25.1")
    assert study.state is StudyState.QUARANTINED
    assert study.reason == ("the worker stopped without a word in attempt 3" if by_death else "the disk refused")
    assert catalogue.jobs.to_announce(10) == []


def test_a_failure_waits_longer_each_time(catalogue: Catalogue, database_url: str) -> None:
    waits = []
    for _ in (1, 2):
        due(database_url)
        catalogue.jobs.fail(claimed(catalogue), "no")
        assert catalogue.jobs.to_announce(10) == []
        with psycopg.connect(database_url) as connection:
            row = connection.execute("SELECT extract(epoch FROM run_after - changed_at)::float8 FROM job").fetchone()
        assert row
        waits.append(row[0])
    assert waits == [2.0, 4.0]


def test_a_failure_that_cannot_get_better_ends_at_once(catalogue: Catalogue) -> None:
    stable(catalogue)
    assert catalogue.jobs.fail(claimed(catalogue), "broken", retry=False) is JobState.FAILED
    assert catalogue.studies.get("2.25.1").state is StudyState.QUARANTINED


def test_failing_for_good_spares_a_reopened_study(catalogue: Catalogue) -> None:
    register(catalogue)
    stable(catalogue)
    catalogue.encodings.save(encoding(), 1)
    job = claimed(catalogue)
    add(catalogue, header(number=2))
    assert catalogue.jobs.fail(job, "broken", retry=False) is JobState.FAILED
    assert catalogue.studies.get("2.25.1").state is StudyState.RECEIVING
    assert catalogue.encodings.get("2.25.1", MODEL) is not None
    assert catalogue.studies.complete_quiet(0) == ["2.25.1"]
    assert claimed(catalogue).id != job.id


def test_completing_again_while_a_job_runs_restarts_it(catalogue: Catalogue) -> None:
    stable(catalogue)
    job = claimed(catalogue)
    add(catalogue, header(number=2))
    catalogue.studies.complete_quiet(0)
    assert catalogue.jobs.fail(job, "broken", retry=False) is JobState.PENDING, "new images, new attempts"
    assert catalogue.studies.get("2.25.1").state is StudyState.STABLE


def test_the_bell_is_rung_once_until_it_counts_as_lost(catalogue: Catalogue) -> None:
    ids = [catalogue.jobs.enqueue(JobKind.ENCODE, f"2.25.{n}") for n in range(5)]
    assert catalogue.jobs.to_announce(10) == ids
    assert catalogue.jobs.to_announce(10) == ids, "not marked before the broker has the message"
    catalogue.jobs.announced(ids)
    assert catalogue.jobs.to_announce(10) == []
    assert catalogue.jobs.to_announce(10, ring_again_s=0) == ids


def test_a_long_queue_does_not_fill_the_broker(catalogue: Catalogue) -> None:
    ids = [catalogue.jobs.enqueue(JobKind.ENCODE, f"2.25.{n}") for n in range(5)]
    first = catalogue.jobs.to_announce(2)
    catalogue.jobs.announced(first)
    assert first == ids[:2]
    assert catalogue.jobs.to_announce(2) == []
    assert catalogue.jobs.claim(ids[0], "test")
    assert catalogue.jobs.to_announce(2) == [ids[2]]


def test_a_job_swept_or_failed_is_rung_again(catalogue: Catalogue, database_url: str) -> None:
    job_id = catalogue.jobs.enqueue(JobKind.ENCODE, "2.25.1")
    catalogue.jobs.announced([job_id])
    claimed(catalogue)
    expire(database_url)
    catalogue.jobs.sweep()
    due(database_url)
    assert catalogue.jobs.to_announce(10) == [job_id]


def test_two_sweepers_do_no_harm(catalogue: Catalogue, database_url: str) -> None:
    for n in range(20):
        claimed(catalogue, key=f"2.25.{n}")
    expire(database_url)
    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(lambda _: catalogue.jobs.sweep(), range(4))) == 20


def test_workers_saving_while_studies_complete_do_not_block_each_other(settings: Settings) -> None:
    """The order of locks: a deadlock would surface as StorageFailed."""
    with Catalogue.open(settings) as catalogue:
        register(catalogue)

        def receive(study: int) -> None:
            for number in range(1, 6):
                add(catalogue, header(study, 1, number))
                catalogue.studies.complete_quiet(0)

        def work(study: int) -> None:
            for _ in range(10):
                job = catalogue.jobs.claim(catalogue.jobs.enqueue(JobKind.ENCODE, f"2.25.{study}"), "test")
                if job is None:
                    continue
                try:
                    _, revision = catalogue.studies.revision_of(job.key)
                    catalogue.encodings.save(encoding(study, study), revision, job)
                except Exception:
                    catalogue.jobs.fail(dataclasses.replace(job), "not there yet")
                    raise
                catalogue.studies.mark_indexed()

        for study in range(4):
            add(catalogue, header(study, 1, 99))
        with ThreadPoolExecutor(8) as pool:
            futures = [pool.submit(act, study) for study in range(4) for act in (receive, work)]
            for future in futures:
                future.result()
        assert [catalogue.studies.get(f"2.25.{study}").instance_count for study in range(4)] == [6] * 4


def test_ended_jobs_are_forgotten_in_time(catalogue: Catalogue) -> None:
    done: Job = claimed(catalogue)
    catalogue.jobs.finish(done)
    catalogue.jobs.enqueue(JobKind.ENCODE, "2.25.2")
    assert catalogue.jobs.prune(3600) == 0
    assert catalogue.jobs.prune(-1) == 1
    assert catalogue.jobs.get(done.id) is None


def test_a_merge_is_asked_for_once_and_rests_after_failing_for_good(catalogue: Catalogue) -> None:
    assert catalogue.jobs.enqueue_merge(MODEL, "chest")
    assert not catalogue.jobs.enqueue_merge(MODEL, "chest")
    catalogue.jobs.fail(claimed(catalogue, JobKind.INDEX, f"{MODEL}/chest"), "the disk is full", retry=False)
    assert not catalogue.jobs.enqueue_merge(MODEL, "chest")
    assert catalogue.jobs.enqueue_merge(MODEL, "chest", rest_s=0)


def test_a_failure_has_a_code_until_the_job_goes_well(catalogue: Catalogue) -> None:
    job = catalogue.jobs.claim(catalogue.jobs.enqueue(JobKind.SEND, "2.25.1", max_attempts=7), "test")
    assert job is not None and job.max_attempts == 7
    catalogue.jobs.enqueue(JobKind.SEND, "2.25.1")  # asked for again: the next attempt is due at once
    catalogue.jobs.fail(job, "the PACS is too slow", reason_code=ReasonCode.PEER_TOO_SLOW)
    found = catalogue.jobs.progress(job.id)
    assert (found.state, found.reason_code, found.message) == ("PENDING", "PEER_TOO_SLOW", "the PACS is too slow")
    again = catalogue.jobs.claim(job.id, "test")
    assert again is not None
    catalogue.jobs.finish(again, "sent")
    found = catalogue.jobs.progress(job.id)
    assert (found.state, found.reason_code, found.message) == (JobState.DONE, None, "sent")
