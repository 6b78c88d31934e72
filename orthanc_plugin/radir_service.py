# Runs inside Orthanc and is therefore offered under the AGPL v3 or later; see README.md beside this file.
"""Asking the RadIR service without ever waiting long for it.

One request has a budget of time and of bytes, only a few run at once, and after some failures none is tried for a
while. So whatever the service does, a caller gets an answer or a reason within the budget.
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
MOST_AT_ONCE = 4
_STEP_BYTES = 1 << 16
_JSON = ("application/dicom+json", "application/json")


class Unavailable(Exception):
    """The service gave no usable answer; ``status`` is what to tell an HTTP caller."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Answer(NamedTuple):
    status: int
    content_type: str
    warning: str
    body: bytes


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
            self._until = self._clock() + self._rest_s  # this caller tries; the others still wait
            return True

    def note(self, ok: bool) -> None:
        with self._lock:
            self._failures = 0 if ok else self._failures + 1
            if not ok:
                self._until = self._clock() + self._rest_s


class Service:
    """The RadIR service at ``url``; ``token`` is its bearer token where it wants one."""

    def __init__(self, url: str, token: str = "", budget_s: float = 3.0, breaker: Breaker | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("RadIR.Url is not an http or https URL")
        self._secure, self._host, self._port = parts.scheme == "https", parts.hostname, parts.port
        self._path, self._token, self._budget_s = parts.path.rstrip("/"), token, budget_s
        self.breaker = breaker or Breaker()
        self._slots = threading.BoundedSemaphore(MOST_AT_ONCE)

    def ask(self, method: str, path: str, accept: str = "application/dicom+json") -> Answer:
        """The answer to one request, whatever its status below 500. Raises Unavailable within the budget."""
        if not self._slots.acquire(blocking=False):
            raise Unavailable(503, "too many questions at once")
        try:
            if not self.breaker.admits():
                raise Unavailable(503, "the RadIR service failed lately and is left alone for a moment")
            try:
                answer = self._ask(method, path, accept)
            except Unavailable:
                self.breaker.note(False)
                raise
            self.breaker.note(True)
            return answer
        finally:
            self._slots.release()

    def _ask(self, method: str, path: str, accept: str) -> Answer:
        connection = self._connection()
        late = threading.Event()

        def give_up() -> None:
            late.set()
            if connection.sock is not None:
                with contextlib.suppress(OSError):  # closed already
                    connection.sock.shutdown(socket.SHUT_RDWR)  # wakes who reads a byte a second, too

        timer = threading.Timer(self._budget_s, give_up)
        timer.daemon = True
        timer.start()
        try:
            connection.request(method, self._path + path, headers=self._headers(accept))
            response = connection.getresponse()
            body = _bounded(response)
        except (OSError, http.client.HTTPException, ValueError) as error:
            if late.is_set() or isinstance(error, socket.timeout):
                raise Unavailable(504, "the RadIR service did not answer in time") from None
            raise Unavailable(502, "the RadIR service cannot be reached or talks nonsense") from None
        finally:
            timer.cancel()
            connection.close()
        if late.is_set():
            raise Unavailable(504, "the RadIR service did not answer in time")
        return _checked(response, body)

    def _connection(self) -> http.client.HTTPConnection:
        if self._secure:
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(self._host, self._port, timeout=self._budget_s, context=context)
        return http.client.HTTPConnection(self._host, self._port, timeout=self._budget_s)

    def _headers(self, accept: str) -> dict[str, str]:
        headers = {"Accept": accept, "Content-Length": "0"}
        if self._token:
            headers["Authorization"] = "Bearer " + self._token
        return headers


def _bounded(response: http.client.HTTPResponse) -> bytes:
    body = bytearray()
    while True:
        step = response.read(_STEP_BYTES)
        if not step:
            return bytes(body)
        body += step
        if len(body) > MOST_BYTES:
            raise Unavailable(502, "the answer of the RadIR service is too large")


def _checked(response: http.client.HTTPResponse, body: bytes) -> Answer:
    content_type = response.getheader("Content-Type", "")
    kind = content_type.partition(";")[0].strip().lower()
    if response.status >= 500 and response.status != 503:  # 503: it works, the study is not ready yet
        raise Unavailable(502, "the RadIR service failed on this request")
    if body and kind in _JSON:
        try:
            json.loads(body)
        except ValueError:
            raise Unavailable(502, "the RadIR service talks nonsense") from None
    elif body and kind != "application/dicom":
        raise Unavailable(502, "the RadIR service talks nonsense")
    warning = " ".join(response.getheader("Warning", "").split())[:1000]
    return Answer(response.status, content_type, warning, body)
