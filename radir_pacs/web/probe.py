"""Whether a part of the service answers in time. Probes come often and must not pile up behind a part that hangs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future

from radir_pacs.errors import NotReady, StorageFailed


class Probe:
    """Runs one check at a time, however many ask; may be shared by threads. ``part`` names the part in messages."""

    def __init__(self, part: str, ask: Callable[[], object]) -> None:
        self._part, self._ask = part, ask
        self._lock = threading.Lock()
        self._asked: Future[None] | None = None

    def check(self, within_s: float) -> None:
        """Raises NotReady, saying why, when the answer is no, or does not come within ``within_s``."""
        with self._lock:
            if self._asked is None or self._asked.done():
                self._asked = Future()
                threading.Thread(target=self._answer, args=(self._asked,), name="probe", daemon=True).start()
            asked = self._asked
        try:
            asked.result(within_s)
        except StorageFailed as error:
            raise NotReady(f"{self._part}: {error}") from None
        except TimeoutError:
            raise NotReady(f"{self._part}: no answer within {within_s:g} s") from None

    def _answer(self, asked: Future[None]) -> None:
        try:
            self._ask()
        except BaseException as error:  # the edge of the thread: passed on to the waiting caller
            asked.set_exception(error)
        else:
            asked.set_result(None)
