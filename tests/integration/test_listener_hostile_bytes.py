"""Whatever bytes a peer sends, the listener goes on: it answers the next peer, loses no slot, and no thread fails."""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from radir_pacs.catalogue import Catalogue
from radir_pacs.config import Settings
from radir_pacs.listener.server import Server
from radir_pacs.storage.blobs import BlobStore
from tests.association_requests import (
    APPLICATION,
    CLASS,
    LENGTH,
    VERIFICATION,
    context,
    item,
    odd_requests,
    receive,
    request,
)
from tests.conftest import free_port
from tests.dicom_files import radiograph
from tests.examples import examples
from tests.integration.listening import listening, wait_for
from tests.integration.test_listener import command, pdata

RELEASE, ABORT = (struct.pack(">BBLL", kind, 0, 4, 0) for kind in (5, 7))
XRAY = b"1.2.840.10008.5.1.4.1.1.1.1"
ASKS = request(items=APPLICATION + context() + context(XRAY, number=3) + item(0x50, LENGTH + CLASS))
ECHO = command(
    CommandGroupLength=56,
    AffectedSOPClassUID=VERIFICATION.decode(),
    CommandField=0x0030,
    MessageID=1,
    CommandDataSetType=0x0101,
)
STORE = command(
    AffectedSOPClassUID=XRAY.decode(),
    AffectedSOPInstanceUID="1.2.3",
    CommandField=0x0001,
    MessageID=2,
    Priority=0,
    CommandDataSetType=0,
)
HEADER = command(**{name: radiograph()[name].value for name in ("SOPClassUID", "StudyInstanceUID", "Rows")})
PDUS = [
    ASKS,
    *odd_requests().values(),
    pdata(1, 3, ECHO),
    pdata(3, 3, STORE),
    pdata(3, 1, STORE[:20]) + pdata(3, 3, STORE[20:]),
    pdata(3, 3, STORE) + pdata(3, 0, HEADER[:10]) + pdata(3, 2, HEADER[10:]),
    pdata(3, 2, HEADER),
    RELEASE,
    ABORT,
    struct.pack(">BBLBBBB", 3, 0, 4, 0, 1, 1, 1),  # A-ASSOCIATE-RJ, A-RELEASE-RP, and what an acceptor never gets
    struct.pack(">BBLL", 6, 0, 4, 0),
    struct.pack(">BBL", 2, 0, 68) + bytes(68),
    struct.pack(">BBL", 4, 0, 0xFFFFFFFF),
    struct.pack(">BBL", 1, 0, 0xFFFFFFFF),
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A PDU with some bytes changed, taken away or put in, or none."""
    pdu = bytearray(draw(st.sampled_from(PDUS)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(pdu)))
        match draw(st.sampled_from(("change", "cut", "insert", "length"))):
            case "change":
                pdu[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case "cut":
                del pdu[at : at + draw(st.integers(1, 40))]
            case "insert":
                pdu[at:at] = draw(st.binary(min_size=1, max_size=40))
            case "length":
                pdu[2:6] = struct.pack(">L", draw(st.sampled_from((0, 1, 5, 0x7FFFFFFF, 0xFFFFFFFF, len(pdu)))))
    return bytes(pdu)


STREAMS = st.one_of(
    st.binary(max_size=200),
    st.lists(damaged(), min_size=1, max_size=3).map(b"".join),
    st.lists(damaged(), min_size=1, max_size=4).map(lambda pdus: ASKS + b"".join(pdus)),  # once it is accepted
)


@dataclass(frozen=True, kw_only=True)
class Listener:
    server: Server
    port: int
    failed: list[str]  # what ended a thread, or was lost in a destructor


@pytest.fixture
def listener(
    settings: Settings, catalogue: Catalogue, tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Listener]:
    failed: list[str] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: failed.append(f"{args.thread}: {args.exc_value!r}"))
    monkeypatch.setattr(sys, "unraisablehook", lambda args: failed.append(f"{args.object}: {args.exc_value!r}"))
    changed = replace(settings, listener_port=free_port(), listener_max_associations=4)
    with listening(changed, catalogue, BlobStore(changed.home / "blobs")) as (peer, server):
        yield Listener(server=server, port=peer.port, failed=failed)


def echo(port: int) -> bytes:
    """Status of a C-ECHO on an association of its own (PS3.7 9.3.5.2), released in order."""
    with socket.create_connection(("127.0.0.1", port), 20) as sock:
        sock.sendall(request())
        assert receive(sock)[:1] == b"\x02"
        sock.sendall(pdata(1, 3, ECHO))
        answer = receive(sock)
        sock.sendall(RELEASE)
        assert receive(sock)[:1] == b"\x06"
    return answer[answer.index(b"\0\0\0\x09\x02\0\0\0") + 8 :][:2]


@settings(max_examples=examples(150), deadline=None, suppress_health_check=list(HealthCheck))
@example(stream=ASKS + ASKS, cut=400, says_end=False)  # broken off before it is accepted
@example(stream=ASKS + struct.pack(">BBLBBBB", 7, 0, 4, 0, 0, 68, 0), cut=400, says_end=True)  # A-ABORT of no source
@given(stream=STREAMS, cut=st.integers(1, 400), says_end=st.booleans())
def test_no_bytes_stop_it(listener: Listener, stream: bytes, cut: int, says_end: bool) -> None:
    with socket.create_connection(("127.0.0.1", listener.port), 20) as sock:
        with contextlib.suppress(ConnectionError):  # it may hang up before all is sent
            for at in range(0, len(stream), cut):
                sock.sendall(stream[at : at + cut])
        if says_end:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionError):
                while sock.recv(65536):
                    pass
    assert echo(listener.port) == b"\0\0"
    wait_for(lambda: listener.server.admission.open_count() == 0, 20)
    assert listener.failed == []
