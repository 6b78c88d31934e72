"""Sending files by C-STORE, whatever their form; what is left out or rejected is reported with the reason."""

from __future__ import annotations

import gzip
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit, MediaStorageDirectoryStorage
from pynetdicom.association import Association

from radir_pacs.cli import main
from radir_pacs.delivery.return_to_pacs import return_to_pacs
from radir_pacs.delivery.send import SendOutcome, files_below, send_files
from radir_pacs.errors import PeerFailed
from radir_pacs.reasons import ReasonCode
from tests.conftest import free_port
from tests.dicom_files import DX, radiograph, save
from tests.integration.test_return_to_pacs import peer, scp
from tests.sr_material import report


def test_a_file_does_not_wait_for_tcp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nagle's wait for an acknowledgement is off while files go out: it cost 40 ms per file."""
    at_once: list[int] = []
    send_c_store = Association.send_c_store

    def watched(association: Association, path: Any) -> Any:
        connection = association.dul.socket
        assert connection is not None and connection.socket is not None
        at_once.append(connection.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        return send_c_store(association, path)

    monkeypatch.setattr(Association, "send_c_store", watched)
    paths = [tmp_path / f"{name}.dcm" for name in ("one", "two")]
    for path in paths:
        report().save_as(path, enforce_file_format=True)
    with scp() as (port, got):
        results = send_files(paths, peer(port))
    assert [result.status for result in results] == [0x0000, 0x0000]
    assert len(got) == 2
    assert len(at_once) == 2 and all(at_once)


def raw(ds: Dataset) -> bytes:
    with BytesIO() as file:
        ds.save_as(file, enforce_file_format=True)
        return file.getvalue()


def data_set(part10: bytes) -> bytes:
    """Without preamble and File Meta Information."""
    return part10[144 + int.from_bytes(part10[140:144], "little") :]


def implicit(ds: Dataset) -> bytes:
    with BytesIO() as file:
        pydicom.dcmwrite(file, ds, implicit_vr=True, little_endian=True, enforce_file_format=False)
        return file.getvalue()


def without_instance_in_meta(part10: bytes) -> bytes:
    ds = pydicom.dcmread(BytesIO(part10))
    del ds.file_meta.MediaStorageSOPInstanceUID
    with BytesIO() as file:
        pydicom.dcmwrite(file, ds, enforce_file_format=False)
        return file.getvalue()


READABLE: dict[str, Callable[[Dataset], bytes]] = {
    "as PS3.10 has it": raw,
    "no preamble": lambda ds: raw(ds)[132:],
    "no preamble, but the prefix": lambda ds: raw(ds)[128:],
    "no meta information": lambda ds: data_set(raw(ds)),
    "no meta information, implicit VR": implicit,
    "meta without instance": lambda ds: without_instance_in_meta(raw(ds)),
}


@pytest.mark.parametrize("form", READABLE)
def test_a_file_is_sent_in_whatever_form_it_lies_there(form: str, tmp_path: Path) -> None:
    ds = radiograph()
    if form == "no meta information, implicit VR":
        del ds.file_meta
    path = tmp_path / "image"
    path.write_bytes(READABLE[form](ds))
    before = path.read_bytes()
    with scp(sop_class=DX) as (port, got):
        (result,) = send_files([path], peer(port))
    assert (result.outcome, result.reason) == (SendOutcome.STORED, "")
    assert (got[0].SOPInstanceUID, got[0].PixelData) == (ds.SOPInstanceUID, ds.PixelData)
    assert path.read_bytes() == before and [path.name for path in tmp_path.iterdir()] == ["image"]


def encapsulated(ds: Dataset) -> bytes:
    """JPEG without meta information: nothing says which JPEG."""
    ds.PixelData = encapsulate([b"\xff\xd8" + bytes(64) + b"\xff\xd9"])
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    ds.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    return data_set(raw(ds))


UNREADABLE: dict[str, tuple[Callable[[Dataset], bytes], str]] = {
    "gzip": (lambda ds: gzip.compress(raw(ds)), "unpack it first"),
    "zip": (lambda ds: b"PK\x03\x04" + raw(ds), "unpack it first"),
    "a text": (lambda ds: b"How to read these images", "not a DICOM file"),
    "a picture": (lambda ds: b"\xff\xd8\xff\xe0" + bytes(100), "not a DICOM file"),
    "nothing": (lambda ds: b"", "not a DICOM file"),
    "cut short": (lambda ds: data_set(raw(ds))[:100], "cannot|can be read"),
    "encapsulated without a transfer syntax": (encapsulated, "without a transfer syntax"),
    "rubbish that begins like a data set": (lambda ds: b"\x08\x00\x05\x00CS" + bytes(500), "can be read"),
}


@pytest.mark.parametrize("form", UNREADABLE)
def test_what_cannot_be_sent_is_left_out_with_its_reason(form: str, tmp_path: Path) -> None:
    made, reason = UNREADABLE[form]
    (tmp_path / "odd").write_bytes(made(radiograph()))
    (tmp_path / "good").write_bytes(raw(radiograph()))
    with scp(sop_class=DX) as (port, got):
        results = {r.path.name: r for r in send_files(files_below(tmp_path), peer(port))}
    assert results["good"].outcome is SendOutcome.STORED and len(got) == 1
    assert results["odd"].outcome is SendOutcome.NOT_SENDABLE
    assert re.search(reason, results["odd"].reason), results["odd"].reason


def test_a_dicomdir_is_no_image(tmp_path: Path) -> None:
    ds = radiograph(SOPClassUID=MediaStorageDirectoryStorage)
    (tmp_path / "DICOMDIR").write_bytes(raw(ds))
    (result,) = send_files([tmp_path / "DICOMDIR"], peer(free_port()))
    assert result.outcome is SendOutcome.NOT_SENDABLE and "DICOMDIR" in result.reason


def test_the_command_counts_and_names_what_it_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "good.dcm").write_bytes(raw(radiograph()))
    for number in range(7):
        (tmp_path / f"note-{number}.txt").write_text("a text")
    with scp(sop_class=DX) as (port, _):
        assert main(["send", str(tmp_path), "--to", str(peer(port))]) == 0
        said = capsys.readouterr().out
        assert main(["send", str(tmp_path), "--to", str(peer(port)), "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
    assert "1 of 1 file stored" in said and "7 left out: not a DICOM file" in said
    assert "note-0.txt" in said and "and 2 more" in said
    assert told["sent"] == 1 and told["refused"] == [] and len(told["left_out"]) == 7
    assert {row["outcome"] for row in told["left_out"]} == {"not_sendable"}


@contextmanager
def rejecting(result: int, source: int, reason: int) -> Iterator[int]:
    """A peer that answers every A-ASSOCIATE-RQ with an A-ASSOCIATE-RJ (PS3.8 9.3.4)."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection:
                        connection.recv(65536)
                        connection.sendall(bytes([3, 0, 0, 0, 0, 4, 0, result, source, reason]))
                        while connection.recv(65536):  # until the peer hangs up: a reset would overtake the answer
                            pass

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((1, 1, 3), "does not admit the calling AE title RADIR-SEND: add it there"),
        ((1, 1, 7), "is not called PACS: correct the AE title"),
        ((1, 1, 1), "without giving a reason"),
        ((1, 2, 1), "without giving a reason"),
        ((1, 2, 2), "this version of the DICOM protocol"),
        ((2, 3, 1), "busy; try again later"),
        ((2, 3, 2), "too many associations; try again later"),
        ((1, 2, 7), "for reason 7 of source 2"),
    ],
)
def test_a_rejection_says_why_and_what_to_do(answer: tuple[int, int, int], said: str, tmp_path: Path) -> None:
    path = save(radiograph(), tmp_path / "image.dcm")
    with rejecting(*answer) as port:
        with pytest.raises(PeerFailed) as caught:
            send_files([path], peer(port))
        assert caught.value.reason_code is ReasonCode.PEER_REJECTED and said in str(caught.value)
        with pytest.raises(PeerFailed) as caught:
            return_to_pacs(report(), peer(port))
        assert caught.value.reason_code is ReasonCode.PEER_REJECTED
        assert said.replace("RADIR-SEND", "RADIR") in str(caught.value)


def test_a_whitelist_is_passed_by_a_title_that_it_admits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save(radiograph(), tmp_path / "image.dcm")
    with scp(sop_class=DX, admits=["MODALITY"]) as (port, got):
        assert main(["send", str(path), "--to", str(peer(port))]) == 1
        assert "calling AE title RADIR-SEND" in capsys.readouterr().err
        assert main(["send", str(path), "--to", str(peer(port)), "--calling-ae", "MODALITY"]) == 0
        assert len(got) == 1


def test_a_peer_that_takes_no_such_object_is_told_from_one_that_does_not_answer(tmp_path: Path) -> None:
    path = save(radiograph(), tmp_path / "image.dcm")
    with scp(sop_class="1.2.840.10008.5.1.4.1.1.2") as (port, _), pytest.raises(PeerFailed) as caught:
        send_files([path], peer(port))
    assert caught.value.reason_code is ReasonCode.PEER_NOT_SUPPORTED
    with pytest.raises(PeerFailed) as caught:
        send_files([path], peer(free_port()))
    assert caught.value.reason_code is ReasonCode.PEER_UNREACHABLE
