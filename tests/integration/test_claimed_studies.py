"""Encode jobs are claimed several at a time; what kills workers or decoders is claimed alone, and tried more often."""

from __future__ import annotations

import psycopg

from radir_pacs.catalogue import ENCODES, Catalogue
from radir_pacs.catalogue.jobs import KILLED_ATTEMPTS
from radir_pacs.reasons import ReasonCode
from radir_pacs.types import JobKind, JobState, StudyState, Urgency
from tests.catalogue_material import add, header


def kill_worker(catalogue: Catalogue, database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE job SET lease_until = now() - interval '1 s' WHERE state = 'RUNNING'")
    catalogue.jobs.sweep()
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE job SET run_after = now() - interval '1 s'")


def test_what_kills_workers_takes_no_other_study_along(catalogue: Catalogue, database_url: str) -> None:
    """Each of a batch has one attempt to itself before it fails for good."""
    for n in range(3):
        add(catalogue, header(n))
    catalogue.studies.complete_quiet(0)
    for _ in range(2):
        assert len(catalogue.jobs.claim_studies(9, "worker")) == 3
        kill_worker(catalogue, database_url)
    assert catalogue.jobs.claim_studies(9, "busy", holds_none=False) == [], "a busy worker first ends what it has"
    for n in range(3):
        [alone] = catalogue.jobs.claim_studies(9, "worker")
        assert (alone.key, alone.attempt) == (f"2.25.{n}", 3)
        if n == 1:
            kill_worker(catalogue, database_url)
        else:
            catalogue.jobs.finish(alone)
    assert catalogue.studies.get("2.25.1").state is StudyState.QUARANTINED
    assert [catalogue.studies.get(f"2.25.{n}").state for n in (0, 2)] == [StudyState.STABLE] * 2


def test_one_bell_for_each_worker_that_is_free(catalogue: Catalogue) -> None:
    ids = [catalogue.jobs.enqueue(JobKind.ENCODE, f"2.25.{n}") for n in range(5)]
    assert catalogue.jobs.studies_to_announce(2) == [(ids[0], Urgency.NEW), (ids[1], Urgency.NEW)]
    catalogue.jobs.announced(ids[:1])
    assert catalogue.jobs.studies_to_announce(2) == [(ids[1], Urgency.NEW)], "one was told and did not answer yet"
    [first] = catalogue.jobs.claim_studies(1, "worker-1")
    assert first.id == ids[0]
    assert catalogue.jobs.studies_to_announce(2) == [(ids[1], Urgency.NEW)], "the other is free"
    catalogue.jobs.claim_studies(1, "worker-2")
    assert catalogue.jobs.studies_to_announce(2) == [], "both go on by themselves"
    for name in ("worker-1", "worker-2", "far-1"):
        catalogue.processes.say_alive(name, 1, "UP", f"{ENCODES}cpu")
    assert catalogue.jobs.studies_to_announce(2) == [(ids[2], Urgency.NEW)], "a worker of another machine counts"
    catalogue.jobs.hurry("2.25.4")
    assert catalogue.jobs.studies_to_announce(2) == [(ids[4], Urgency.URGENT)]


def test_a_released_job_was_never_held(catalogue: Catalogue) -> None:
    catalogue.jobs.enqueue(JobKind.ENCODE, "2.25.1")
    [job] = catalogue.jobs.claim_studies(1, "test")
    assert catalogue.jobs.enqueue(JobKind.ENCODE, "2.25.1") == job.id
    catalogue.jobs.release([job])
    catalogue.jobs.release([job])
    [again] = catalogue.jobs.claim_studies(1, "test")
    assert (again.id, again.attempt) == (job.id, 1)
    catalogue.jobs.release([job])  # of an earlier holder
    found = catalogue.jobs.get(job.id)
    assert found is not None and found.state is JobState.RUNNING


def test_a_holder_that_lives_gives_back_what_was_taken_from_it(catalogue: Catalogue, database_url: str) -> None:
    """Its lease ran out while the database was away: that was no attempt, unless somebody else has the job by now."""
    job_id = catalogue.jobs.enqueue(JobKind.ENCODE, "2.25.1")
    [first] = catalogue.jobs.claim_studies(1, "test")
    kill_worker(catalogue, database_url)
    for _ in range(2):
        catalogue.jobs.release([first])
        found = catalogue.jobs.get(job_id)
        assert found is not None and (found.state, found.attempt, found.reason_code) == (JobState.PENDING, 0, None)
    for attempt in (1, 2):
        [job] = catalogue.jobs.claim_studies(1, "test")
        assert job.attempt == attempt
        kill_worker(catalogue, database_url)
    for _ in range(2):
        catalogue.jobs.release([job])
        found = catalogue.jobs.get(job_id)
        assert found is not None and (found.attempt, found.reason_code) == (1, ReasonCode.WORKER_KILLED)
    [other] = catalogue.jobs.claim_studies(1, "another")
    catalogue.jobs.release([first, job])
    found = catalogue.jobs.get(job_id)
    assert found is not None and (found.state, found.token) == (JobState.RUNNING, other.token)


def test_the_attempts_of_a_killed_decoder_are_more(catalogue: Catalogue) -> None:
    job_id = catalogue.jobs.enqueue(JobKind.ENCODE, "2.25.1", max_attempts=1)
    [job] = catalogue.jobs.claim_studies(1, "test")
    assert KILLED_ATTEMPTS > 1
    assert catalogue.jobs.fail(job, "killed", reason_code=ReasonCode.DECODER_KILLED) is JobState.PENDING
    found = catalogue.jobs.get(job_id)
    assert found is not None and found.attempt == 1
