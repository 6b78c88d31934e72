"""Receivers of the audit trail in the tests' own process, syslog over TLS and FHIR, and what they are sent."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from lxml import etree

from radir_pacs.audit_feed.terms import Source
from radir_pacs.callers import AuditEvent, Caller, Role
from radir_pacs.catalogue import Catalogue
from tests.certificates import Authority

READER = Caller(name="reader", role=Role.RADIOLOGIST, address="192.0.2.7")
SOURCE = Source(name="RADIR", host="here")
Answer = Callable[[ssl.SSLSocket], None]


class SyslogServer:
    """Takes frames over TLS; ``misbehave``: what the next connections do instead, one each."""

    def __init__(self, house: Authority, name: str = "localhost", client_ca: Path | None = None, port: int = 0) -> None:
        identity = house.issue(name, here=name == "localhost")
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(identity.certificate, identity.key)
        if client_ca is not None:
            self._context.verify_mode = ssl.CERT_REQUIRED
            self._context.load_verify_locations(client_ca)
        self.got: list[bytes] = []
        self.misbehave: list[Answer] = []
        self.connections = 0
        self._listener = socket.create_server(("localhost", port))
        self.address = f"localhost:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            with contextlib.suppress(OSError, ssl.SSLError), self._context.wrap_socket(plain, server_side=True) as line:
                if self.misbehave:
                    self.misbehave.pop(0)(line)
                else:
                    self._take(line)

    def _take(self, line: ssl.SSLSocket) -> None:
        with line.makefile("rb") as stream:
            while (length := b"".join(iter(lambda: stream.read(1).strip(), b""))) != b"":
                self.got.append(stream.read(int(length)))

    def close(self) -> None:
        self._listener.close()

    @property
    def events(self) -> list[int]:
        """Numbers of the events, in the order in which they came."""
        return [number_in(message) for message in self.got]


def number_in(message: bytes) -> int:
    root = etree.fromstring(message.split(b"\xef\xbb\xbf", 1)[1])
    values = [one.get("value") for one in root.iter("ParticipantObjectDetail") if one.get("type") == "event"]
    if not values:  # a Security Alert tells it within its description
        values = [one.get("value") for one in root.iter("ParticipantObjectDetail")]
        return int(json.loads(base64.b64decode(values[0]))["event"])
    return int(base64.b64decode(values[0]))


def cut_after(octets: int) -> Answer:
    """Reads some octets, then resets the connection."""

    def act(line: ssl.SSLSocket) -> None:
        left = octets
        while left > 0 and (chunk := line.recv(min(left, 4096))):
            left -= len(chunk)
        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return act


def closed_early(line: ssl.SSLSocket) -> None:
    """Reads a little, and ends in order with the rest unread."""
    line.recv(10)


class FhirServer:
    """Keeps resources; ``statuses``: what it answers to the next requests, 201 afterwards."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.statuses: list[int] = []
        self.authorizations: set[str | None] = set()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.authorizations.add(self.headers.get("Authorization"))
                status = server.statuses.pop(0) if server.statuses else 201
                if status == 201 and self.path == "/r4/AuditEvent":
                    server.got.append(body)
                self.send_response(status)
                self.send_header("Location", "http://198.51.100.1/")
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: object) -> None:
                pass

        self._httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._httpd.server_port}/r4"
        threading.Thread(target=lambda: self._httpd.serve_forever(0.01), daemon=True).start()

    def close(self) -> None:
        self._httpd.shutdown()

    @property
    def events(self) -> list[int]:
        details = [one["entity"][0]["detail"] for one in self.got]
        return [int(next(d["valueString"] for d in detail if d["type"] == "event")) for detail in details]


def noted(catalogue: Catalogue, count: int) -> list[int]:
    """Events of which a seal holds each; the numbers of all there are, in the order of the trail."""
    for number in range(count):
        catalogue.audit.note(AuditEvent.OPENED, READER, f"2.25.{number}")
    while catalogue.audit.seal():
        pass
    return sorted(row.id for row in catalogue.audit.events(most=100_000))


def waiting(catalogue: Catalogue, name: str = "syslog") -> int:
    return next(one.waiting for one in catalogue.audit_receivers.all() if one.name == name)


def failure(catalogue: Catalogue) -> str | None:
    (one,) = catalogue.audit_receivers.all()
    return one.failed
