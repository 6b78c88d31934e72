"""Jobs: lease, heartbeat, attempt cap, fencing token, sweep. The row is the record; a broker message only announces it.

A job is written in the transaction of the data that asks for it, and ended in the transaction of its result: a worker
that lost its lease finds the token changed, and nothing of its result is kept (P2). Any process may be killed at any
moment: its lease runs out, `sweep` makes the job pending again, and after ``max_attempts`` it fails for good (P3).
"""

from __future__ import annotations

from collections.abc import Sequence

from radir_pacs.catalogue.database import Connection, Row, run
from radir_pacs.catalogue.part import CataloguePart
from radir_pacs.catalogue.rows import FailedJob, JobProgress
from radir_pacs.errors import LeaseLost, NotFound
from radir_pacs.reasons import ReasonCode
from radir_pacs.types import Job, JobKind, JobState, Urgency

RING_AGAIN_S = 30.0  # a message that no worker took within this time counts as lost
BACKOFF_S = 2.0  # doubles with each attempt
LONGEST_BACKOFF_S = 300.0
KILLED_ATTEMPTS = 8  # about five minutes, in which a machine short of memory may recover; three attempts are too quick
AWAY_ATTEMPTS = 20  # about an hour: a pull waits its turn among others
SWEEP_LIMIT = 100
KINDS = list(JobKind)  # those of a later release, which runs beside this one, are left to it
ENCODES = "encodes on "  # how the heartbeat of a worker that encodes describes it, before its device


class Jobs(CataloguePart):
    def enqueue(self, kind: JobKind, key: str, max_attempts: int | None = None) -> int:
        """Ask for work; returns the id of the open job of that kind and key."""
        with self._database.transaction() as connection:
            return enqueue(connection, kind, key, max_attempts or self._settings.job_max_attempts)

    def claim(self, job_id: int, worker: str) -> Job | None:
        """Lease a pending job for ``job_lease_s``; None when it is taken, ended, not yet due, or of a later release."""
        with self._database.transaction() as connection:
            row = run(
                connection,
                "claim",
                id=job_id,
                kinds=KINDS,
                worker=worker,
                lease_s=self._settings.job_lease_s,
                longest_backoff_s=LONGEST_BACKOFF_S,
            ).fetchone()
        return None if row is None else job_of(row)

    def claim_studies(
        self, limit: int, worker: str, *, least_urgent: Urgency = Urgency.BACKGROUND, holds_none: bool = True
    ) -> list[Job]:
        """Lease the encode and reencode jobs that come first, for ``job_lease_s``.

        ``limit`` at most, none less urgent than that.

        One that ``runs_alone`` comes alone, to a worker that ``holds_none``, so that what kills a worker takes no
        other study's last attempt along.
        """
        values = {"limit": limit, "worker": worker, "least_urgent": least_urgent, "holds_none": holds_none}
        with self._database.transaction() as connection:
            rows = run(
                connection,
                "claim_studies",
                values,
                lease_s=self._settings.job_lease_s,
                longest_backoff_s=LONGEST_BACKOFF_S,
            ).fetchall()
        return sorted(map(job_of, rows), key=lambda job: (job.urgency, job.id))

    def release(self, jobs: Sequence[Job]) -> None:
        """Give leases back unused: no attempt is counted, nor where a lease ran out while its holder lived.

        Leases that were lost meanwhile stay with their holders.
        """
        reason_codes = [job.reason_code for job in jobs]
        with self._database.transaction() as connection:
            run(connection, "release", _leases(jobs), reason_codes=reason_codes)

    def hurry(self, study_uid: str) -> bool:
        """Somebody waits for this study: it is encoded next. False when its job runs, or there is none."""
        with self._database.transaction() as connection:
            values = {"study_uid": study_uid, "max_attempts": self._settings.job_max_attempts}
            return run(connection, "hurry", values).fetchone() is not None

    def heartbeat_all(self, jobs: Sequence[Job]) -> None:
        """Extend the leases that are still held. One that was lost shows when its result is saved."""
        with self._database.transaction() as connection:
            run(connection, "heartbeat_all", _leases(jobs), lease_s=self._settings.job_lease_s)

    def finish(self, job: Job, note: str | None = None) -> JobState:
        """End a job that has no other result: DONE, or PENDING when it was requested again. Raises LeaseLost."""
        with self._database.transaction() as connection:
            return finish(connection, job, note)

    def fail(self, job: Job, error: str, *, reason_code: ReasonCode = ReasonCode.OTHER, retry: bool = True) -> JobState:
        """Record a failed attempt. PENDING: tried again; FAILED: for good, and its study is QUARANTINED with ``error``.

        ``error`` names no patient. Raises LeaseLost.
        """
        with self._database.transaction() as connection:
            _lock_subject(connection, job)
            return _fail(connection, job, error, reason_code, retry)

    def sweep(self) -> int:
        """Take jobs back from workers whose lease has run out; returns how many."""
        lease = {"lease_s": self._settings.job_lease_s, "kinds": KINDS}
        with self._database.transaction() as connection:
            expired = [job_of(row) for row in run(connection, "expired", lease, limit=SWEEP_LIMIT).fetchall()]
        swept = 0
        for job in expired:
            with self._database.transaction() as connection:
                _lock_subject(connection, job)
                if run(connection, "still_expired", lease, id=job.id, token=job.token).fetchone():
                    error = f"the worker stopped without a word in attempt {job.attempt}"
                    _fail(connection, job, error, ReasonCode.WORKER_KILLED, retry=True)
                    swept += 1
        return swept

    def to_announce(
        self,
        limit: int,
        ring_again_s: float = RING_AGAIN_S,
        *,
        kinds: Sequence[JobKind] = tuple(JobKind),
        with_running: bool = False,
    ) -> list[int]:
        """Ids of pending jobs of these kinds without a message in the broker, so that at most ``limit`` have one.

        ``with_running``: running jobs count as well, so that no more than ``limit`` ever run at once.
        """
        values = {"ring_again_s": ring_again_s, "longest_backoff_s": LONGEST_BACKOFF_S}
        asked = {"limit": limit, "kinds": list(kinds), "with_running": with_running}
        with self._database.transaction() as connection:
            return [row["id"] for row in run(connection, "to_announce", values | asked).fetchall()]

    def studies_to_announce(self, workers: int, ring_again_s: float = RING_AGAIN_S) -> list[tuple[int, Urgency]]:
        """Encode jobs to announce so that each of the ``workers`` that is free hears of one; the first ones.

        Workers of other machines count as well: those whose heartbeat says that they encode.
        """
        values = {"ring_again_s": ring_again_s, "longest_backoff_s": LONGEST_BACKOFF_S}
        with self._database.transaction() as connection:
            rows = run(connection, "studies_to_announce", values, workers=workers, encodes=ENCODES).fetchall()
        return [(row["id"], Urgency(row["urgency"])) for row in rows]

    def announced(self, ids: Sequence[int]) -> None:
        """Record that the broker is about to have messages for these; one that a crash kept back is sent later."""
        if not ids:
            return
        with self._database.transaction() as connection:
            run(connection, "announced", ids=list(ids))

    def not_announced(self, ids: Sequence[int]) -> None:
        """The broker did not take the messages: they are to be sent again."""
        with self._database.transaction() as connection:
            run(connection, "not_announced", ids=list(ids))

    def get(self, job_id: int) -> Job | None:
        """A job as it stands, whoever holds it; None: there is none, or this release does not know its kind."""
        with self._database.transaction() as connection:
            row = run(connection, "job", id=job_id, kinds=KINDS).fetchone()
        return None if row is None else job_of(row)

    def progress(self, job_id: int) -> JobProgress:
        """How a job is going. Raises NotFound."""
        with self._database.transaction() as connection:
            row = run(connection, "job_progress", id=job_id).fetchone()
        if row is None:
            raise NotFound(f"there is no job {job_id}")
        return JobProgress(**row)

    def enqueue_merge(self, model_id: str, region: str, rest_s: float = 600.0) -> bool:
        """Request a partition's merge unless one is open, or failed for good less than ``rest_s`` ago."""
        values = {
            "key": f"{model_id}/{region}",
            "max_attempts": self._settings.job_max_attempts,
            "rest_s": rest_s,
        }
        with self._database.transaction() as connection:
            return run(connection, "enqueue_merge", values).fetchone() is not None

    def failed(self, limit: int = 1000) -> tuple[FailedJob, ...]:
        """Jobs other than encode jobs that failed for good, newest first."""
        with self._database.transaction() as connection:
            return tuple(map(failed_job_of, run(connection, "failed_jobs", kinds=KINDS, limit=limit)))

    def retried(self, limit: int = 1000) -> tuple[FailedJob, ...]:
        """Jobs other than encode jobs that failed and are being tried again, newest first."""
        with self._database.transaction() as connection:
            return tuple(map(failed_job_of, run(connection, "retried_jobs", kinds=KINDS, limit=limit)))

    def retry_failed(self, reason_code: ReasonCode | None = None) -> int:
        """Enqueue again what `failed` lists, or only the jobs with one reason code; returns how many."""
        with self._database.transaction() as connection:
            return run(connection, "retry_failed_jobs", kinds=KINDS, reason_code=reason_code).rowcount

    def prune(self, keep_s: float) -> int:
        """Forget jobs that ended more than ``keep_s`` ago."""
        with self._database.transaction() as connection:
            return run(connection, "prune_jobs", keep_s=keep_s).rowcount

    def before(self, study_uid: str) -> int:
        """How many encode jobs run or will run before this study's own; 0 when it has none."""
        with self._database.transaction() as connection:
            row = run(connection, "jobs_before", study_uid=study_uid).fetchone()
        return int(row["count"]) if row else 0


def enqueue(connection: Connection, kind: JobKind, key: str, max_attempts: int) -> int:
    """To be called in the transaction of the data that asks for the work; returns the job's id."""
    row = run(connection, "enqueue", kind=kind, key=key, max_attempts=max_attempts).fetchone()
    assert row is not None
    return int(row["id"])


def hold(connection: Connection, job: Job) -> None:
    """Lock the job before its result is written in the same transaction. Raises LeaseLost."""
    if run(connection, "hold", id=job.id, token=job.token).fetchone() is None:
        raise LeaseLost


def finish(connection: Connection, job: Job, note: str | None = None) -> JobState:
    """End the job in the transaction of its result. Raises LeaseLost, which undoes the result."""
    row = run(connection, "finish", id=job.id, token=job.token, note=note).fetchone()
    if row is None:
        raise LeaseLost
    return JobState(row["state"])


def job_of(row: Row) -> Job:
    """A job from its row."""
    return Job(
        id=row["id"],
        kind=JobKind(row["kind"]),
        key=row["key"],
        attempt=row["attempt"],
        max_attempts=row["max_attempts"],
        token=row["token"] or 0,
        state=JobState(row["state"]),
        reason_code=None if row["reason_code"] is None else ReasonCode(row["reason_code"]),
        urgency=Urgency(row["urgency"]),
    )


def _leases(jobs: Sequence[Job]) -> dict[str, list[int]]:
    return {"ids": [job.id for job in jobs], "tokens": [job.token for job in jobs]}


def failed_job_of(row: Row) -> FailedJob:
    """A failed job from its row."""
    typed = {"kind": JobKind(row["kind"]), "reason_code": ReasonCode(row["reason_code"])}
    return FailedJob(**row | typed)


def is_last_attempt(job: Job, reason_code: ReasonCode) -> bool:
    """Whether the job fails for good if this attempt fails for that reason."""
    return job.attempt >= _attempts(job, reason_code)


def runs_alone(job: Job) -> bool:
    """Whether a worker must hold no other job beside this one: it may be what killed a decoder, or two workers.

    ``claim_studies`` in queries.sql decides by the same rule before the attempt is counted.
    """
    if job.reason_code is ReasonCode.WORKER_KILLED:
        return job.attempt > min(2, job.max_attempts - 1)
    return job.reason_code is ReasonCode.DECODER_KILLED


def _attempts(job: Job, reason_code: ReasonCode) -> int:
    least = {ReasonCode.DECODER_KILLED: KILLED_ATTEMPTS, ReasonCode.BLOB_AWAY: AWAY_ATTEMPTS}
    return max(job.max_attempts, least.get(reason_code, 0))


def _lock_subject(connection: Connection, job: Job) -> None:
    """Lock the study of a job before the job, in the order that schema.sql prescribes."""
    if job.kind in (JobKind.ENCODE, JobKind.REENCODE):
        run(connection, "lock_study", study_uid=job.study_uid)


def _fail(connection: Connection, job: Job, error: str, reason_code: ReasonCode, retry: bool) -> JobState:
    values = {"id": job.id, "token": job.token, "error": error, "reason_code": reason_code}
    retry = retry and not is_last_attempt(job, reason_code)
    backoff_s = min(BACKOFF_S * 2.0 ** (job.attempt - 1), LONGEST_BACKOFF_S)
    row = run(connection, "fail", values, retry=retry, backoff_s=backoff_s).fetchone()
    if row is None:
        raise LeaseLost
    state = JobState(row["state"])
    if state is JobState.FAILED and job.kind is JobKind.ENCODE:
        reason = {"study_uid": job.key, "reason": error, "reason_code": reason_code}
        quarantined = run(connection, "quarantine_stable_study", reason).fetchone()
        if quarantined is not None:
            run(connection, "drop_encodings", study_uid=job.key, model_ids=[], kinds=[], revision=None)
    return state
