"""From a job id to a finished job: claim, heartbeat, use case, outcome."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from radir_pacs.catalogue import Catalogue
from radir_pacs.errors import BadInput, BundleRefused, LeaseLost, NotFound, RadirError, StorageFailed
from radir_pacs.types import Job, JobKind

log = logging.getLogger(__name__)

UseCase = Callable[[Job], None]  # does the work and ends the job in the transaction of its result
_NEVER_BETTER = (BadInput, NotFound, BundleRefused)  # trying again gives the same


class Runner:
    """Runs jobs by id, one at a time."""

    def __init__(
        self, catalogue: Catalogue, use_cases: Mapping[JobKind, UseCase], *, worker: str, lease_s: float
    ) -> None:
        self._catalogue = catalogue
        self._use_cases = use_cases
        self._worker = worker
        self._lease_s = lease_s

    def run(self, job_id: int) -> None:
        """Do the job unless somebody else has it. What goes wrong stands in the job row; nothing is raised."""
        try:
            job = self._catalogue.claim(job_id, self._worker)
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

    def _work(self, job: Job) -> None:
        try:
            self._use_cases[job.kind](job)
        except LeaseLost:
            raise
        except RadirError as error:
            retry = not isinstance(error, _NEVER_BETTER)
            log.warning("job failed", extra={"job": job.id, "error": error.code, "retry": retry})
            self._catalogue.fail(job, str(error), retry=retry)
        except Exception as error:  # the edge of the process: a job must not take the worker along
            log.exception("job broke", extra={"job": job.id})
            self._catalogue.fail(job, f"internal error ({type(error).__name__})")

    @contextmanager
    def _heartbeat(self, job: Job) -> Iterator[None]:
        """Prolong the lease while the body runs, in a thread: a long pass of the network holds the main one."""
        done = threading.Event()

        def beat() -> None:
            while not done.wait(self._lease_s / 3):
                try:
                    self._catalogue.heartbeat(job)
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
