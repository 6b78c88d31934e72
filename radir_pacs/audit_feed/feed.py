"""Sends the audit trail to its receivers: in the order in which it is sealed, each event at least once.

The trail itself is the spool. Of each receiver the catalogue keeps the last event that it confirmed; a receiver that is
away is asked again, less and less often, and goes on where it stopped. Each has a thread of its own in the relay, so
that one which hangs delays neither the others nor the relay. Answers to readers wait for none of it.
"""

from __future__ import annotations

import logging
import os
import platform
import threading
from collections.abc import Iterator, Sequence
from typing import Protocol

from radir_pacs.catalogue import AuditRow, Catalogue
from radir_pacs.config import Settings
from radir_pacs.errors import PeerFailed, SettingError, StorageFailed
from radir_pacs.low_priority import after_others
from radir_pacs.reasons import ReasonCode

from .fhir_feed import FhirReceiver
from .syslog import SyslogReceiver
from .terms import Source

log = logging.getLogger(__name__)

MOST_AT_ONCE = 500
_PAUSE_S = 1.0  # between two batches: seals come every half second
_CATCH_UP_PAUSE_S = 0.2  # a long spool takes about half a core, and leaves the rest to those who answer
_LONGEST_PAUSE_S = 60.0
_HELD_S = 180.0  # longer than a batch may take; then another relay goes on
_ENDS_S = 5.0


class Receiver(Protocol):
    """``send`` yields the last event that was confirmed, again and again, and raises PeerFailed."""

    name: str

    def send(self, rows: Sequence[AuditRow]) -> Iterator[AuditRow]: ...


def receivers_of(settings: Settings) -> tuple[Receiver, ...]:
    """Those that the settings name."""
    source = Source(name=settings.ae_title, host=platform.node() or "localhost")
    found: list[Receiver] = []
    if settings.audit_syslog:
        found.append(SyslogReceiver(settings, source))
    if settings.audit_fhir:
        found.append(FhirReceiver(settings, source))
    return tuple(found)


class AuditFeed:
    """Sends to one receiver. ``holder``: two processes with different ones never send to it at once."""

    def __init__(self, catalogue: Catalogue, receiver: Receiver, holder: str, *, most: int = MOST_AT_ONCE) -> None:
        self._receivers, self._receiver, self._holder, self._most = catalogue.audit_receivers, receiver, holder, most
        self._failures = 0

    def step(self) -> float:
        """Send what waits, one batch at most; returns the seconds until the next step."""
        rows = self._receivers.claim(self._receiver.name, self._holder, hold_s=_HELD_S, most=self._most)
        if not rows:
            self._failures = 0
            return _PAUSE_S
        confirmed, failure = None, None
        try:
            for row in self._receiver.send(rows):
                confirmed = row
        except PeerFailed as failed:
            failure = failed.reason_code
        except SettingError:
            failure = ReasonCode.WRONG_SETTING
        except Exception as error:  # an error of ours or of a library, which would stop the feed without a word
            log.exception("audit trail not sent", extra={"error": type(error).__name__})
            failure = ReasonCode.OTHER
        if confirmed is not None:
            self._receivers.sent(self._receiver.name, self._holder, confirmed)
        if failure is None:
            self._failures = 0
            return _PAUSE_S if len(rows) < self._most else _CATCH_UP_PAUSE_S
        self._receivers.failed(self._receiver.name, self._holder, failure)
        self._failures += 1
        if self._failures == 1:
            log.warning("audit trail not sent", extra={"receiver": self._receiver.name, "reason": failure})
        return float(min(2.0 ** (self._failures - 1), _LONGEST_PAUSE_S))

    def run(self, stop: threading.Event) -> None:
        """Step until told to stop, after those who answer readers where cores are short."""
        after_others()
        while True:
            try:
                pause_s = self.step()
            except StorageFailed:
                pause_s = _PAUSE_S  # the relay says so, and looks after the database
            except Exception as error:  # the edge of the thread: it must go on
                log.exception("audit trail not sent", extra={"error": type(error).__name__})
                pause_s = _LONGEST_PAUSE_S
            if stop.wait(pause_s):
                return


class AuditFeeds:
    """The feeds of the settings, each on a thread, from entering to leaving the context."""

    def __init__(self, catalogue: Catalogue, settings: Settings) -> None:
        self._catalogue = catalogue
        self._receivers = receivers_of(settings)
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> AuditFeeds:
        self._catalogue.audit_receivers.keep([receiver.name for receiver in self._receivers])
        holder = f"{platform.node()}:{os.getpid()}"
        for receiver in self._receivers:
            feed = AuditFeed(self._catalogue, receiver, holder)
            thread = threading.Thread(target=feed.run, args=(self._stop,), name=f"audit-{receiver.name}", daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    def __exit__(self, *_: object) -> None:
        """A batch in hand is not waited for: it is sent again, where it was not confirmed."""
        self._stop.set()
        for thread in self._threads:
            thread.join(_ENDS_S)
