# Runs inside Orthanc and is therefore offered under the AGPL v3 or later; see README.md beside this file.
"""Requests to the RadIR service that never wait long for it.

A request has a budget of time and bytes; only a few run at once, a few more wait for their turn, and after some
failures none is tried for a while. So whatever the service does, a caller gets an answer or a reason within twice the
budget, and most of Orthanc's own threads stay free.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import urlsplit

MOST_BYTES = 4 << 20
MOST_AT_ONCE, MOST_WAITING = 8, 8  # a browser sends six requests at once; Orthanc has 50 threads for all of HTTP
DICOM_JSON = "application/dicom+json"
JSON = (DICOM_JSON, "application/json")
_STEP_BYTES = 1 << 16


class Unavailable(Exception):
    """The service gave no usable answer; ``status`` is the status for an HTTP caller."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Answer(NamedTuple):
    """``headers`` by name in lower case; ``content_type`` without parameters."""

    status: int
    content_type: str
    headers: dict[str, str]
    body: bytes


class Wanted(NamedTuple):
    """Which answers are usable, by media type (None: any) and size. Errors are always JSON."""

    kinds: tuple[str, ...] | None = JSON
    most_bytes: int = MOST_BYTES


_ROWS = Wanted()


class Breaker:
    """After ``threshold`` failures in a row nothing is tried for ``rest_s``; then one attempt decides."""

    def __init__(self, threshold: int = 3, rest_s: float = 15.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._threshold, self._rest_s, self._clock = threshold, rest_s, clock
        self._failures, self._until = 0, 0.0
        self._lock = threading.Lock()

    @property
    def is_open(self) -> bool:
        return self._failures >= self._threshold

    def admits(self) -> bool:
        with self._lock:
            if not self.is_open:
                return True
            if self._clock() < self._until:
                return False
            self._until = self._clock() + self._rest_s  # this caller may try; the others keep waiting
            return True

    def note(self, ok: bool) -> None:
        with self._lock:
            self._failures = 0 if ok else self._failures + 1
            if not ok:
                self._until = self._clock() + self._rest_s


class Service:
    """The RadIR service at ``url``; ``token`` is its bearer token, if it requires one."""

    def __init__(self, url: str, token: str = "", budget_s: float = 3.0, breaker: Breaker | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("RadIR.Url is not an http or https URL")
        self._secure, self._host, self._port = parts.scheme == "https", parts.hostname, parts.port
        self._path, self._token, self._budget_s = parts.path.rstrip("/"), token, budget_s
        self.breaker = breaker or Breaker()
        self._slots = threading.BoundedSemaphore(MOST_AT_ONCE)
        self._places = threading.BoundedSemaphore(MOST_AT_ONCE + MOST_WAITING)

    def ask(
        self, method: str, path: str, accept: str = DICOM_JSON, wanted: Wanted = _ROWS, body: bytes = b""
    ) -> Answer:
        """The answer to one request, whatever its status below 500; ``body`` is JSON. Raises Unavailable."""
        if not self._places.acquire(blocking=False):
            raise Unavailable(503, "too many requests at once")
        try:
            if not self._slots.acquire(timeout=self._budget_s):
                raise Unavailable(503, "too many requests at once")
            try:
                return self._ask_once(method, path, accept, wanted, body)
            finally:
                self._slots.release()
        finally:
            self._places.release()

    def _ask_once(self, method: str, path: str, accept: str, wanted: Wanted, body: bytes) -> Answer:
        if not self.breaker.admits():
            raise Unavailable(503, "the RadIR service failed a moment ago; it is asked again shortly")
        try:
            answer = self._ask(method, path, accept, wanted, body)
        except Unavailable:
            self.breaker.note(False)
            raise
        self.breaker.note(True)
        return answer

    def _ask(self, method: str, path: str, accept: str, wanted: Wanted, body: bytes) -> Answer:
        connection = self._connection()
        late = threading.Event()

        def give_up() -> None:
            late.set()
            if connection.sock is not None:
                with contextlib.suppress(OSError):  # closed already
                    connection.sock.shutdown(socket.SHUT_RDWR)  # also wakes a reader who gets a byte per second

        timer = threading.Timer(self._budget_s, give_up)
        timer.daemon = True
        timer.start()
        try:
            connection.request(method, self._path + path, body, headers=self._headers(accept, body))
            response = connection.getresponse()
            content = _bounded(response, wanted.most_bytes)
        except (OSError, http.client.HTTPException, ValueError) as error:
            if late.is_set() or isinstance(error, socket.timeout):
                raise Unavailable(504, "the RadIR service did not answer in time") from None
            raise Unavailable(502, "the RadIR service cannot be reached or its answer cannot be read") from None
        finally:
            timer.cancel()
            connection.close()
        if late.is_set():
            raise Unavailable(504, "the RadIR service did not answer in time")
        return _checked(response, content, wanted.kinds)

    def _connection(self) -> http.client.HTTPConnection:
        if self._secure:
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(self._host, self._port, timeout=self._budget_s, context=context)
        return http.client.HTTPConnection(self._host, self._port, timeout=self._budget_s)

    def _headers(self, accept: str, body: bytes) -> dict[str, str]:
        headers = {"Accept": accept, "Content-Length": str(len(body))}
        if body:
            headers["Content-Type"] = "application/json"
        if self._token:
            headers["Authorization"] = "Bearer " + self._token
        return headers


def _bounded(response: http.client.HTTPResponse, most_bytes: int) -> bytes:
    body = bytearray()
    while True:
        step = response.read(_STEP_BYTES)
        if not step:
            return bytes(body)
        body += step
        if len(body) > most_bytes:
            raise Unavailable(502, "the answer of the RadIR service is too large")


def _checked(response: http.client.HTTPResponse, body: bytes, kinds: tuple[str, ...] | None) -> Answer:
    kind = response.getheader("Content-Type", "").partition(";")[0].strip().lower()
    if response.status >= 500 and response.status != 503:  # 503: it works, the study is not ready yet
        raise Unavailable(502, "the RadIR service failed on this request")
    allowed = kinds if response.status < 400 else JSON
    if body and allowed is not None and kind not in allowed:
        raise Unavailable(502, "the RadIR service gave an answer that cannot be used")
    if body and kind in JSON:
        try:
            json.loads(body)
        except ValueError:
            raise Unavailable(502, "the RadIR service gave an answer that cannot be used") from None
    headers = {name.lower(): " ".join(value.split())[:1000] for name, value in response.getheaders()}
    return Answer(response.status, kind, headers, body)
