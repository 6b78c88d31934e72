# Runs inside Orthanc and is therefore offered under the AGPL v3 or later; see README.md beside this file.
"""Following deletions, if configured: a study that has been missing in Orthanc for long is deleted in RadIR too.

Orthanc does not log deletions, and does not distinguish a person's deletion from its own recycling of old studies. So
the studies that were handed over are looked up in turn, a few in each round, and a missing one has a grace period.
"""

from __future__ import annotations

from radir_handover import Gone, Rest
from radir_queue import Kept, Queue
from radir_service import Service, Unavailable

LOOKED_UP = 20  # per round


class Deletions:
    """``grace_s``: how long a study must be missing before it is deleted."""

    def __init__(self, rest: Rest, queue: Queue, service: Service, grace_s: float) -> None:
        self._rest, self._queue, self._service, self._grace_s = rest, queue, service, grace_s
        self._after = ""

    def look(self, now: float) -> None:
        """Look up the next few studies. What the service cannot delete now is tried again at its next turn."""
        page = self._queue.handed_over_after(self._after, LOOKED_UP)
        self._after = page[-1].study if len(page) == LOOKED_UP else ""
        for kept in page:
            self._look_up(kept, now)

    def _look_up(self, kept: Kept, now: float) -> None:
        try:
            self._rest.get("/studies/" + kept.study)
        except OSError:
            return  # Orthanc did not say
        except Gone:
            if kept.missed_since is None:
                self._queue.missed(kept.study, now)
            elif now - kept.missed_since >= self._grace_s:
                self._delete(kept)
            return
        if kept.missed_since is not None:
            self._queue.missed(kept.study, None)

    def _delete(self, kept: Kept) -> None:
        """Unless Orthanc holds the study under another id, as after its patient was corrected."""
        query = {"Level": "Study", "Query": {"StudyInstanceUID": kept.study_uid}}
        try:
            if self._rest.post("/tools/find", query):
                self._queue.forget(kept.study)
                return
            answer = self._service.ask("DELETE", "/dicom-web/studies/" + kept.study_uid)
        except (Unavailable, OSError):
            return
        if answer.status in (204, 404):
            self._queue.forget(kept.study)
