"""The WSGI server: waitress, with its own refusals in our error shape and a deadline for slow senders."""

from __future__ import annotations

import json
import time

from flask import Flask
from waitress import channel, server, task

from radir_pacs.config import Settings
from radir_pacs.errors import SettingError

from .errors import error_body, http_code

REQUEST_HEADER_BYTES = 64 * 1024
CONNECTIONS = 200
IDLE_S = 60
STOP_S = 5
HEADER_DEADLINE_S = 30.0  # from the first byte of a request to the end of its header
SLOWEST_BYTES_S = 32 * 1024  # a body sent slower than this, on average, is given up


class _ErrorTask(task.ErrorTask):  # type: ignore[misc]
    """What waitress refuses before our application sees it: malformed or oversized requests."""

    def execute(self) -> None:
        error = self.request.error
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
        return now - self.request_since > allowed_s + (IDLE_S if request.headers_finished else 0)


class _Server(server.TcpWSGIServer):  # type: ignore[misc]
    channel_class = _Channel

    def stop(self) -> None:
        """End: no new requests, those that run get ``STOP_S`` to finish and to be sent. Called from another thread."""
        self.task_dispatcher.shutdown(timeout=STOP_S)
        deadline = time.monotonic() + STOP_S
        while time.monotonic() < deadline and any(c.total_outbufs_len for c in list(self.active_channels.values())):
            time.sleep(0.02)
        self.close()

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
        cleanup_interval=5,
        max_request_header_size=REQUEST_HEADER_BYTES,
        # Our own check answers first, with the setting's name; this one bounds chunked bodies as they come in.
        max_request_body_size=settings.max_request_mib * 1024 * 1024 + 1,
        ident=None,
        clear_untrusted_proxy_headers=True,
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
