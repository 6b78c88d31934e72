"""From a job id to a finished job: claim, heartbeat, use case, outcome."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from radir_pacs.catalogue import Catalogue
from radir_pacs.errors import BadInput, BundleRefused, LeaseLost, NotFound, RadirError, StorageFailed
from radir_pacs.reasons import WORTH_ANOTHER_DECODE, ReasonCode
from radir_pacs.types import Job, JobKind

log = logging.getLogger(__name__)

EXIT_HUNG = 70  # EX_SOFTWARE
UseCase = Callable[[Job], None]  # does the work and ends the job in the transaction of its result
_PERMANENT = (BadInput, NotFound, BundleRefused)  # another attempt would give the same


class Runner:
    """Runs jobs by id, one at a time.

    A job that runs longer than ``longest_s`` hangs, and its thread cannot be ended from outside: ``give_up`` ends the
    process. Its supervisor starts another, the lease runs out, and the attempt counts, so nothing waits for ever (P3).
    """

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

    def run(self, job_id: int) -> None:
        """Do the job unless somebody else has it. What goes wrong stands in the job row; nothing is raised."""
        try:
            job = self._catalogue.jobs.claim(job_id, self._worker)
            if job is None:
                return
            log.info("job begins", extra={"job": job.id, "kind": job.kind, "attempt": job.attempt})
            with self._heartbeat(job):
                self._work(job)
            log.info("job ends", extra={"job": job.id, "kind": job.kind})
        except LeaseLost:
            log.warning("lease lost", extra={"job": job_id})
        except StorageFailed as error:  # the lease runs out and the relay asks again
            log.error("the catalogue is away", extra={"job": job_id, "error": str(error)})
        except Exception:  # the broker's library would log the text of what we raise
            log.exception("job could not be run", extra={"job": job_id})

    def _work(self, job: Job) -> None:
        try:
            self._use_cases[job.kind](job)
        except LeaseLost:
            raise
        except RadirError as error:
            retry = not isinstance(error, _PERMANENT) or error.reason_code in WORTH_ANOTHER_DECODE
            log.warning("job failed", extra={"job": job.id, "error": error.code, "retry": retry})
            self._catalogue.jobs.fail(job, str(error), reason_code=error.reason_code, retry=retry)
        except Exception as error:  # the edge of the process: a job must not take the worker along
            log.exception("job broke", extra={"job": job.id})
            text = f"internal error ({type(error).__name__})"
            self._catalogue.jobs.fail(job, text, reason_code=ReasonCode.WORKER_FAILED)

    @contextmanager
    def _heartbeat(self, job: Job) -> Iterator[None]:
        """Prolong the lease while the body runs, in a thread: a long pass of the network holds the main one."""
        done = threading.Event()
        last_moment = time.monotonic() + self._longest_s

        def beat() -> None:
            while not done.wait(min(self._lease_s / 3, self._longest_s)):
                if time.monotonic() > last_moment:
                    log.critical("job hangs, the process ends", extra={"job": job.id, "kind": job.kind})
                    self._give_up(EXIT_HUNG)
                    return
                try:
                    self._catalogue.jobs.heartbeat(job)
                except LeaseLost:
                    return  # the token will tell the body when it wants to commit
                except RadirError as error:
                    log.warning("heartbeat missed", extra={"job": job.id, "error": error.code})

        thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
