"""The answer of another HTTP server, read within bounds of bytes, rate and time.

The timeout of a socket starts anew with each byte. So a thread looks twice a second whether the answer still comes as
it should, and shuts the connection when it does not: the reader then learns why.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from radir_pacs.errors import PeerFailed
from radir_pacs.reasons import ReasonCode

CONNECT_S = 10.0
RATE_WINDOW_S = 15.0
_LOOK_S = 0.5
SILENT = frozenset({ReasonCode.PEER_UNREACHABLE, ReasonCode.PEER_NO_ANSWER, ReasonCode.PEER_TOO_SLOW})
"""Failures of a server that is away, whatever it is asked for."""


@dataclass(frozen=True, kw_only=True)
class AnswerBounds:
    """``first_byte_s`` until the headers are there; ``least_bytes_s`` over the time spent waiting for bytes, 0: any."""

    most_bytes: int
    least_bytes_s: float
    deadline_s: float
    first_byte_s: float = 60.0


class Meter:
    """What has come so far, and whether it is within the bounds. The reader and the watching thread share it."""

    def __init__(self, bounds: AnswerBounds, clock: Callable[[], float] = time.monotonic) -> None:
        self._bounds, self._clock = bounds, clock
        self._lock = threading.Lock()
        self._began = clock()
        self._headers = False
        self._received = self._window_bytes = 0
        self._window_s = 0.0  # spent waiting; the time between two reads is ours, not the sender's
        self._waiting_since: float | None = None

    def headers_came(self) -> None:
        with self._lock:
            self._headers = True

    def asks(self) -> None:
        """The reader waits from now on."""
        with self._lock:
            self._waiting_since = self._clock()

    def came(self, count: int) -> None:
        """The reader got so many bytes."""
        with self._lock:
            self._received += count
            self._window_bytes += count
            self._window_s = self._waited_s()
            self._waiting_since = None
            if self._window_s >= RATE_WINDOW_S and not self._is_slow():
                self._window_s, self._window_bytes = 0.0, 0

    def failure(self) -> PeerFailed | None:
        """Which bound is broken, if one is."""
        with self._lock:
            passed_s = self._clock() - self._began
            if not self._headers and passed_s > self._bounds.first_byte_s:
                return PeerFailed("the PACS did not answer in time", reason_code=ReasonCode.PEER_NO_ANSWER)
            if self._received > self._bounds.most_bytes:
                return PeerFailed(
                    f"the PACS sends more than {self._bounds.most_bytes >> 20} MiB",
                    reason_code=ReasonCode.PEER_TOO_LARGE,
                )
            if passed_s > self._bounds.deadline_s:
                return PeerFailed(
                    f"the PACS took more than {self._bounds.deadline_s:.0f} s", reason_code=ReasonCode.PEER_TOO_SLOW
                )
            if self._is_slow():
                return PeerFailed(
                    f"the PACS sends less than {self._bounds.least_bytes_s:.0f} bytes per second",
                    reason_code=ReasonCode.PEER_TOO_SLOW,
                )
            return None

    def _waited_s(self) -> float:
        since = self._waiting_since
        return self._window_s + (self._clock() - since if since is not None else 0.0)

    def _is_slow(self) -> bool:
        waited_s = self._waited_s()
        return waited_s >= RATE_WINDOW_S and self._window_bytes < self._bounds.least_bytes_s * waited_s


class BoundedAnswer:
    """``status``, ``headers``, and the body by `read`, which raises PeerFailed where a bound is broken."""

    def __init__(self, response: requests.Response, meter: Meter) -> None:
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self._raw: BaseHTTPResponse = response.raw
        self._meter = meter

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes, as soon as there are some; empty at the end."""
        self._meter.asks()
        chunk = b""
        try:
            chunk = self._raw.read1(size, decode_content=False)
        except (HTTPError, OSError, ValueError):
            raise self._meter.failure() or PeerFailed(
                "the PACS broke its answer off", reason_code=ReasonCode.PEER_NO_ANSWER
            ) from None
        finally:
            self._meter.came(len(chunk))
        failure = self._meter.failure()
        if failure is not None:
            raise failure
        return chunk


@contextmanager
def bounded_get(url: str, headers: Mapping[str, str], bounds: AnswerBounds, *, ca: str = "") -> Iterator[BoundedAnswer]:
    """GET ``url``, and nothing that it redirects to. Raises PeerFailed, here and from the answer's `read`.

    ca: file of the authorities (PEM) that the server's certificate must come from; empty: those of the system, or
    of REQUESTS_CA_BUNDLE. Nothing else of the environment counts: no proxy, no .netrc.
    """
    meter, sockets, ended = Meter(bounds), _Sockets(), threading.Event()
    watcher = threading.Thread(target=_watch, args=(meter, sockets, ended), name="watch-answer", daemon=True)
    with requests.Session() as session, contextlib.closing(sockets):
        verify = ca or session.merge_environment_settings(url, {}, None, None, None)["verify"]  # REQUESTS_CA_BUNDLE
        session.trust_env = False  # a proxy's sockets are not watched, and a .netrc would replace what is to be sent
        for scheme in ("http://", "https://"):
            session.mount(scheme, _Adapter(sockets))
        watcher.start()
        try:
            try:
                response = session.get(
                    url,
                    headers=dict(headers),
                    stream=True,
                    timeout=(min(CONNECT_S, bounds.first_byte_s), bounds.first_byte_s),
                    verify=verify,
                    allow_redirects=False,
                )
            except (requests.RequestException, OSError, ValueError) as error:
                raise meter.failure() or PeerFailed(
                    f"the PACS cannot be reached ({type(error).__name__})", reason_code=ReasonCode.PEER_UNREACHABLE
                ) from None
            with contextlib.closing(response):
                failure = meter.failure()
                if failure is not None:  # the headers that were cut off look like a short answer
                    raise failure
                meter.headers_came()
                yield BoundedAnswer(response, meter)
        finally:
            ended.set()
            watcher.join()


class _Sockets:
    """Second handles on the sockets of a session, by which another thread ends what is read from them."""

    def __init__(self) -> None:
        self._handles: list[socket.socket] = []

    def add(self, opened: socket.socket) -> None:
        self._handles.append(opened.dup())

    def shut(self) -> None:
        for handle in list(self._handles):
            with contextlib.suppress(OSError):  # closed by the other side already
                handle.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for handle in self._handles:
            handle.close()


class _Adapter(HTTPAdapter):
    """Tells of each socket that it opens."""

    def __init__(self, sockets: _Sockets) -> None:
        self._sockets = sockets
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options)
        sockets = self._sockets

        class Plain(HTTPConnection):
            def _new_conn(self) -> socket.socket:
                opened = super()._new_conn()
                sockets.add(opened)
                return opened

        class Secure(HTTPSConnection):
            def _new_conn(self) -> socket.socket:
                opened = super()._new_conn()
                sockets.add(opened)
                return opened

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain

        class SecurePool(HTTPSConnectionPool):
            ConnectionCls = Secure

        self.poolmanager.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}


def _watch(meter: Meter, sockets: _Sockets, ended: threading.Event) -> None:
    while not ended.wait(_LOOK_S):
        if meter.failure() is not None:
            sockets.shut()
            return
