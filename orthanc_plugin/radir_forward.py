# Runs inside Orthanc and is therefore offered under the AGPL v3 or later; see README.md beside this file.
"""The thread that hands over stable studies, one after the other, while Orthanc does its work.

It reads Orthanc's own log of changes every few seconds, so that no callback of ours runs while Orthanc stores, and a
crash loses nothing: the log and the queue are on disk.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from radir_deletions import Deletions
from radir_handover import ByPull, ByStore, Gone, NotTaken, Refused, Rest, read_study
from radir_queue import Entry, Queue
from radir_service import Breaker, Service, Unavailable

PAGE = 1000
FIRST_LOOK_S, LOOK_S = 0.1, 2.0


class Forwarder(threading.Thread):
    """``modality``: hand over by C-STORE to this modality of Orthanc; None: by reference to ``service``.

    ``deletions`` looks after studies that Orthanc no longer has; None if a deletion here means nothing to RadIR.
    """

    def __init__(
        self,
        rest: Rest,
        queue: Queue,
        service: Service,
        modality: str | None,
        log: Callable[[str], None],
        deletions: Deletions | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(name="radir-forward", daemon=True)
        self._rest, self._queue = rest, queue
        self._log, self._clock = log, clock
        self._deletions = deletions
        self._stopping = threading.Event()
        self._way: ByStore | ByPull = (
            ByPull(queue, service) if modality is None else ByStore(rest, queue, service, modality, self._stopping.wait)
        )
        self.breaker = Breaker()

    def stop(self) -> None:
        self._stopping.set()
        self.join(5)

    def run(self) -> None:
        begun, look_s = False, FIRST_LOOK_S
        while not self._stopping.wait(look_s):
            look_s = LOOK_S if begun else min(2 * look_s, LOOK_S)
            try:
                if not begun:
                    self._begin()
                    begun = True
                self._take_changes()
                self._hand_over_all()
                if self._deletions is not None:
                    self._deletions.look(self._clock())
            except Exception as error:  # the edge of the thread: it must outlive anything
                if begun:  # before, Orthanc is still starting
                    self._log(f"RadIR: a round failed ({type(error).__name__})")

    def _begin(self) -> None:
        """Continue where the last run ended, however it ended."""
        since, last = self._queue.last_change(), int(self._rest.get("/changes?last")["Last"])
        if since is None:  # a new plugin beside an old archive: what is there already is not sent
            self._queue.take(last, [], [], self._clock())
        elif last < since:  # the archive was begun anew: what the old one held was not deleted by anybody
            self._queue.forget_all()
            self._queue.take(0, [], [], self._clock())
        self._take_changes()
        self._queue.restart(self._clock())

    def _take_changes(self) -> None:
        since = self._queue.last_change() or 0
        while not self._stopping.is_set():
            page = self._rest.get(f"/changes?since={since}&limit={PAGE}")
            found: dict[str, list[str]] = {"NewStudy": [], "StableStudy": []}
            for change in page["Changes"]:
                found.get(change["ChangeType"], []).append(change["ID"])
            if page["Changes"]:
                since = int(page["Last"])
                self._queue.take(since, found["NewStudy"], found["StableStudy"], self._clock())
            if page["Done"]:
                return

    def _hand_over_all(self) -> None:
        while not self._stopping.is_set():
            entry = self._queue.next_due(self._clock())
            if entry is None or not self.breaker.admits():
                return
            try:
                self._hand_over(entry)
            except Gone:
                self._queue.done(entry.study)
            except (NotTaken, Unavailable, OSError) as error:
                if self._stopping.is_set():
                    return  # it was not the peer's fault
                self.breaker.note(isinstance(error, Refused))
                self._queue.failed(entry, str(error), self._clock(), may_give_up=isinstance(error, Refused))
            else:
                self.breaker.note(True)
            self._take_changes()

    def _hand_over(self, entry: Entry) -> None:
        study = read_study(self._rest, entry.study)
        if not study.instances or self._queue.was_handed_over(entry.study, study.content):
            self._queue.done(entry.study)
        elif self._way.hand_over(entry, study, self._clock):
            self._queue.done(entry.study, study.content, study.uid)
