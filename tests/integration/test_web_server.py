"""The web process: starts from its environment, stops cleanly on SIGTERM, is not held by slow peers."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import requests
from flask import Response
from waitress import channel

from radir_pacs.config import Settings, to_environment
from radir_pacs.errors import SettingError
from radir_pacs.web import server as server_module
from radir_pacs.web.server import make_server
from tests.dicom_files import radiograph
from tests.integration.conftest import Web
from tests.integration.test_web_wado import path_of


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened in time"
        time.sleep(0.02)


@pytest.fixture
def process(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RADIR_")}
    with subprocess.Popen(
        [sys.executable, "-m", "radir_pacs.web"], env=environment | to_environment(settings), stderr=subprocess.PIPE
    ) as started:
        yield started
        started.kill()


def test_the_process_serves_and_ends_on_sigterm(settings: Settings, process: subprocess.Popen[bytes]) -> None:
    def ready() -> bool:
        assert process.poll() is None, process.stderr and process.stderr.read()
        try:
            return requests.get(f"{settings.public_url}/health/ready", timeout=5).status_code == 200
        except requests.ConnectionError:
            return False

    wait_for(ready)
    with requests.Session() as session:  # an open connection does not hold it
        session.get(f"{settings.public_url}/health/live", timeout=5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0


def test_a_request_in_flight_is_answered_before_the_end(web: Web) -> None:
    ds = radiograph()
    web.store(ds)
    entered, release = threading.Event(), threading.Event()
    real = web.catalogue.instances.get

    def slow(sop_uid: str) -> object:
        entered.set()
        release.wait(10)
        return real(sop_uid)

    web.catalogue.instances.get = slow  # type: ignore[assignment, method-assign]
    answers: list[int] = []
    thread = threading.Thread(target=lambda: answers.append(web.get(path_of(ds)).status_code))
    thread.start()
    assert entered.wait(10)
    web.stop()
    release.set()
    thread.join(20)
    assert answers == [200]


def test_a_taken_port_is_a_setting_error(web: Web) -> None:
    with pytest.raises(SettingError, match="web_port"):
        make_server(web.app, web.settings)


def test_a_connection_outlives_answers_of_unknown_length_and_without_a_body(web: Web) -> None:
    web.app.add_url_rule("/streamed", view_func=lambda: Response(iter([b"one", b"two"])))
    connection = http.client.HTTPConnection("127.0.0.1", web.settings.web_port, timeout=30)
    connection.connect()
    first = connection.sock
    asked = (
        ("/streamed", 200, b"onetwo"),
        ("/dicom-web/studies", 204, b""),
        ("/health/live", 200, b'{"status":"live"}\n'),
    )
    for path, status, body in (*asked, *asked):
        connection.request("GET", path)
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (status, body)
        assert connection.sock is first, "the next question would need a connection of its own"
    for method, headers in (("GET", {"Connection": "close"}), ("HEAD", {})):  # a client would await the end of chunks
        connection.request(method, "/streamed", headers=headers)
        answer = connection.getresponse()
        answer.read()
        assert answer.getheader("Connection") == "close" and connection.sock is None


def test_a_short_answer_is_sent_at_once(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """The header by itself would wake the client once more."""
    sent: list[bytes] = []
    real = channel.HTTPChannel.send

    def send(self: object, data: bytes, *arguments: object, **named: object) -> int:
        sent.append(bytes(data))
        return int(real(self, data, *arguments, **named))

    monkeypatch.setattr(channel.HTTPChannel, "send", send)
    answer = requests.get(f"{web.settings.public_url}/health/live", timeout=10)
    assert answer.content
    (whole,) = sent
    assert whole.startswith(b"HTTP/1.1 200 OK") and whole.endswith(answer.content)


def test_an_answer_without_content_names_no_type_of_it(web: Web) -> None:
    """204 (RFC 9110 8.3): of QIDO-RS, and of any route that anybody will add."""
    web.app.add_url_rule("/empty", view_func=lambda: Response(status=204))
    asked = (("GET", "/dicom-web/studies"), ("GET", "/empty"), ("HEAD", "/empty"))
    for method, path in asked:
        answer = requests.request(method, web.root + path, timeout=30)
        assert (answer.status_code, answer.content) == (204, b"")
        assert "Content-Type" not in answer.headers, path
    assert requests.get(web.root + "/health/live", timeout=30).headers["Content-Type"] == "application/json"


def test_an_answer_that_breaks_off_is_not_taken_for_a_whole_one(web: Web) -> None:
    def breaks() -> Iterator[bytes]:
        yield b"the beginning"
        raise RuntimeError

    web.app.add_url_rule("/breaks", view_func=lambda: Response(breaks()))
    connection = http.client.HTTPConnection("127.0.0.1", web.settings.web_port, timeout=30)
    connection.request("GET", "/breaks")
    with pytest.raises(http.client.IncompleteRead):
        connection.getresponse().read()


def test_a_peer_that_sends_a_byte_at_a_time_is_cut_off(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "HEADER_DEADLINE_S", 0.2)
    with socket.create_connection(("127.0.0.1", web.settings.web_port), 30) as peer:
        peer.sendall(b"GET /health/live HTTP/1.1\r\n")

        def cut_off() -> bool:
            try:
                peer.sendall(b"x")
                peer.settimeout(0.05)
                return peer.recv(1) == b""
            except TimeoutError:
                return False
            except OSError:
                return True

        wait_for(cut_off, 20)
    assert requests.get(f"{web.root}/health/live", timeout=10).status_code == 200
