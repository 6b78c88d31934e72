"""Traces whose collector is slow, and callers that want more traced than the settings say."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from radir_pacs import traces
from radir_pacs.config import Settings

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"  # W3C Trace Context 3.2: sampled


@contextmanager
def collector(let_go: threading.Event) -> Iterator[tuple[str, list[bytes]]]:
    taken: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            taken.append(self.rfile.read(int(self.headers["Content-Length"])))
            let_go.wait(30)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1/traces", taken
        let_go.set()
        server.shutdown()


def test_the_end_does_not_wait_for_a_collector_that_does_not_answer() -> None:
    let_go = threading.Event()
    with collector(let_go) as (url, _):
        traces.begin(Settings(traces_url=url), "test")
        traces.start("store", "1.2.3").end()
        began = time.monotonic()
        traces.end()
        assert time.monotonic() - began < 4.5, "the exporter itself gives up after five seconds"


def test_a_caller_does_not_decide_what_share_is_traced() -> None:
    let_go = threading.Event()
    let_go.set()
    with collector(let_go) as (url, taken):
        for share, count in ((0.0, 0), (1.0, 1)):
            traces.begin(Settings(traces_url=url, traces_share=share), "test")
            traces.start("request", traceparent=TRACEPARENT).end()
            traces.end()
            assert len(taken) == count, share
