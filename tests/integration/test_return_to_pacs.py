"""One C-STORE to real peers: DCMTK's storescp, one that refuses, one that is slow, none at all."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, evt

from radir_pacs.delivery.check.template import violations
from radir_pacs.delivery.destination import Destination
from radir_pacs.delivery.return_to_pacs import return_to_pacs
from radir_pacs.errors import PeerFailed
from tests.conftest import free_port
from tests.services import need
from tests.sr_material import report

COMPREHENSIVE_3D_SR = "1.2.840.10008.5.1.4.1.1.88.34"


def peer(port: int) -> Destination:
    return Destination(ae_title="PACS", host="127.0.0.1", port=port)


def wait_until_open(port: int, process: subprocess.Popen[bytes], deadline_s: float = 20) -> None:
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        assert process.poll() is None, "storescp ended"
        with closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        threading.Event().wait(0.02)
    pytest.fail("storescp does not listen")


@contextmanager
def scp(
    status: int = 0x0000, sop_class: str = COMPREHENSIVE_3D_SR, admits: Sequence[str] = ()
) -> Iterator[tuple[int, list[Dataset]]]:
    """A peer that answers every C-STORE with ``status``; ``admits``: the AE titles that may call, any by default."""
    got: list[Dataset] = []

    def store(event: evt.Event) -> int:
        got.append(event.dataset)
        return status

    ae = AE(ae_title="PACS")
    ae.add_supported_context(sop_class)
    ae.require_calling_aet = list(admits)
    port = free_port()
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    assert server is not None
    yield port, got
    server.shutdown()


@contextmanager
def dawdler(greeting: bytes) -> Iterator[int]:
    """A peer that accepts a connection and then sends ``greeting`` one byte every 50 ms, for ever."""
    stop = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            for byte in greeting:
                if stop.wait(0.05):
                    return
                try:
                    connection.sendall(bytes([byte]))
                except OSError:
                    return
            stop.wait(30)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    stop.set()
    listener.close()
    thread.join(5)


def test_dcmtk_takes_the_report_as_it_is(tmp_path: Path) -> None:
    port = free_port()
    process = subprocess.Popen([need("storescp"), "-od", str(tmp_path), str(port)])
    try:
        wait_until_open(port, process)
        sr = report()
        assert return_to_pacs(sr, peer(port)) == 0x0000
    finally:
        process.terminate()
        process.wait(10)
    (path,) = tmp_path.iterdir()
    received = pydicom.dcmread(path)
    assert received == sr and violations(received) == []


def test_a_warning_status_is_success() -> None:
    with scp(status=0xB000) as (port, got):
        assert return_to_pacs(report(), peer(port)) == 0xB000
        assert len(got) == 1


@pytest.mark.parametrize("status", [0xA700, 0xC000, 0x0122])
def test_a_refusal_says_the_status(status: int) -> None:
    with scp(status=status) as (port, _), pytest.raises(PeerFailed, match=f"{status:04X}"):
        return_to_pacs(report(), peer(port))


def test_a_peer_that_takes_no_reports() -> None:
    with scp(sop_class="1.2.840.10008.5.1.4.1.1.2") as (port, got), pytest.raises(PeerFailed):
        return_to_pacs(report(), peer(port))
    assert got == []


def test_nobody_listens() -> None:
    with pytest.raises(PeerFailed, match="does not answer"):
        return_to_pacs(report(), peer(free_port()))


@pytest.mark.parametrize("greeting", [b"", b"\x02\x00\x00\x00\xff\xff" + b"\x00" * 400])
def test_a_dawdling_peer_costs_no_more_than_the_budget(greeting: bytes) -> None:
    """A peer that says nothing at all, and an A-ASSOCIATE-AC that trickles in byte by byte."""
    with dawdler(greeting) as port:
        started = time.monotonic()
        with pytest.raises(PeerFailed, match=r"is too slow|does not answer"):
            return_to_pacs(report(), peer(port), budget_s=1.0)
        assert time.monotonic() - started < 4.0
