"""The port on which a supervisor says whether its processes live, whether they can work, and what they count.

GET /health/live, /health/ready and /metrics. The first two need no token and name no more than roles. Beyond loopback,
/metrics needs the token of an administrator, or of a service whose scope leaves nothing out.
"""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from radir_pacs.access.bearers import Bearers
from radir_pacs.catalogue import SILENT_S, Catalogue
from radir_pacs.cli.roles import Role
from radir_pacs.cli.supervisor import CRASH_LOOP, Supervisor
from radir_pacs.config import LOOPBACK, Settings
from radir_pacs.errors import RadirError, SettingError
from radir_pacs.monitoring import CONTENT_TYPE, ArchiveFigures, Exposition

log = logging.getLogger(__name__)

_REQUESTS = 8  # at once; one more is turned away
_REQUEST_S = 5.0
_STUCK_S = 30.0  # a supervisor that has not looked after its processes for so long does not live


class Monitor:
    """What is asked for over the port. ``waits_for``, ``lives`` and ``metrics`` may be called by several threads."""

    def __init__(self, settings: Settings, supervisor: Supervisor, catalogue: Catalogue) -> None:
        self._settings, self._supervisor, self._catalogue = settings, supervisor, catalogue
        self._bearers = Bearers(catalogue.access_tokens, settings)
        self._archive = [ArchiveFigures(catalogue)] if Role.RELAY in supervisor.roles else []

    def lives(self) -> bool:
        """Whether the supervisor looks after its processes, or ends them."""
        return self._supervisor.stopping.is_set() or time.monotonic() - self._supervisor.turned_s < _STUCK_S

    def waits_for(self) -> list[str]:
        """The processes, or "database", without which this machine cannot do its work; "end": it is being stopped."""
        if self._supervisor.stopping.is_set():
            return ["end"]
        try:
            seen = {row.name: row.pid for row in self._catalogue.processes.all() if row.silent_s < SILENT_S}
        except RadirError:
            return ["database"]
        looping = {child.name for child in self._supervisor.children if child.quick_ends >= CRASH_LOOP}
        return [name for name, pid in self._supervisor.pids().items() if name in looping or seen.get(name) != pid]

    def may_read(self, authorization: str, host: str) -> bool:
        """Whether whoever sends this request may read the figures. Raises StorageFailed."""
        if self._settings.monitor_host in LOOPBACK:
            return host.rpartition(":")[0].strip("[]") in LOOPBACK  # no page of another site, by a name of its own
        caller = self._bearers.of(authorization)
        return caller is not None and caller.reads_figures

    def metrics(self) -> bytes:
        return Exposition(self._settings, self._supervisor.figures, *self._archive).text()


class _Handler(BaseHTTPRequestHandler):
    timeout = _REQUEST_S
    server_version, sys_version = "radir", ""
    server: _Server

    def do_GET(self) -> None:
        monitor = self.server.monitor
        match self.path.partition("?")[0]:
            case "/health/live":
                self._json(200 if monitor.lives() else 503, {"status": "live" if monitor.lives() else "stuck"})
            case "/health/ready":
                waits_for = monitor.waits_for()
                self._json(
                    503 if waits_for else 200, {"status": "not ready" if waits_for else "ready", "waits_for": waits_for}
                )
            case "/metrics":
                self._metrics(monitor)
            case _:
                self._json(404, {"error": "not_found"})

    def _metrics(self, monitor: Monitor) -> None:
        try:
            allowed = monitor.may_read(self.headers.get("Authorization", ""), self.headers.get("Host", ""))
        except RadirError as error:
            self._json(503, {"error": error.code})
            return
        if allowed:
            self._send(200, CONTENT_TYPE, monitor.metrics())
        else:
            self._json(401, {"error": "unauthorized"}, {"WWW-Authenticate": 'Bearer realm="radir"'})

    def _json(self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        self._send(status, "application/json", json.dumps(body).encode(), headers)

    def _send(self, status: int, content_type: str, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Type": content_type, "Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Probes come every few seconds; nothing of them is logged."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    monitor: Monitor

    def __init__(self, settings: Settings, monitor: Monitor) -> None:
        self.monitor = monitor
        self._free = threading.Semaphore(_REQUESTS)
        if ":" in settings.monitor_host:
            self.address_family = socket.AF_INET6
        super().__init__((settings.monitor_host, settings.monitor_port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("a probe hung up")


@contextlib.contextmanager
def monitoring(settings: Settings, supervisor: Supervisor, catalogue: Catalogue) -> Iterator[None]:
    """Answer on ``monitor_port`` until the end of the body. Raises SettingError when it cannot be used."""
    try:
        server = _Server(settings, Monitor(settings, supervisor, catalogue))
    except OSError as error:
        raise SettingError(
            f"monitor_port: {settings.monitor_host}:{settings.monitor_port} cannot be used: {error.strerror}"
        ) from None
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.2}, name="monitor", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
