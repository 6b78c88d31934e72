"""Whatever is refused or aborted leaves a line in the log and a row in ``radir problems``, with advice.

A separate thread writes the rows, so that neither an unreachable database nor a peer that is refused a thousand times
a second delays anybody else.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from dataclasses import dataclass

from radir_pacs.catalogue import Catalogue
from radir_pacs.errors import RadirError
from radir_pacs.reasons import ReasonCode

log = logging.getLogger(__name__)

AGAIN_S = 60.0  # the same refusal of the same address is recorded once in this time, with a count
_MOST_KNOWN = 1000  # pairs of address and reason per AGAIN_S; more are dropped
_MOST_OF_ADDRESS = 20  # reasons per address and AGAIN_S, as when a scanner tries one AE title after another
_MOST_WAITING = 200


@dataclass(frozen=True, kw_only=True)
class Refused:
    """One refusal. ``calling_ae`` is empty when the peer did not state it; ``advice`` says what can be done."""

    address: str
    calling_ae: str
    what: str
    advice: str = ""


class RefusalLog:
    """Takes refusals from any thread; never blocks."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._lock = threading.Lock()
        self._told: dict[tuple[str, str], tuple[float, int]] = {}  # (address, what): when, how many since
        self._waiting: queue.Queue[Refused | None] = queue.Queue(_MOST_WAITING)
        self._thread = threading.Thread(target=self._write, name="refusals", daemon=True)
        self._thread.start()

    def note(self, refused: Refused) -> None:
        """Log and record it, unless the same was recorded within ``AGAIN_S``."""
        repeated = self._repeated(refused.address, refused.what)
        if repeated is None:
            return
        extra = {"address": refused.address, "calling_ae": refused.calling_ae, "repeated": repeated}
        log.warning("%s", refused.what, extra=extra)
        try:
            self._waiting.put_nowait(refused)
        except queue.Full:
            log.error("a refusal is not recorded", extra=extra)

    def _repeated(self, address: str, what: str) -> int | None:
        """How often it happened since it was last recorded; None if it is not to be recorded now."""
        now, key = time.monotonic(), (address, what)
        with self._lock:
            if len(self._told) >= _MOST_KNOWN:
                self._told = {known: at for known, at in self._told.items() if now - at[0] < AGAIN_S}
            since, count = self._told.get(key, (float("-inf"), 0))
            if now - since < AGAIN_S:
                self._told[key] = (since, count + 1)
                return None
            of_address = sum(known[0] == address and now - at[0] < AGAIN_S for known, at in self._told.items())
            if len(self._told) >= _MOST_KNOWN or of_address >= _MOST_OF_ADDRESS:
                return None
            self._told[key] = (now, 0)
            return count

    def _write(self) -> None:
        while (refused := self._waiting.get()) is not None:
            reason = f"{refused.what}, from {refused.address}"
            if refused.advice:
                reason += f": {refused.advice}"
            try:
                self._catalogue.refusals.add(
                    sop_uid=None,
                    reason=reason,
                    dimse_status=None,
                    source=refused.calling_ae,
                    reason_code=ReasonCode.REFUSED_PEER,
                )
            except RadirError as error:
                log.error("a refusal is not recorded", extra={"address": refused.address, "error": error.code})

    def close(self) -> None:
        """Write what is waiting, within seconds."""
        try:
            self._waiting.put(None, timeout=1)
        except queue.Full:
            return
        self._thread.join(2)
