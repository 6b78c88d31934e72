"""One process works at a run: it renews its lease, and learns that the run is to be cancelled or is somebody else's."""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

from radir_pacs.catalogue import Catalogue
from radir_pacs.errors import LeaseLost, RadirError, StorageFailed

log = logging.getLogger(__name__)


class Cancelled(RadirError):
    """somebody asked for the run to be cancelled"""


class RunLease:
    """Holds a run from entry to exit. Raises Conflict on entry where somebody else does."""

    def __init__(self, catalogue: Catalogue, run_id: int, *, worker: str, lease_s: float) -> None:
        self._catalogue, self._run_id, self._worker, self._lease_s = catalogue, run_id, worker, lease_s
        self._ended, self._cancelled, self._lost = threading.Event(), threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self.token = 0

    def __enter__(self) -> Self:
        self.token = self._catalogue.retraining.hold(self._run_id, self._worker, self._lease_s)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        if kind is not None and not issubclass(kind, Exception):  # told to stop: whoever goes on need not wait
            with suppress(RadirError):
                self._catalogue.retraining.let_go(self._run_id, self.token)

    def check(self) -> None:
        """Raises Cancelled, LeaseLost."""
        if self._lost.is_set():
            raise LeaseLost
        if self._cancelled.is_set():
            raise Cancelled

    def _renew(self) -> None:
        while not self._ended.wait(min(self._lease_s / 3, 1.0)):
            try:
                if self._catalogue.retraining.renew(self._run_id, self.token, self._lease_s):
                    self._cancelled.set()
            except LeaseLost:
                self._lost.set()
                return
            except StorageFailed:  # the lease goes on for a while, and nobody else can take it meanwhile either
                log.warning("the lease could not be renewed", extra={"run": self._run_id})
