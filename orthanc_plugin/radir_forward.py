# Runs inside Orthanc and is therefore offered under the AGPL v3 or later; see README.md beside this file.
"""The thread that hands stable studies over, one after the other, beside everything that Orthanc does.

It looks into Orthanc's own log of changes every few seconds, so that no callback of ours stands where Orthanc stores,
and a crash loses nothing: the log and the queue stand on the disk. A study goes by a C-STORE job of Orthanc's own, or
its name goes to RadIR, which then pulls it by WADO-RS.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from radir_queue import Entry, Queue
from radir_service import Breaker, Service, Unavailable

OWN_MANUFACTURER, OWN_MODEL = "RadIR-PACS", "Similar case search"  # the marks of RadIR's reports: never sent back
PAGE = 1000
STRICT_ATTEMPTS = 2
FIRST_LOOK_S, LOOK_S, JOB_LOOK_S, LONGEST_JOB_S = 0.1, 2.0, 0.25, 3600.0


class Rest(Protocol):
    """Orthanc's REST API from within. Both raise ``Gone`` for what does not exist, OSError for other failures."""

    def get(self, uri: str) -> Any: ...

    def post(self, uri: str, body: Any) -> Any: ...


class Gone(Exception):
    """The resource was deleted."""


class NotTaken(Exception):
    """The study could not be handed over this time."""


class Forwarder(threading.Thread):
    """``modality``: hand over by C-STORE to this modality of Orthanc's; None: by reference to ``service``."""

    def __init__(
        self,
        rest: Rest,
        queue: Queue,
        service: Service,
        modality: str | None,
        log: Callable[[str], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(name="radir-forward", daemon=True)
        self._rest, self._queue, self._service, self._modality = rest, queue, service, modality
        self._log, self._clock = log, clock
        self._stopping = threading.Event()
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
            except Exception as error:  # the edge of the thread: it must outlive anything
                if begun:  # before, Orthanc is still starting
                    self._log(f"RadIR: a round failed ({type(error).__name__})")

    def _begin(self) -> None:
        """Take up where the last run ended, however it ended."""
        since, last = self._queue.last_change(), int(self._rest.get("/changes?last")["Last"])
        if since is None:  # a new plugin beside an old archive: what is there already is not sent
            self._queue.take(last, [], [], self._clock())
        elif last < since:  # the archive was begun anew
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
                self.breaker.note(False)
                self._queue.failed(entry, str(error), self._clock())
            else:
                self.breaker.note(True)
            self._take_changes()

    def _hand_over(self, entry: Entry) -> None:
        series = [one for one in self._rest.get(f"/studies/{entry.study}/series") if not self._is_own(one)]
        names = sorted(name for one in series for name in one["Instances"])
        content = hashlib.sha256(" ".join(names).encode()).hexdigest()
        if not names or self._queue.was_handed_over(entry.study, content):
            self._queue.done(entry.study)
            return
        if self._modality is not None:
            self._store([one["ID"] for one in series], permissive=entry.attempts >= STRICT_ATTEMPTS)
        else:
            study_uid = self._rest.get("/studies/" + entry.study)["MainDicomTags"]["StudyInstanceUID"]
            answer = self._service.ask("POST", f"/dicom-web/studies/{study_uid}/pull")
            if answer.status != 202:
                raise NotTaken(f"RadIR answers a reference with status {answer.status}")
        self._queue.done(entry.study, content)

    def _is_own(self, series: dict[str, Any]) -> bool:
        """Whether RadIR made this series: a report that came back to the archive (loop guard)."""
        tags = series["MainDicomTags"]
        if tags.get("Modality") != "SR" or tags.get("Manufacturer") != OWN_MANUFACTURER or not series["Instances"]:
            return False
        found = self._rest.get(f"/instances/{series['Instances'][0]}/simplified-tags")
        return bool(found.get("ManufacturerModelName") == OWN_MODEL)

    def _store(self, series: list[str], permissive: bool) -> None:
        """A C-STORE job of Orthanc's; its state is looked at, never waited for inside Orthanc.

        The first attempts end at the first failure, since the peer may be down; a later one sends what can be sent.
        """
        body = {"Resources": series, "Synchronous": False, "Permissive": permissive}
        job = "/jobs/" + self._rest.post(f"/modalities/{self._modality}/store", body)["ID"]
        until = self._clock() + LONGEST_JOB_S
        while not self._stopping.wait(JOB_LOOK_S):
            found = self._rest.get(job)
            if found["State"] == "Success":
                refused = int(found["Content"].get("FailedInstancesCount", 0))
                if refused:
                    raise NotTaken(f"{refused} instances were refused")
                return
            if found["State"] == "Failure":
                raise NotTaken(found.get("ErrorDetails") or found.get("ErrorDescription") or "the C-STORE job failed")
            if self._clock() > until:
                self._rest.post(job + "/cancel", {})
                raise NotTaken("the C-STORE job took too long")
        raise NotTaken("Orthanc stops")
