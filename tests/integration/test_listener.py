"""The listener against real peers: pynetdicom and DCMTK."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dsutils import encode
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from radir_pacs.catalogue import Catalogue
from radir_pacs.config import Settings
from radir_pacs.delivery.destination import Destination
from radir_pacs.delivery.send import send_files
from radir_pacs.errors import RadirError, SettingError
from radir_pacs.storage.blobs import BlobStore
from radir_pacs.types import StudyState
from tests.dicom_files import radiograph, save
from tests.integration.listening import refusals, wait_for
from tests.services import need


def test_echo(listen) -> None:
    peer = listen()
    ae = AE()
    ae.add_requested_context(Verification)
    association = ae.associate(peer.host, peer.port, ae_title=peer.ae_title)
    assert association.is_established
    assert association.send_c_echo().Status == 0x0000
    association.release()


def test_bytes_are_kept_as_received(listen, catalogue: Catalogue, blobs: BlobStore, tmp_path: Path) -> None:
    ds = radiograph()
    path = save(ds, tmp_path / "a.dcm")
    (result,) = send_files([path], listen())
    assert result.status == 0x0000
    stored = catalogue.instances.get(ds.SOPInstanceUID)
    kept, sent = blobs.path(stored.content_sha256).read_bytes(), path.read_bytes()
    pixels = ds.PixelData
    assert kept.endswith(sent[sent.index(b"\x08\x00\x16\x00") :])  # the data set from (0008,0016) on, byte for byte
    assert kept.endswith(pixels)
    assert catalogue.studies.get(ds.StudyInstanceUID).state is StudyState.RECEIVING


def test_the_same_instance_twice_is_one(listen, catalogue: Catalogue, tmp_path: Path) -> None:
    ds = radiograph()
    path = save(ds, tmp_path / "a.dcm")
    results = send_files([path, path], listen())
    assert [r.status for r in results] == [0, 0]
    assert catalogue.studies.get(ds.StudyInstanceUID).instance_count == 1


def test_other_pixels_under_the_same_uid_are_refused_and_another_header_is_not(
    listen, catalogue: Catalogue, tmp_path: Path
) -> None:
    ds = radiograph()
    uids = {name: ds[name].value for name in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")}
    corrected = radiograph(**uids, StudyDescription="other")
    other = radiograph(**uids, PixelData=bytes(len(ds.PixelData)))
    paths = [save(each, tmp_path / f"{n}.dcm") for n, each in enumerate((ds, corrected, other))]
    results = send_files(paths, listen())
    assert [r.status for r in results] == [0x0000, 0x0000, 0xC002]
    assert [row.reason for row in catalogue.refusals.recent()] == ["the instance is stored already with other pixels"]
    assert catalogue.studies.get(ds.StudyInstanceUID).study_description == "other"


def test_a_bad_uid_is_refused_and_the_association_goes_on(listen, catalogue: Catalogue, tmp_path: Path) -> None:
    from pydicom import config as pydicom_config

    bad, good = radiograph(), radiograph()
    with pydicom_config.disable_value_validation():
        bad.StudyInstanceUID = "../../etc/passwd"
        paths = [save(bad, tmp_path / "bad.dcm"), save(good, tmp_path / "good.dcm")]
    results = send_files(paths, listen())
    assert results[0].status == 0xC000 and "StudyInstanceUID" in results[0].reason
    assert results[1].status == 0x0000
    assert refusals(catalogue) == ["StudyInstanceUID is not a valid UID"]


def test_nothing_is_left_of_what_was_refused(listen, blobs: BlobStore, tmp_path: Path) -> None:
    ds = radiograph()
    peer = listen(min_free_disk_mib=1 << 40)
    (result,) = send_files([save(ds, tmp_path / "a.dcm")], peer)
    assert result.status == 0xA700
    assert not [path for path in blobs.root.rglob("*") if path.is_file()]


def test_called_and_calling_titles_are_checked(listen) -> None:
    peer = listen(check_called_ae=True, calling_ae_titles=("KNOWN",))
    for calling, called, admitted in (("KNOWN", "RADIR", True), ("OTHER", "RADIR", False), ("KNOWN", "WRONG", False)):
        ae = AE(ae_title=calling)
        ae.add_requested_context(Verification)
        association = ae.associate(peer.host, peer.port, ae_title=called)
        assert association.is_established is admitted
        if admitted:
            association.release()


def test_dcmtk_sends(listen, catalogue: Catalogue, tmp_path: Path) -> None:
    storescu = need("storescu")
    ds = radiograph()
    peer = listen()
    subprocess.run(
        [storescu, "-aec", peer.ae_title, peer.host, str(peer.port), str(save(ds, tmp_path / "a.dcm"))],
        check=True,
        env=os.environ | {"TCP_NODELAY": "1"},
        timeout=60,
    )
    assert catalogue.studies.get(ds.StudyInstanceUID).instance_count == 1


def test_twenty_senders_of_one_study_at_once_store_it_once(listen, catalogue: Catalogue, tmp_path: Path) -> None:
    """Each a process of its own: one effect, no deadlock, and nobody waits for a lock until it times out."""
    storescu = need("storescu")
    peer = listen(listener_max_associations=40)
    uids = {"StudyInstanceUID": "2.25.1", "SeriesInstanceUID": "2.25.1.1"}
    paths = [save(radiograph(**uids, SOPInstanceUID=f"2.25.1.1.{n}"), tmp_path / f"{n}.dcm") for n in range(4)]
    began = time.monotonic()
    senders = [
        subprocess.Popen(
            [storescu, "-aec", peer.ae_title, peer.host, str(peer.port), *map(str, paths[:: -1 if n % 2 else 1])],
            env=os.environ | {"TCP_NODELAY": "1"},
        )
        for n in range(20)
    ]
    assert [sender.wait(60) for sender in senders] == [0] * 20
    assert time.monotonic() - began < 25, "lock_timeout is 30 seconds"
    study = catalogue.studies.get("2.25.1")
    assert (study.instance_count, catalogue.studies.revision_of("2.25.1")[1]) == (4, 4)
    assert refusals(catalogue) == []
    assert catalogue.corrections.recent() == ()


def test_a_taken_port_is_one_line(listen, settings: Settings) -> None:
    listen(listener_port=settings.listener_port)
    with pytest.raises(SettingError, match="listener_port") as caught:
        listen(listener_port=settings.listener_port)
    assert "\n" not in str(caught.value)


@pytest.fixture
def connection(listen, request) -> Iterator[socket.socket]:
    """A bare connection to a listener that allows a message one second."""
    peer = listen(listener_idle_s=1.0, max_instance_mib=1)
    with socket.create_connection((peer.host, peer.port), 10) as sock:
        sock.settimeout(10)
        yield sock


def _ended(sock: socket.socket) -> bool:
    try:
        while sock.recv(4096):
            pass
    except ConnectionResetError:
        pass
    return True


def test_a_peer_that_sends_a_byte_a_moment_is_ended(connection: socket.socket) -> None:
    began = time.monotonic()
    connection.sendall(b"\x01\x00\x00\x00\x10\x00")
    stop = threading.Event()

    def drip() -> None:
        while not stop.wait(0.1):
            try:
                connection.sendall(b"\x00")
            except OSError:
                return

    thread = threading.Thread(target=drip)
    thread.start()
    assert _ended(connection)
    stop.set()
    thread.join()
    assert time.monotonic() - began < 8


def test_a_pdu_that_announces_gigabytes_is_ended(connection: socket.socket) -> None:
    connection.sendall(b"\x04\x00\xff\xff\xff\xff" + bytes(1024))
    assert _ended(connection)


def test_an_instance_over_the_limit_ends_the_association_and_leaves_nothing(
    listen, blobs: BlobStore, catalogue: Catalogue, tmp_path: Path
) -> None:
    big = radiograph(Rows=1024, Columns=1024, PixelData=bytes(2 << 20))
    small = radiograph()
    peer = listen(max_instance_mib=1)
    results = send_files([save(big, tmp_path / "a.dcm"), save(small, tmp_path / "b.dcm")], peer)
    assert results[0].reason
    assert results[1].status == 0x0000
    wait_for(lambda: not list(blobs.incoming_folder.iterdir()))
    with pytest.raises(RadirError):
        catalogue.instances.get(big.SOPInstanceUID)


def established(peer: Destination) -> Association | None:
    """An association for C-ECHO, None when the peer has no slot for it."""
    ae = AE()
    ae.add_requested_context(Verification)
    association = ae.associate(peer.host, peer.port, ae_title=peer.ae_title)
    return association if association.is_established else None


def wait_until_admitted(peer: Destination) -> Association:
    found: list[Association] = []

    def admitted() -> bool:
        association = established(peer)
        found.extend([association] if association else [])
        return bool(found)

    wait_for(admitted, 5)
    return found[0]


def test_peers_that_hang_up_at_once_hold_no_slot(listen) -> None:
    peer = listen(listener_max_associations=2)
    for _ in range(10):
        socket.create_connection((peer.host, peer.port), 10).close()
    wait_until_admitted(peer).release()


def command(**elements: object) -> bytes:
    """A command set (PS3.7 6.3.1), little-endian implicit."""
    ds = Dataset()
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    return encode(ds, True, True) or b""


def send_raw(association: Association, pdu: bytes) -> None:
    assert association.dul.socket is not None
    association.dul.socket.send(pdu)


def pdata(context_id: int, control: int, fragment: bytes) -> bytes:
    """A P-DATA-TF PDU of one fragment (PS3.8 9.3.5)."""
    item = bytes([context_id, control]) + fragment
    body = len(item).to_bytes(4, "big") + item
    return b"\x04\x00" + len(body).to_bytes(4, "big") + body


@pytest.mark.parametrize(
    "pdu",
    [
        pdata(1, 3, command(CommandField=0x0001, MessageID=1, CommandDataSetType=0, AffectedSOPInstanceUID="1.2")),
        pdata(1, 3, command(CommandField=0x7777, MessageID=1, CommandDataSetType=0)),
        pdata(1, 3, command(MessageID=1)),
        pdata(1, 3, bytes(range(256))),
        pdata(251, 3, command(CommandField=0x0001, MessageID=1, CommandDataSetType=0, AffectedSOPClassUID="1.2")),
        pdata(1, 2, b"data before any command"),
        b"\x04\x00\x00\x00\x00\x06\x00\x00\x00\xff\x01\x03",
    ],
    ids=["no SOP class", "unknown command", "no command", "garbage", "unknown context", "no command set", "cut short"],
)
def test_a_broken_message_ends_its_association_and_holds_no_slot(listen, blobs: BlobStore, pdu: bytes) -> None:
    peer = listen(listener_max_associations=2, listener_idle_s=30.0)
    for _ in range(4):
        association = wait_until_admitted(peer)
        send_raw(association, pdu)
        wait_for(lambda: not association.is_established)  # noqa: B023
    wait_until_admitted(peer).release()
    wait_for(lambda: not list(blobs.incoming_folder.iterdir()))


def test_a_store_that_names_no_sop_class_is_recorded(listen, catalogue: Catalogue) -> None:
    association = wait_until_admitted(listen())
    send_raw(association, pdata(1, 3, command(CommandField=0x0001, MessageID=1, CommandDataSetType=0)))
    wait_for(lambda: [r for r in refusals(catalogue) if "bytes that are not a DIMSE message, from 127.0.0.1" in r])
