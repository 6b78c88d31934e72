"""A scripted FHIR server, which may be its own authorization server: one answer a request, in order."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, dict[str, str], Any]  # status, headers, body; status 0: it hangs up


@dataclass(frozen=True, kw_only=True)
class Request:
    path: str
    headers: dict[str, str]
    body: str


class Server:
    """Answers with ``script``; HERE in it is the server's base address. The requests are kept."""

    def __init__(self, script: list[Answer]) -> None:
        self.script, self.asked = script, list[Request]()
        self.url = ""


@contextmanager
def scripted(*script: Answer) -> Iterator[Server]:
    server = Server(list(script))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            server.asked.append(Request(path=self.path, headers=dict(self.headers), body=asked))
            status, headers, body = server.script.pop(0)
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            if status == 0:
                self.close_connection = True
                return
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value.replace("HERE", server.url))
            self.send_header("Content-Length", str(len(data.replace(b"HERE", server.url.encode()))))
            self.end_headers()
            self.wfile.write(data.replace(b"HERE", server.url.encode()))

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{httpd.server_port}/r4"
    threading.Thread(target=lambda: httpd.serve_forever(0.01), daemon=True).start()
    try:
        yield server
    finally:
        httpd.shutdown()
        httpd.server_close()


def page(*resources: Any, following: str = "") -> Any:
    """A page of a search."""
    bundle: dict[str, Any] = {"resourceType": "Bundle", "entry": [{"resource": one} for one in resources]}
    if following:
        bundle["link"] = [{"relation": "next", "url": following}]
    return bundle
