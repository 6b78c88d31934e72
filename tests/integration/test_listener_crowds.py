"""Unauthenticated peers cannot keep slots that others need; what cannot be stored is answered with a status."""

from __future__ import annotations

import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pydicom
import pytest
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.sop_class import DigitalXRayImageStorageForPresentation, Verification  # type: ignore[attr-defined]

from radir_pacs.catalogue import Catalogue
from radir_pacs.delivery.destination import Destination
from radir_pacs.delivery.send import send_files
from radir_pacs.listener import admission
from radir_pacs.storage.blobs import BlobStore
from radir_pacs.types import StudyState
from tests.association_requests import APPLICATION, CLASS, CT, LENGTH, answer, context, item, receive, request
from tests.dicom_files import radiograph, save
from tests.integration.listening import refusals, wait_for
from tests.integration.test_listener import command, pdata, send_raw

Listen = Callable[..., Destination]


@contextmanager
def coming_again(port: int, count: int, first: bytes) -> Iterator[None]:
    """``count`` connections that send ``first`` and no more, each opened again as soon as it ends."""
    stop = threading.Event()

    def hold() -> None:
        while not stop.is_set():
            try:
                with socket.create_connection(("127.0.0.1", port), 5) as sock:
                    sock.settimeout(0.2)
                    sock.sendall(first)
                    while not stop.is_set():
                        try:
                            if not sock.recv(4096):
                                break
                        except TimeoutError:
                            continue
            except OSError:
                continue

    threads = [threading.Thread(target=hold, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(10)


@pytest.mark.parametrize("first", [b"", b"\x01\x00\x00\x00\x10\x00"], ids=["silent", "half a request"])
def test_a_good_sender_gets_through_a_crowd_that_says_nothing(listen: Listen, tmp_path: Path, first: bytes) -> None:
    peer = listen(listener_max_associations=2)
    paths = [save(radiograph(), tmp_path / f"{n}.dcm") for n in range(30)]
    with coming_again(peer.port, 25, first):
        for path in paths:  # an association each
            (result,) = send_files([path], peer)
            assert result.status == 0x0000, result.reason


def test_more_silent_connections_than_the_pool_holds(listen: Listen, catalogue: Catalogue) -> None:
    peer = listen()
    with ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(socket.create_connection((peer.host, peer.port), 10))
        assert answer(peer.port, request()) == "accepted"
        wait_for(lambda: [r for r in refusals(catalogue) if "too many connections" in r])


def test_idle_associations_give_way(listen: Listen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "IDLE_GIVES_WAY_S", 0.1)
    peer = listen(listener_max_associations=4)
    with coming_again(peer.port, 10, request()):
        for _ in range(10):
            wait_for(lambda: answer(peer.port, request()) == "accepted", 20)


def test_an_error_while_admitting_ends_one_connection_and_not_the_listener(
    listen: Listen, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = listen()
    with monkeypatch.context() as failing:
        failing.setattr(admission.Admission, "decide", lambda *_: dict[str, str]()["nothing of the sort"])
        with socket.create_connection((peer.host, peer.port), 10) as sock:
            sock.sendall(request())
            sock.settimeout(10)
            assert sock.recv(1) == b""
    assert answer(peer.port, request()) == "accepted"
    wait_for(lambda: [r for r in refusals(catalogue) if "could not be opened (KeyError)" in r])


def test_an_address_cannot_hold_every_slot(listen: Listen) -> None:
    peer = listen(listener_max_associations=4)
    with ExitStack() as stack:

        def associate(source: str) -> int:
            sock = stack.enter_context(socket.create_connection((peer.host, peer.port), 10, (source, 0)))
            sock.settimeout(10)
            sock.sendall(request())
            return receive(sock)[0]

        assert [associate("127.0.0.1") for _ in range(4)] == [2, 2, 2, 3]
        assert associate("127.0.0.2") == 2


def test_an_association_amid_a_message_does_not_give_way(listen: Listen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "IDLE_GIVES_WAY_S", 0.3)
    peer = listen(listener_max_associations=1)
    with socket.create_connection((peer.host, peer.port), 10) as sock:
        sock.settimeout(10)
        sock.sendall(request(items=APPLICATION + context(CT) + item(0x50, LENGTH + CLASS)))
        receive(sock)
        sock.sendall(b"\x04\x00\x00\x00\x00\x0a\x00\x00\x00\x06\x01\x01\x00\x00\x00\x00")
        end = time.monotonic() + 1
        while time.monotonic() < end:
            assert answer(peer.port, request()) == "rejected"


def test_an_instance_over_the_bound_is_refused_by_a_status(
    listen: Listen, blobs: BlobStore, catalogue: Catalogue, tmp_path: Path
) -> None:
    big = radiograph(Rows=1024, Columns=1024, PixelData=bytes(2 << 20))
    paths = [save(ds, tmp_path / f"{n}.dcm") for n, ds in enumerate((radiograph(), big, radiograph()))]
    results = send_files(paths, listen(max_instance_mib=1))
    assert [result.status for result in results] == [0x0000, 0xA700, 0x0000]
    assert "max_instance_mib" in results[1].reason
    assert [r for r in refusals(catalogue) if "max_instance_mib" in r]
    wait_for(lambda: not list(blobs.incoming_folder.iterdir()))


@contextmanager
def disk_full(at_bytes: int) -> Iterator[None]:
    """The kernel refuses writes beyond that size of any file, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (at_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_answered_by_a_status(listen: Listen, blobs: BlobStore, tmp_path: Path) -> None:
    big = radiograph(Rows=1024, Columns=1024, PixelData=bytes(2 << 20))
    paths = [save(ds, tmp_path / f"{n}.dcm") for n, ds in enumerate((radiograph(), big, radiograph()))]
    peer = listen()
    with disk_full(1 << 20):
        results = send_files(paths, peer)
    assert [result.status for result in results] == [0x0000, 0xA700, 0x0000]
    assert "disk" in results[1].reason
    wait_for(lambda: not list(blobs.incoming_folder.iterdir()))


def test_a_disk_without_room_for_a_file_is_answered_by_a_status(
    listen: Listen, blobs: BlobStore, tmp_path: Path
) -> None:
    peer, ds = listen(), radiograph()
    ds.file_meta = pydicom.dcmread(save(ds, tmp_path / "a.dcm")).file_meta
    association = storing(peer)
    blobs.incoming_folder.rmdir()  # no file can be made there
    assert association.send_c_store(ds).Status == 0xA700
    blobs.incoming_folder.mkdir()
    assert association.send_c_store(ds).Status == 0x0000
    association.release()


def storing(peer: Destination) -> Association:
    ae = AE()
    ae.add_requested_context(DigitalXRayImageStorageForPresentation)
    ae.add_requested_context(Verification)
    association = ae.associate(peer.host, peer.port)
    assert association.is_established
    return association


NO_UIDS = (b"1.2.3\n4567", b"1.2\n", b"\n.2.3", b"1.2.3\x004567", b"1.2.3 4567", b"1.2\\3", b"1/2", b"", b"1." * 33)


@pytest.mark.parametrize("uid", NO_UIDS)
def test_a_command_that_names_no_uid_is_refused_and_the_association_goes_on(
    listen: Listen, catalogue: Catalogue, uid: bytes
) -> None:
    association = storing(listen())
    context_id = next(cx.context_id for cx in association.accepted_contexts if cx.abstract_syntax != Verification)
    assert context_id is not None
    sent = command(
        CommandField=0x0001,
        MessageID=7,
        Priority=0,
        CommandDataSetType=0,
        AffectedSOPClassUID=DigitalXRayImageStorageForPresentation,
        AffectedSOPInstanceUID="1.2.3.4567",
    )
    at = sent.index(b"1.2.3.4567") - 4
    sent = sent[:at] + len(uid).to_bytes(4, "little") + uid + sent[at + 14 :]
    association._reactor_checkpoint.clear()  # else its own thread takes the answer
    wait_for(lambda: association._is_paused)
    send_raw(association, pdata(context_id, 3, sent))
    send_raw(association, pdata(context_id, 2, b"\x08\x00\x60\x00\x02\x00\x00\x00DX"))
    _, answered = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    assert isinstance(answered, C_STORE) and answered.Status == 0x0117
    assert association.send_c_echo().Status == 0x0000
    association.release()
    assert catalogue.studies.in_state(StudyState.RECEIVING, 10) == ()
    assert [r for r in refusals(catalogue) if "Affected SOP Instance UID" in r]
