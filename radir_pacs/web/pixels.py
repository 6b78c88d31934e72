"""The one decoding child that the threads of the web service share, one picture at a time (P6)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from radir_pacs.config import Settings
from radir_pacs.dicom.limits import DecodeLimits
from radir_pacs.dicom.pixels import PixelDecoder
from radir_pacs.errors import NotReady

WAIT_S = 20.0


class SharedDecoder:
    """A ``PixelDecoder`` lent to one thread at a time; ``close`` ends the child."""

    def __init__(self, settings: Settings) -> None:
        limits = DecodeLimits(
            wall_s=settings.decode_timeout_s,
            cpu_s=int(settings.decode_timeout_s) + 1,
            memory_bytes=settings.decode_memory_mib << 20,
        )
        self._decoder = PixelDecoder(limits)
        self._lock = threading.Lock()

    @contextmanager
    def lent(self) -> Iterator[PixelDecoder]:
        """The decoder, while the body runs. Raises NotReady when others hold it for too long."""
        if not self._lock.acquire(timeout=WAIT_S):
            raise NotReady("the decoder is busy; ask again later")
        try:
            yield self._decoder
        finally:
            self._lock.release()

    def close(self) -> None:
        self._decoder.close()
