"""The WSGI server: waitress, with its own refusals in our error shape and a deadline for slow senders."""

from __future__ import annotations

import contextlib
import json
import logging
import time

from flask import Flask
from waitress import channel, server, task, wasyncore

from radir_pacs.config import Settings
from radir_pacs.errors import SettingError

from .errors import error_body, http_code

log = logging.getLogger(__name__)

REQUEST_HEADER_BYTES = 64 * 1024
CONNECTIONS = 200
IDLE_S = 60
CLEANUP_S = 2  # between two looks for peers that are late
STOP_S = 5
HEADER_DEADLINE_S = 30.0  # from the first byte of a request to the end of its header
SLOWEST_BYTES_S = 32 * 1024  # a body sent slower than this, on average, is given up


class _ErrorTask(task.ErrorTask):  # type: ignore[misc]
    """What waitress refuses before our application sees it: malformed or oversized requests."""

    def execute(self) -> None:
        error = self.request.error
        log.info("request refused", extra={"status": error.code})
        body = json.dumps(error_body(http_code(error.code), error.reason)).encode()
        self.status = f"{error.code} {error.reason}"
        self.response_headers.append(("Content-Type", "application/json"))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class _Channel(channel.HTTPChannel):  # type: ignore[misc]
    """waitress counts from the last byte, so a byte a minute holds a connection for ever; we count from the first."""

    error_task_class = _ErrorTask
    request_since = 0.0

    def received(self, data: bytes) -> bool:
        before = self.request
        kept: bool = super().received(data)
        if self.request is not None and self.request is not before:
            self.request_since = time.monotonic()
        return kept

    def is_late(self, now: float) -> bool:
        request = self.request
        if request is None:
            return False
        allowed_s = HEADER_DEADLINE_S + request.body_bytes_received / SLOWEST_BYTES_S
        late: bool = now - self.request_since > allowed_s + (IDLE_S if request.headers_finished else 0)
        return late


class _Server(server.TcpWSGIServer):  # type: ignore[misc]
    channel_class = _Channel

    stopping = False

    def run(self) -> None:
        """Serve until ``stop()``; then requests that run get ``STOP_S`` to end and to be sent."""
        while not self.stopping:
            self._turn(self.adj.asyncore_loop_timeout)
        wasyncore.dispatcher.close(self)  # no new connections
        self.task_dispatcher.set_thread_count(0)
        deadline = time.monotonic() + STOP_S
        while self._is_busy() and time.monotonic() < deadline:
            self._turn(0.02)
        wasyncore.close_all(self._map, ignore_all=True)

    def stop(self) -> None:
        """End ``run()``; called from another thread or a signal handler, again without effect."""
        if self.stopping:
            return
        self.stopping = True
        with contextlib.suppress(OSError):  # it has noticed by itself, and closed what would wake it
            self.pull_trigger()

    def _turn(self, timeout_s: float) -> None:
        wasyncore.loop(timeout=timeout_s, map=self._map, use_poll=self.adj.asyncore_use_poll, count=1)

    def _is_busy(self) -> bool:
        waiting = any(open_channel.total_outbufs_len for open_channel in self.active_channels.values())
        return waiting or bool(self.task_dispatcher.threads)

    def maintenance(self, now: float) -> None:
        super().maintenance(now)
        for open_channel in list(self.active_channels.values()):
            if open_channel.is_late(time.monotonic()):
                open_channel.will_close = True


def make_server(app: Flask, settings: Settings) -> _Server:
    """A bound server; ``run()`` serves until ``stop()``. Raises SettingError when the port is taken."""
    adjustments = server.Adjustments(
        listen=_listen(settings),
        threads=settings.web_threads,
        connection_limit=CONNECTIONS,
        channel_timeout=IDLE_S,
        cleanup_interval=CLEANUP_S,
        max_request_header_size=REQUEST_HEADER_BYTES,
        # Our own check answers first, with the setting's name; this one bounds chunked bodies as they come in.
        max_request_body_size=settings.max_request_mib * 1024 * 1024 + 1,
        ident=None,
        clear_untrusted_proxy_headers=not settings.trusted_proxies,  # else proxies.py tells whom to believe
    )
    dispatcher = task.ThreadedTaskDispatcher()
    dispatcher.set_thread_count(adjustments.threads)
    try:
        return _Server(app, {}, True, None, dispatcher=dispatcher, adj=adjustments, sockinfo=adjustments.listen[0])
    except OSError as error:
        raise SettingError(f"web_port: {_listen(settings)} cannot be used: {error.strerror}") from None


def _listen(settings: Settings) -> str:
    host = f"[{settings.web_host}]" if ":" in settings.web_host else settings.web_host
    return f"{host}:{settings.web_port}"
