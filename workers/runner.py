"""From a job id to a finished job: claim, heartbeat, use case, outcome."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping

from radir_pacs import metrics, traces
from radir_pacs.catalogue import Catalogue
from radir_pacs.errors import BadInput, BundleRefused, LeaseLost, NotFound, RadirError, StorageFailed
from radir_pacs.reasons import WORTH_ANOTHER_DECODE, ReasonCode
from radir_pacs.types import Job, JobKind, JobState

from .leases import Leases

log = logging.getLogger(__name__)

_OF_STUDIES = frozenset({JobKind.ENCODE, JobKind.REENCODE, JobKind.PULL})
UseCase = Callable[[Job], None]  # does the work and ends the job in the transaction of its result
_PERMANENT = (BadInput, NotFound, BundleRefused)  # another attempt would give the same


class Runner:
    """Runs jobs by id, one at a time. ``longest_s`` and ``give_up`` as in ``Leases``."""

    def __init__(
        self,
        catalogue: Catalogue,
        use_cases: Mapping[JobKind, UseCase],
        *,
        worker: str,
        lease_s: float,
        longest_s: float = 3600.0,
        give_up: Callable[[int], object] = os._exit,
    ) -> None:
        self._catalogue = catalogue
        self._use_cases = use_cases
        self._worker = worker
        self._lease_s = lease_s
        self._longest_s = longest_s
        self._give_up = give_up
        self._running: dict[int, Job] = {}
        self._lock = threading.Lock()

    def run(self, job_id: int) -> None:
        """Do the job unless somebody else has it. What goes wrong stands in the job row; nothing is raised."""
        try:
            job = self._catalogue.jobs.claim(job_id, self._worker)
            if job is None:
                return
            log.info("job begins", extra=said(job) | {"attempt": job.attempt})
            with Leases(
                self._catalogue, lease_s=self._lease_s, longest_s=self._longest_s, give_up=self._give_up
            ) as leases:
                leases.hold(job)
                self._work(job)
            log.info("job ends", extra=said(job))
        except LeaseLost:
            log.warning("lease lost", extra={"job": job_id})
        except StorageFailed as error:  # the lease runs out and the relay asks again
            log.error("the catalogue is away", extra={"job": job_id, "error": str(error)})
        except Exception:  # the broker's library would log the text of what we raise
            log.exception("job could not be run", extra={"job": job_id})

    def give_back(self) -> None:
        """The process ends before its jobs do: they are for another one, as if they had not begun.

        Raises StorageFailed. What becomes of them here no longer counts: their tokens are not valid any more.
        """
        with self._lock:
            jobs = list(self._running.values())
        if jobs:
            self._catalogue.jobs.release(jobs)
            log.warning("jobs given back", extra={"jobs": len(jobs)})

    def _work(self, job: Job) -> None:
        began, outcome = time.perf_counter(), "done"
        span = traces.start("job", job.study_uid if job.kind in _OF_STUDIES else "")
        with self._lock:
            self._running[job.id] = job
        try:
            self._use_cases[job.kind](job)
        except LeaseLost:
            outcome = "lost"
            raise
        except Exception as error:  # the edge of the process: a job must not take the worker along
            outcome = "lost"  # unless it can be recorded
            outcome = fail(self._catalogue, job, error)
        finally:
            with self._lock:
                del self._running[job.id]
            metrics.JOBS.labels(job.kind, outcome).inc()
            metrics.JOB_SECONDS.labels(job.kind).observe(time.perf_counter() - began)
            span.end(failed=outcome != "done", kind=job.kind, outcome=outcome, attempt=job.attempt)


def said(job: Job) -> dict[str, object]:
    """What the log says of a job, with the study that it is about."""
    study = {"study_uid": job.study_uid} if job.kind in _OF_STUDIES else {}
    return {"job": job.id, "kind": job.kind, **study}


def fail(catalogue: Catalogue, job: Job, error: Exception) -> str:
    """End an attempt that met ``error``; it is tried again unless that is useless. Raises LeaseLost, StorageFailed.

    Returns what became of the attempt, as it is counted: retried or failed.
    """
    if isinstance(error, RadirError):
        retry = not isinstance(error, _PERMANENT) or error.reason_code in WORTH_ANOTHER_DECODE
        log.warning("job failed", extra=said(job) | {"error": error.code, "retry": retry})
        state = catalogue.jobs.fail(job, str(error), reason_code=error.reason_code, retry=retry)
    else:
        log.error("job broke", extra=said(job), exc_info=error)
        text = f"internal error ({type(error).__name__})"  # whose own text may name a patient
        state = catalogue.jobs.fail(job, text, reason_code=ReasonCode.WORKER_FAILED)
    return "failed" if state is JobState.FAILED else "retried"
