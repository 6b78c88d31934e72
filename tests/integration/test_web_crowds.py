"""Idle and slow HTTP connections keep nobody out; a body that cannot be stored gets an answer."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
import requests

from radir_pacs.web.crowd import Connection, who_gives_way
from tests.dicom_files import radiograph
from tests.integration.conftest import Web, part10
from tests.integration.test_listener_crowds import disk_full


def opened(stack: ExitStack, web: Web, count: int, first: bytes) -> list[socket.socket]:
    found = []
    for _ in range(count):
        sock = stack.enter_context(socket.create_connection(("127.0.0.1", web.settings.web_port), 10))
        sock.sendall(first)
        found.append(sock)
    return found


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"GET /health/live HTTP/1.1\r\nHost: x\r\n",
        b"POST /dicom-web/studies HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\nx",
    ],
    ids=["silent", "half a header", "half a body"],
)
def test_a_good_client_is_answered_beside_260_that_wait(web: Web, first: bytes) -> None:
    with ExitStack() as stack:
        opened(stack, web, 260, first)
        for _ in range(20):
            began = time.monotonic()
            assert requests.get(web.root + "/health/live", timeout=10).status_code == 200
            assert time.monotonic() - began < 2


def test_connections_that_come_again_keep_nobody_out(web: Web) -> None:
    with ExitStack() as stack:
        for _ in range(5):
            opened(stack, web, 100, b"")
            began = time.monotonic()
            assert requests.get(web.root + "/health/live", timeout=10).status_code == 200
            assert time.monotonic() - began < 2


def test_a_client_of_another_address_keeps_its_idle_connection(web: Web) -> None:
    with requests.Session() as session, ExitStack() as stack:
        kept = stack.enter_context(socket.create_connection(("127.0.0.1", web.settings.web_port), 10, ("127.0.0.2", 0)))
        opened(stack, web, 260, b"")
        assert session.get(web.root + "/health/live", timeout=10).status_code == 200
        kept.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        kept.settimeout(5)
        assert kept.recv(100).startswith(b"HTTP/1.1 200")


def one(host: str, since: float, *, is_busy: bool = False, has_header: bool = False) -> Connection:
    return Connection(host=host, since=since, is_busy=is_busy, has_header=has_header)


def test_who_gives_way() -> None:
    crowd = {
        "old guest": one("a", 1.0),
        "crowd, older": one("b", 2.0),
        "crowd, newer": one("b", 3.0),
        "crowd, busy": one("b", 0.0, is_busy=True),
        "crowd, uploading": one("b", 0.5, has_header=True),
    }
    for expected in ("crowd, older", "crowd, newer", "old guest", "crowd, uploading", None):
        found = who_gives_way(list(crowd.items()))
        assert found == expected
        if found:
            del crowd[found]


def test_a_body_that_the_disk_refuses_is_answered(web: Web) -> None:
    big = part10(radiograph(Rows=2048, Columns=2048, PixelData=bytes(8 << 20)))
    headers = {"Content-Type": "application/dicom"}
    with disk_full(1 << 20):
        answer = requests.post(web.base + "/studies", big, headers=headers, timeout=30)
    assert answer.status_code == 507
    assert answer.json()["error"]["code"] == "insufficient_storage"
    assert requests.post(web.base + "/studies", big, headers=headers, timeout=30).status_code == 200


def test_a_body_over_the_bound_is_answered_while_it_is_sent(serve: Callable[..., Web]) -> None:
    web = serve(max_request_mib=1)

    def chunks() -> Iterator[bytes]:
        for _ in range(64):
            yield bytes(1 << 20)

    answer = requests.post(web.base + "/studies", chunks(), headers={"Content-Type": "application/dicom"}, timeout=30)
    assert answer.status_code == 413


def test_an_instance_over_the_bound_is_answered_by_a_status(serve: Callable[..., Web]) -> None:
    web = serve(max_instance_mib=1)
    big = part10(radiograph(Rows=2048, Columns=2048, PixelData=bytes(8 << 20)))
    answer = requests.post(web.base + "/studies", big, headers={"Content-Type": "application/dicom"}, timeout=30)
    assert answer.status_code == 409
    assert f"{0xA700}" in answer.text  # as its Failure Reason (0008,1197)


def test_an_instance_that_the_disk_refuses_is_answered_by_a_status(web: Web) -> None:
    """Small enough to wait in memory until it is written."""
    small = part10(radiograph(Rows=400, Columns=400, PixelData=bytes(320_000)))
    with disk_full(100_000):
        answer = requests.post(web.base + "/studies", small, headers={"Content-Type": "application/dicom"}, timeout=30)
    assert answer.status_code == 409, "none was stored (PS3.18 10.5.3.1)"
    [failed] = answer.json()["00081198"]["Value"]
    assert failed["00081197"]["Value"] == [0xA700] and failed["00081155"]["Value"]
