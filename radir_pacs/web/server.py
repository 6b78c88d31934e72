"""The WSGI server: waitress, with its own refusals in our error shape and a deadline for slow senders."""

from __future__ import annotations

import contextlib
import json
import logging
import resource
import socket
import time
from collections import deque
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from flask import Flask
from waitress import channel, server, task, utilities, wasyncore

from radir_pacs import handed_sockets
from radir_pacs.access.bearers import Bearers
from radir_pacs.config import Settings
from radir_pacs.errors import SettingError, StorageFailed
from radir_pacs.tls_door import TlsDoor, TlsFiles

from .body_guard import Body, BodyGuard
from .crowd import Connection, who_gives_way
from .errors import error_body, http_code

log = logging.getLogger(__name__)

REQUEST_HEADER_BYTES = 64 * 1024
CONNECTIONS = 200  # at once, of each process; beyond that, the one that has waited longest is closed
LARGE_REQUESTS = 4  # requests of the largest size that may arrive at once, at all web processes together
LINGER_S = 20.0  # how long the rest of a refused body is read, so that the client sees the answer
IDLE_S = 60
_TLS_HANDLES = 4096  # three for each connection that the door lets in, and those of files and the database
_SENT_S = 2.0  # for what is still on its way over TLS when the server ends
CLEANUP_S = 2  # between two checks for late clients
HEADER_DEADLINE_S = 30.0  # from the first byte of a request to the end of its header
SLOWEST_BYTES_S = 32 * 1024  # a body sent slower than this, on average, is given up


_BUSY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class _ErrorTask(task.ErrorTask):  # type: ignore[misc]
    """Answers what waitress refuses before our application sees it: malformed or oversized requests."""

    def execute(self) -> None:
        error = self.request.error
        log.info("request refused", extra={"status": error.code})
        message = error.body if isinstance(error, _Refused) else error.reason
        body = json.dumps(error_body(http_code(error.code), message)).encode()
        self.status = f"{error.code} {error.reason}"
        self.response_headers.append(("Content-Type", "application/json"))
        if error.code == HTTPStatus.UNAUTHORIZED:
            self.response_headers.append(("WWW-Authenticate", 'Bearer realm="radir"'))
        self.set_close_on_finish()
        self.channel.lingers = True
        self.content_length = len(body)
        self.write(body)


class _Task(task.WSGITask):  # type: ignore[misc]
    """waitress closes the connection after every answer whose length it does not know beforehand, and after every
    answer without a body. In HTTP/1.1 neither is needed (RFC 9112 6.3, 9.3): chunks say where they end.
    """

    def set_close_on_finish(self) -> None:
        ends_by_itself = self.version == "1.1" and self.request.command != "HEAD"
        asks_to_close = self.request.headers.get("CONNECTION", "").lower() == "close"
        if self.wrote_header or asks_to_close or not ends_by_itself:
            super().set_close_on_finish()

    def write(self, data: bytes) -> None:
        """waitress sends the header by itself, which wakes the client twice for one short answer."""
        if self.wrote_header or not data:
            super().write(data)
            return
        with self.channel.sent_together():
            super().write(data)


class _InsufficientStorage(utilities.Error):  # type: ignore[misc]
    code = 507
    reason = "Insufficient Storage"


class _Refused(utilities.Error):  # type: ignore[misc]
    """A body that the guard refuses while it arrives."""

    def __init__(self, code: int, body: str) -> None:
        super().__init__(body)
        self.code, self.reason = code, HTTPStatus(code).phrase


class _Channel(channel.HTTPChannel):  # type: ignore[misc]
    """A deadline from the first byte: waitress counts from the last, so one byte per minute would hold a connection."""

    task_class = _Task
    error_task_class = _ErrorTask
    request: Any = None  # the one that is arriving, as in waitress
    close_when_flushed: bool = False
    request_since = 0.0
    lingers = False
    _held: list[bytes] | None = None  # what is still to be written together
    drains_until = 0.0  # the answer is sent; what the client still sends is discarded

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self.waiting_since = time.monotonic()
        super().__init__(*arguments, **named)

    def received(self, data: bytes) -> bool:
        before = self.request
        try:
            kept: bool = super().received(data)
        except OSError as error:  # large bodies are spooled to files, and the disk is full
            log.error("a request body cannot be kept", extra={"error": error.strerror})
            self._refuse(_InsufficientStorage("the disk has no room for the request"))
            return True
        if self.request is not None and self.request is not before:
            self.request_since = time.monotonic()
        self._guard_body()
        return kept

    def _guard_body(self) -> None:
        request = self.request
        if request is None or request.error or request.body_rcv is None:
            return
        received = [one.request for one in self.server.active_channels.values() if one.request is not None]
        body = Body(
            authorization=request.headers.get("AUTHORIZATION", ""),
            length=None if request.chunked else request.content_length,
            chunk_header=len(getattr(request.body_rcv, "control_line", b"")),
            trailer=len(getattr(request.body_rcv, "trailer", b"")),
        )
        fault = self.server.guard.fault(body, sum(one.body_bytes_received for one in received))
        if fault is not None:
            self._refuse(_Refused(*fault))

    def _refuse(self, error: utilities.Error) -> None:
        with self.requests_lock:
            self.request.error = error
            self.requests.append(self.request)
            self.request = None
            if len(self.requests) == 1:
                self.server.add_task(self)

    @contextlib.contextmanager
    def sent_together(self) -> Iterator[None]:
        """What is written within is sent at once, at the end."""
        self._held = []
        try:
            yield
        finally:
            held, self._held = self._held, None
            super().write_soon(b"".join(held))

    def write_soon(self, data: Any) -> int:
        if self._held is None:
            return int(super().write_soon(data))
        self._held.append(data)
        return len(data)

    def service(self) -> None:
        super().service()
        self.waiting_since = time.monotonic()

    def as_connection(self) -> Connection:
        return Connection(
            host=str(self.addr[0]),
            since=self.waiting_since,
            is_busy=bool(self.requests) or self.total_outbufs_len > 0,
            has_header=self.request is not None and self.request.headers_finished,
        )

    def is_late(self, now: float) -> bool:
        if self.drains_until:
            return now > self.drains_until
        request = self.request
        if request is None:
            return False
        allowed_s = HEADER_DEADLINE_S + request.body_bytes_received / SLOWEST_BYTES_S
        late: bool = now - self.request_since > allowed_s + (IDLE_S if request.headers_finished else 0)
        return late

    # Closing a connection with unread bytes resets it, and the reset may overtake our answer.

    def handle_write(self) -> None:
        if self.lingers and self.close_when_flushed and not self.total_outbufs_len:
            self.close_when_flushed = False
            self.drains_until = time.monotonic() + LINGER_S
            with contextlib.suppress(OSError):
                self.socket.shutdown(socket.SHUT_WR)
            return
        super().handle_write()

    def readable(self) -> bool:
        return bool(self.drains_until) or bool(super().readable())

    def handle_read(self) -> None:
        if not self.drains_until:
            super().handle_read()
        elif not self.recv(self.adj.recv_bytes):
            self.handle_close()


class _Server(server.TcpWSGIServer):  # type: ignore[misc]
    channel_class = _Channel
    door: TlsDoor | None = None  # through which connections come decrypted
    guard: BodyGuard
    drain_s: float
    stopping = False

    def run(self) -> None:
        """Serve until ``stop()``; running requests then get ``drain_s`` to finish and be sent."""
        self._entered: deque[tuple[socket.socket, tuple[Any, ...]]] = deque()
        if self.door is not None:
            self.door.open(self._enter, _turned_away)
        while not self.stopping:
            self._turn(self.adj.asyncore_loop_timeout)
        wasyncore.dispatcher.close(self)  # no new connections
        self.task_dispatcher.set_thread_count(0)
        deadline = time.monotonic() + self.drain_s
        while self._is_busy() and time.monotonic() < deadline:
            self._turn(0.02)
        wasyncore.close_all(self._map, ignore_all=True)
        if self.door is not None:
            self.door.close(_SENT_S)

    def stop(self) -> None:
        """End ``run()``. May be called from another thread or a signal handler, and more than once."""
        if self.stopping:
            return
        self.stopping = True
        with contextlib.suppress(OSError):  # it has noticed already, and closed what would wake it
            self.pull_trigger()

    def _turn(self, timeout_s: float) -> None:
        wasyncore.loop(timeout=timeout_s, map=self._map, use_poll=self.adj.asyncore_use_poll, count=1)
        while self._entered:
            connection, address = self._entered.popleft()
            if self._makes_room(connection):
                self.channel_class(self, connection, address, self.adj, map=self._map)

    def _is_busy(self) -> bool:
        waiting = any(open_channel.total_outbufs_len for open_channel in self.active_channels.values())
        return waiting or bool(self.task_dispatcher.threads)

    def handle_accept(self) -> None:
        """Admit the newcomer; over TLS when it has shaken hands."""
        with contextlib.suppress(OSError, TypeError):  # it disconnected in the meantime
            connection, address = self.accept()
            self.set_socket_options(connection)
            if self.door is not None:
                self.door.take(connection)
            elif self._makes_room(connection):
                self.channel_class(self, connection, self.fix_addr(address), self.adj, map=self._map)

    def _enter(self, connection: socket.socket, address: tuple[Any, ...], _: object) -> None:
        """From the thread of the door."""
        self._entered.append((connection, address))
        with contextlib.suppress(OSError):
            self.pull_trigger()

    def _makes_room(self, connection: socket.socket) -> bool:
        """Close the connection that has waited longest, if there are too many: idle ones keep nobody out."""
        staying = [(one, one.as_connection()) for one in self.active_channels.values() if not one.will_close]
        if len(staying) >= CONNECTIONS:
            gives_way = who_gives_way(staying)
            if gives_way is None:
                with contextlib.suppress(OSError), connection:
                    connection.send(_BUSY)
                return False
            gives_way.will_close = True  # closed in the next turn: its descriptor may still have an event in this one
        return True

    def maintenance(self, now: float) -> None:
        super().maintenance(now)
        for open_channel in list(self.active_channels.values()):
            if open_channel.is_late(time.monotonic()):
                open_channel.will_close = True


def _raise_handles() -> None:
    """Let the process hold the handles of all connections over TLS, as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _TLS_HANDLES if hard == resource.RLIM_INFINITY else min(_TLS_HANDLES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def make_server(app: Flask, settings: Settings) -> _Server:
    """A bound server; ``run()`` serves until ``stop()``. Raises SettingError when the port is taken.

    Of several web processes each binds the port with SO_REUSEPORT, and the kernel shares the connections out. A socket
    that systemd handed over they share as it is.
    """
    adjustments = server.Adjustments(
        listen=_listen(settings),
        threads=settings.web_threads,
        connection_limit=CONNECTIONS + 100,  # ours is lower, and lets newcomers in
        asyncore_use_poll=True,  # select() ends at file descriptor 1023
        channel_timeout=IDLE_S,
        cleanup_interval=CLEANUP_S,
        max_request_header_size=REQUEST_HEADER_BYTES,
        # Our own check answers first and names the setting; this one bounds chunked bodies as they arrive.
        max_request_body_size=settings.max_request_mib * 1024 * 1024 + 1,
        ident=None,
        url_scheme="https" if settings.web_tls_certificate else "http",
        clear_untrusted_proxy_headers=not settings.trusted_proxies,  # otherwise proxies.py decides which to trust
    )
    door = None
    if settings.web_tls_certificate:
        files = TlsFiles(
            setting="web_tls_certificate",
            certificate=settings.web_tls_certificate,
            key=settings.web_tls_key,
            protocol="http/1.1",
        )
        door = TlsDoor(files)
        _raise_handles()
    dispatcher = task.ThreadedTaskDispatcher()
    dispatcher.set_thread_count(adjustments.threads)
    try:
        shared = handed_sockets.at(settings.web_host, settings.web_port)
        if shared is None and settings.web_process_count > 1:
            shared = _shared_socket(adjustments.listen[0])
        made = _Server(
            app,
            {},
            True,
            shared,
            dispatcher=dispatcher,
            adj=adjustments,
            sockinfo=adjustments.listen[0],
            bind_socket=shared is None,
        )
    except OSError as error:
        raise SettingError(f"web_port: {_listen(settings)} cannot be used: {error.strerror}") from None
    bearers: Bearers = app.extensions["radir"].bearers
    with contextlib.suppress(StorageFailed):
        log.info("tokens", extra={"needed": bearers.are_needed})  # read now, so that the first large body meets them
    made.drain_s = settings.drain_s
    made.door = door
    made.guard = BodyGuard(
        bearers=bearers,
        most_bytes=max(1, LARGE_REQUESTS // settings.web_process_count) * settings.max_request_mib << 20,
    )
    return made


def _turned_away(host: str, why: str, advice: str) -> None:
    log.info("no TLS connection", extra={"address": host, "why": why, "advice": advice})


def _shared_socket(address: tuple[Any, ...]) -> socket.socket:
    """A socket bound to what waitress found for a listen address, which other processes may bind too."""
    family, kind, protocol, where = address
    made = socket.socket(family, kind, protocol)
    try:
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind(where)
    except OSError:
        made.close()
        raise
    return made


def _listen(settings: Settings) -> str:
    host = f"[{settings.web_host}]" if ":" in settings.web_host else settings.web_host
    return f"{host}:{settings.web_port}"
