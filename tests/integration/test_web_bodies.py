"""Large bodies are refused by their header, before any of them is on the disk."""

from __future__ import annotations

import json
import select
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace

import pytest

from radir_pacs.access.bearers import Bearers
from radir_pacs.catalogue import Catalogue
from radir_pacs.config import Settings
from radir_pacs.web.body_guard import Body, BodyGuard
from tests.integration.conftest import Web

TOKEN = "the-token-of-the-pacs"
POST = b"POST /dicom-web/studies HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/dicom\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n"
LARGE = b"Content-Length: 900000000\r\n\r\n"
BEARER = b"Authorization: Bearer %s\r\n" % TOKEN.encode()
MIB = 1 << 20


def answer(web: Web, *sent: bytes) -> tuple[int, str]:
    """Status and message, while most of the body may be still to come."""
    with socket.create_connection(("127.0.0.1", web.settings.web_port), timeout=20) as peer:
        for data in sent:
            peer.sendall(data)
        received = b""
        while b"}" not in received:
            more = peer.recv(65_536)
            assert more, received
            received += more
    head, _, body = received.partition(b"\r\n\r\n")
    told = json.loads(body) if body.endswith(b"}}") else {}
    return int(head.split()[1]), str(told.get("error", {}).get("message", ""))


def test_who_has_no_token_sends_no_large_body(serve: Callable[..., Web]) -> None:
    web = serve(api_tokens=(TOKEN,))
    for header in (POST + LARGE, CHUNKED + b"\r\n", POST + b"Authorization: Bearer wrong\r\n" + LARGE):
        status, message = answer(web, header, b"4\r\nDICM")
        assert (status, "token" in message) == (401, True)
    status, _ = answer(web, POST + BEARER + b"Content-Length: 4\r\n\r\nDICM")
    assert status == 409, "a small one is read and judged"


def test_a_chunk_header_without_end_is_refused_at_once(web: Web) -> None:
    began = time.monotonic()
    status, message = answer(web, CHUNKED + b"\r\n", b"4;x=" + b"a" * 200_000)
    assert (status, message) == (400, "a chunk header or trailer does not end")
    status, _ = answer(web, CHUNKED + b"\r\n", b"0\r\nX: " + b"a" * 200_000)
    assert status == 400 and time.monotonic() - began < 10


def test_a_length_beside_chunks_gets_an_answer(web: Web) -> None:
    """RFC 9112 6.3: the chunks count, or the request is refused; it is not met with silence."""
    status, _ = answer(web, CHUNKED + b"Content-Length: 5\r\n\r\n0\r\n\r\n")
    assert 400 <= status < 500


def test_all_bodies_together_have_a_bound(serve: Callable[..., Web]) -> None:
    web = serve(max_request_mib=1)
    with ExitStack() as stack:
        peers = []
        for _ in range(5):
            peers.append(stack.enter_context(socket.create_connection(("127.0.0.1", web.settings.web_port), 20)))
            peers[-1].sendall(POST + b"Content-Length: %d\r\n\r\n" % MIB + bytes(MIB - 1))
        refused, _, _ = select.select(peers, [], [], 20)
        assert len(refused) == 1, "the one that crosses the bound"
        assert refused[0].recv(65_536).startswith(b"HTTP/1.1 503 ")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (Body(authorization="", length=1000), None),
        (Body(authorization="", length=100_000), 401),
        (Body(authorization="", length=None), 401),
        (Body(authorization=f"Bearer {TOKEN}", length=None), None),
        (Body(authorization=f"Bearer {TOKEN}", length=None, chunk_header=2000), 400),
        (Body(authorization=f"Bearer {TOKEN}", length=None, trailer=20_000), 400),
    ],
)
def test_the_guard_decides_by_what_is_known_so_far(
    body: Body, status: int | None, settings: Settings, catalogue: Catalogue
) -> None:
    bearers = Bearers(catalogue.access_tokens, replace(settings, api_tokens=(TOKEN,)))
    guard = BodyGuard(bearers=bearers, most_bytes=10)
    fault = guard.fault(body, 0)
    assert (fault[0] if fault else None) == status
    assert (guard.fault(body, 11) or (0, ""))[0] == (status or 503)
