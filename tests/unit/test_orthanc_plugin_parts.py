"""The plugin's parts that need no Orthanc: its queue, its breaker, and its way of asking a service that misbehaves."""

from __future__ import annotations

import ast
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.services import ROOT

sys.path.append(str(ROOT / "orthanc_plugin"))  # as Orthanc's Python plugin does

from radir_proxy import PREFIX, ROUTES
from radir_queue import MOST_ATTEMPTS, Entry, Queue
from radir_service import MOST_BYTES, Breaker, Service, Unavailable


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "queue.sqlite"


def test_what_waits_survives_a_restart(path: Path) -> None:
    queue = Queue(path)
    assert queue.last_change() is None
    queue.take(7, ["a", "b"], ["a"], now=100.0)
    queue.failed(Entry("a", 0), "nobody there", now=100.0)
    queue.close()
    queue = Queue(path)
    assert queue.last_change() == 7
    assert queue.next_due(101.0) is None
    assert queue.next_due(102.0) == Entry("a", 1)
    assert queue.summary(110.0) == {
        "waiting": 1,
        "oldest_s": 10.0,
        "given_up": 0,
        "handed_over": 0,
        "last_error": "nobody there",
        "last_change": 7,
    }


def test_a_study_that_was_not_stable_at_the_end_is_taken_at_the_next_start(path: Path) -> None:
    queue = Queue(path)
    queue.take(1, ["a", "b"], [], now=1.0)
    queue.take(2, [], ["b"], now=2.0)
    queue.done("b", "content of b")
    queue.restart(now=3.0)
    assert queue.next_due(3.0) == Entry("a", 0)
    queue.done("a")
    queue.restart(now=4.0)
    assert queue.next_due(5.0) is None
    assert queue.was_handed_over("b", "content of b") and not queue.was_handed_over("b", "more")


def test_pauses_double_up_to_an_hour_and_end(path: Path) -> None:
    queue, now, pauses = Queue(path), 0.0, []
    queue.take(1, [], ["a"], now)
    while (entry := queue.next_due(now)) is not None:
        queue.failed(entry, "no", now)
        before = now
        while queue.next_due(now) is None and now - before <= 3600:
            now += 1 if now - before < 70 else 30
        pauses.append(now - before)
    assert pauses[:5] == [2, 4, 8, 16, 32]
    assert max(pauses[:-1]) <= 3630
    assert len(pauses) == MOST_ATTEMPTS
    assert queue.summary(now)["given_up"] == 1
    queue.restart(now)
    assert queue.next_due(now) == Entry("a", 0), "a restart of Orthanc gives it another chance"
    queue.failed(Entry("a", MOST_ATTEMPTS), "nobody there", now, may_give_up=False)
    assert queue.summary(now)["given_up"] == 0, "who is not there may come back after a month"
    queue.failed(Entry("a", MOST_ATTEMPTS), "no", now)
    assert queue.summary(now)["given_up"] == 1
    queue.take(2, [], ["a"], now)
    assert queue.next_due(now) == Entry("a", 0), "and so does a new instance"


def test_the_breaker_lets_one_attempt_through_after_its_rest() -> None:
    now = [0.0]
    breaker = Breaker(threshold=2, rest_s=10, clock=lambda: now[0])
    for _ in range(2):
        assert breaker.admits()
        breaker.note(False)
    assert breaker.is_open and not breaker.admits()
    now[0] = 10
    assert breaker.admits() and not breaker.admits()
    breaker.note(True)
    assert not breaker.is_open and breaker.admits()


@contextmanager
def service(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A service that reads a request and does what ``answer`` does with the connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    try:
                        connection.recv(65536)
                        answer(connection)
                    except OSError:
                        continue

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


def http(body: bytes, kind: str = "application/json") -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s" % (kind.encode(), len(body), body)


def drip(connection: socket.socket) -> None:
    """One byte a moment, each of them in time."""
    for byte in http(b"[" + b"1," * 5000 + b"1]"):
        connection.send(bytes([byte]))
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (lambda connection: connection.recv(1), 504),
        (drip, 504),
        (lambda connection: connection.sendall(b"garbage\r\n\r\n"), 502),
        (lambda connection: connection.sendall(http(b"{garbage")), 502),
        (lambda connection: connection.sendall(http(b"<html>", "text/html")), 502),
        (lambda connection: connection.sendall(http(b"[" + b" " * MOST_BYTES + b"]")), 502),
        (lambda connection: connection.sendall(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"), 502),
        (lambda connection: connection.close(), 502),
    ],
    ids=["silent", "a byte a moment", "garbage", "no JSON", "a page", "too large", "failing", "hangs up"],
)
def test_whatever_the_service_does_there_is_an_end_within_the_budget(
    answer: Callable[[socket.socket], None], status: int
) -> None:
    with service(answer) as url:
        began = time.monotonic()
        with pytest.raises(Unavailable) as caught:
            Service(url, budget_s=0.5).ask("GET", "/similar")
        assert caught.value.status == status
        assert time.monotonic() - began < 3


def test_a_good_answer_is_given_as_it_is() -> None:
    with service(lambda connection: connection.sendall(http(b'[{"a": 1}]'))) as url:
        answer = Service(url).ask("GET", "/similar")
        assert (answer.status, answer.content_type, answer.body) == (200, "application/json", b'[{"a": 1}]')


def test_after_failures_nobody_is_asked_for_a_while() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        asked = Service(f"http://127.0.0.1:{unused.getsockname()[1]}", breaker=Breaker(threshold=2, rest_s=60))
        reasons = []
        for _ in range(3):
            with pytest.raises(Unavailable) as caught:
                asked.ask("GET", "/similar")
            reasons.append(caught.value.status)
    assert reasons == [502, 502, 503]


def test_the_plugin_needs_nothing_but_the_standard_library_and_orthanc() -> None:
    files = sorted((ROOT / "orthanc_plugin").glob("*.py"))
    own = {file.stem for file in files}
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.Import(names=names):
                    imported = {alias.name.partition(".")[0] for alias in names}
                case ast.ImportFrom(module=str(module)):
                    imported = {module.partition(".")[0]}
                case _:
                    continue
            assert imported <= set(sys.stdlib_module_names) | own | {"orthanc"}, file.name
        assert "AGPL" in file.read_text() or "Affero" in file.read_text()


def test_a_url_that_is_none_is_refused() -> None:
    for url in ("", "ftp://host", "127.0.0.1:8042", "http://"):
        with pytest.raises(ValueError, match="Url"):
            Service(url)


def test_whatever_the_panel_asks_for_is_there_below_orthanc() -> None:
    """Its paths are read from its own source; saving a report is the plugin's own."""
    source = (ROOT / "viewer" / "component" / "api.js").read_text("utf-8")
    asked = {re.sub(r"\$\{[^}]*\}", "12", path.split("?")[0]) for path in re.findall(r"`(/api/[^`]*)`", source)}
    assert len(asked) > 6, "the source reads otherwise than this test does"
    image = "/dicom-web/studies/1.2/series/1.3/instances/1.4"
    asked |= {f"{image}/rendered", f"{image}/thumbnail", f"{image}/frames/12/rendered"}
    missing = [path for path in asked if not any(re.fullmatch(route.pattern, PREFIX + path) for route in ROUTES)]
    assert missing == ["/api/studies/12/report"]
