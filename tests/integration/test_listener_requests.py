"""A-ASSOCIATE-RQ as devices write it, compared with DCMTK's storescp; contexts; refusals and aborts are reported."""

from __future__ import annotations

import logging
import socket
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID, AllTransferSyntaxes

from radir_pacs.catalogue import Catalogue
from radir_pacs.delivery.destination import Destination
from radir_pacs.dicom.transfer_syntaxes import DECODABLE
from radir_pacs.listener.association_request import AssociationRequest
from tests.association_requests import (
    APPLICATION,
    CLASS,
    CT,
    IMPLICIT,
    LENGTH,
    VERIFICATION,
    answer,
    context,
    contexts_of,
    exchange,
    item,
    odd_requests,
    receive,
    request,
)
from tests.conftest import free_port
from tests.integration.listening import refusals, wait_for
from tests.services import need

Listen = Callable[..., Destination]
USER = item(0x50, LENGTH + CLASS)
EXPLICIT = b"1.2.840.10008.1.2.1"
# storescp falls silent at these, or takes what the standard forbids; we answer, and refuse.
BEYOND_DCMTK = {
    "calling blank": "accepted",
    "called blank": "accepted",
    "both NUL": "accepted",
    "version name of 200": "accepted",
    "no presentation context": "aborted",
    "context without transfer syntax": "accepted",
    "no items": "aborted",
    "item over the end": "aborted",
    "context over its end": "aborted",
    "context of even id": "aborted",
}


@pytest.fixture(scope="module")
def storescp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of DCMTK's receiver."""
    port = free_port()
    folder = str(tmp_path_factory.mktemp("storescp"))
    command = [need("storescp"), "--fork", "-od", folder, str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:

        def listens() -> bool:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
            except OSError:
                return False
            return True

        wait_for(listens)
        yield port
        process.terminate()


def test_odd_requests_are_answered_as_dcmtk_answers_them(listen: Listen, storescp: int) -> None:
    port = listen().port
    for name, pdu in odd_requests().items():
        ours = exchange(port, pdu)
        if name in BEYOND_DCMTK:
            assert {2: "accepted", 7: "aborted"}[ours[0]] == BEYOND_DCMTK[name], name
            continue
        theirs = exchange(storescp, pdu)
        assert ours[0] == theirs[0], name
        if ours[0] == 3:
            assert ours == theirs, name  # result, source and reason
        else:
            ours_by_id, theirs_by_id = contexts_of(ours), contexts_of(theirs)
            assert {number: found[0] for number, found in ours_by_id.items()} == {
                number: found[0] for number, found in theirs_by_id.items()
            }, name


def test_ae_titles_come_back_as_they_were_sent(listen: Listen) -> None:
    """PS3.8 9.3.3: they are identical in the A-ASSOCIATE-AC, whatever they are."""
    called, calling = b"RADIR".ljust(16, b"\0"), "RÖNTGEN".encode("latin-1").ljust(16)
    assert exchange(listen().port, request(called, calling))[10:42] == called + calling


@pytest.mark.parametrize("calling", [b"KNOWN", b"KNOWN".ljust(16, b"\0"), b" KNOWN"])
def test_padding_does_not_hide_a_known_peer(listen: Listen, calling: bytes) -> None:
    assert (
        answer(listen(calling_ae_titles=("KNOWN",), check_called_ae=True).port, request(calling=calling)) == "accepted"
    )


@pytest.mark.parametrize("pdu", odd_requests().values(), ids=odd_requests())
def test_what_is_read_is_written_conformant(pdu: bytes) -> None:
    try:
        read = AssociationRequest.parse(pdu)
    except ValueError:
        return
    except Exception as error:
        assert type(error).__name__ == "BadInput"
        return
    again = AssociationRequest.parse(read.encode())
    assert (again.calling_ae, again.contexts, again.maximum_length) == (
        read.calling_ae or "?",
        read.contexts,
        read.maximum_length,
    )


def test_a_request_of_countless_items_costs_little(listen: Listen) -> None:
    """Parsed in the thread that accepts connections: it must not be held up."""
    flood = b"".join(item(0x54, b"\x00\x05" + b"1.%03d" % (n % 1000) + b"\1\1") for n in range(4000))
    began = time.monotonic()
    assert answer(listen().port, request(user=flood)) == "accepted"
    assert time.monotonic() - began < 2


def chosen(port: int, *syntaxes: bytes, abstract: bytes = CT) -> tuple[int, str]:
    return contexts_of(exchange(port, request(items=APPLICATION + context(abstract, syntaxes) + USER)))[1]


@pytest.mark.parametrize(
    "odd",
    [
        b"1.2.840.113619.5.2",
        b"2.16.840.1.113709.1.2.2",
        b"1.2.124.113532.3.3",
        b"1.2.840.10008.1.2.4.102",
        b"1.2.840.10008.1.2.4.94",
        b"1.2.840.10008.1.2.4.110",
        b"1.2.840.10008.1.2.4.53",
        b"1.2.840.10008.1.2.6.2",
        b"1.2.840.10008.1.20",
        b"not a uid",
    ],
)
def test_of_several_transfer_syntaxes_one_that_we_decode_is_accepted(listen: Listen, odd: bytes) -> None:
    port = listen().port
    assert chosen(port, odd, IMPLICIT) == (0, IMPLICIT.decode())
    assert chosen(port, odd, odd, b"1.2.840.10008.1.2.4.90", EXPLICIT) == (0, "1.2.840.10008.1.2.4.90")


def test_each_context_gets_its_own_transfer_syntax(listen: Listen) -> None:
    jpeg, private = b"1.2.840.10008.1.2.4.70", b"1.2.840.113619.5.2"
    offered = [(EXPLICIT, IMPLICIT), (IMPLICIT, EXPLICIT), (private,), (private, jpeg), ()]
    contexts = b"".join(context(CT, syntaxes, 2 * n + 1) for n, syntaxes in enumerate(offered))
    found = contexts_of(exchange(listen().port, request(items=APPLICATION + contexts + USER)))
    assert [found[n][0] for n in (1, 3, 5, 7, 9)] == [0, 0, 4, 0, 4]
    assert [found[n][1] for n in (1, 3, 7)] == [EXPLICIT.decode(), IMPLICIT.decode(), jpeg.decode()]


def test_commands_without_pixels_come_uncompressed(listen: Listen) -> None:
    port, jpeg = listen().port, b"1.2.840.10008.1.2.4.70"
    assert chosen(port, jpeg, IMPLICIT, abstract=b"1.2.840.10008.1.20.1") == (0, IMPLICIT.decode())
    assert chosen(port, jpeg, abstract=VERIFICATION)[0] == 4


def test_video_is_kept_and_pixels_that_lie_elsewhere_are_not(listen: Listen, catalogue: Catalogue) -> None:
    port = listen().port
    assert chosen(port, b"1.2.840.10008.1.2.4.102")[0] == 0
    assert chosen(port, b"1.2.840.10008.1.2.4.94")[0] == 4
    wait_for(lambda: [r for r in refusals(catalogue) if "transfer syntaxes not supported" in r and "CT Image" in r])


def test_what_counts_as_decodable_is_what_the_libraries_decode() -> None:
    for uid in AllTransferSyntaxes:
        try:
            decodable = get_decoder(UID(uid)).is_available
        except NotImplementedError:
            decodable = False
        assert decodable == (uid in DECODABLE), uid.name


@pytest.mark.parametrize(
    ("abstract", "result"),
    [
        (VERIFICATION, 0),
        (b"1.2.840.10008.1.20.1", 0),  # storage commitment
        (CT, 0),
        (b"1.2.840.10008.5.1.4.1.1.104.1", 0),  # encapsulated PDF
        (b"1.2.840.10008.5.1.4.1.1.6", 0),  # retired ultrasound
        (b"1.2.840.10008.5.1.4.1.1.999.7", 0),  # a storage class of the future
        (b"1.3.12.2.1107.5.9.1", 0),  # Siemens' CSA Non-Image
        (b"1.2.840.10008.5.1.4.1.2.1.1", 3),  # C-FIND, patient root
        (b"1.2.840.10008.5.1.4.1.2.2.2", 3),  # C-MOVE, study root
        (b"1.2.840.10008.5.1.4.1.2.2.3", 3),  # C-GET
        (b"1.2.840.10008.5.1.4.31", 3),  # worklist
        (b"1.2.840.10008.3.1.2.3.3", 3),  # MPPS
        (b"1.2.840.10008.5.1.1.9", 3),  # print
        (b"1.2.840.10008.5.1.4.34.6.1", 3),  # UPS
        (b"1.2.840.10008.1.20.2", 3),  # storage commitment, pull
        (b"1.2.840.10008.5.1.4.33", 3),  # instance availability
        (b"1.2.840.10008.99.1", 3),  # nothing that anybody knows
    ],
)
def test_classes_that_are_not_served_are_refused_in_the_association(
    listen: Listen, catalogue: Catalogue, abstract: bytes, result: int
) -> None:
    assert chosen(listen().port, IMPLICIT, abstract=abstract)[0] == result
    if result:
        wait_for(lambda: [r for r in refusals(catalogue) if "abstract syntax not supported" in r])


def _silent(sock: socket.socket) -> None:
    assert receive(sock)[:1] == b"\x07"


def _hello(sock: socket.socket, first: bytes) -> None:
    sock.sendall(first)
    assert receive(sock)[:1] == b"\x07"


def _abort(sock: socket.socket) -> None:
    sock.sendall(request())
    receive(sock)
    sock.sendall(b"\x07\x00\x00\x00\x00\x04\x00\x00\x02\x05")


def _half_a_message(sock: socket.socket) -> None:
    sock.sendall(request(items=APPLICATION + context(CT) + USER))
    receive(sock)
    sock.sendall(b"\x04\x00\x00\x00\x00\x0a\x00\x00\x00\x06\x01\x01\x00\x00\x00\x00")


def _fall_silent(sock: socket.socket) -> None:
    sock.sendall(request())
    receive(sock)
    while sock.recv(4096):
        pass


@pytest.mark.parametrize(
    ("settings_of", "behave", "told"),
    [
        (
            {"calling_ae_titles": ("KNOWN",)},
            lambda s: s.sendall(request()),
            ("MODALITY", "reason 3", "calling_ae_titles"),
        ),
        ({"check_called_ae": True}, lambda s: s.sendall(request(b"X")), ("'X'", "reason 7", "check_called_ae")),
        ({}, lambda s: s.sendall(request(version=2)), ("source 2, reason 2",)),
        ({"listener_idle_s": 1.0}, _silent, ("no A-ASSOCIATE-RQ within 1 s",)),
        ({}, lambda s: _hello(s, b"\x16\x03\x01\x02\x00\x01"), ("TLS",)),
        ({}, lambda s: _hello(s, b"GET / HTTP/1.1\r\n\r\n"), ("HTTP",)),
        ({}, lambda s: _hello(s, b"\x01\x00\xff\xff\xff\xff"), ("too large",)),
        ({}, _abort, ("the peer aborted", "source 2, reason 5")),
        ({}, _half_a_message, ("in the middle of a message",)),
        ({"listener_idle_s": 1.0}, _fall_silent, ("too slowly, or nothing", "listener_idle_s")),
    ],
    ids=["stranger", "other", "version", "silent", "TLS", "HTTP", "gigabytes", "abort", "half", "idle"],
)
def test_what_is_refused_or_aborted_is_told(
    listen: Listen,
    catalogue: Catalogue,
    caplog: pytest.LogCaptureFixture,
    settings_of: dict[str, object],
    behave: Callable[[socket.socket], None],
    told: tuple[str, ...],
) -> None:
    peer = listen(**settings_of)
    with caplog.at_level(logging.WARNING), socket.create_connection((peer.host, peer.port), 10) as sock:
        sock.settimeout(10)
        behave(sock)
        if behave not in (_half_a_message,):
            wait_for(lambda: refusals(catalogue))
    wait_for(lambda: refusals(catalogue))
    (reason,) = refusals(catalogue)
    assert all(word in reason for word in (*told, "127.0.0.1")), reason
    assert [record for record in caplog.records if record.name == "radir_pacs.listener.refused"]


def test_the_same_refusal_again_and_again_is_one_row(listen: Listen, catalogue: Catalogue) -> None:
    port = listen(calling_ae_titles=("KNOWN",)).port
    for _ in range(50):
        assert answer(port, request()) == "rejected"
    wait_for(lambda: refusals(catalogue))
    assert answer(port, request(calling=b"OTHER")) == "rejected"
    wait_for(lambda: len(refusals(catalogue)) == 2)


def test_a_scanner_of_ae_titles_fills_no_table(listen: Listen, catalogue: Catalogue) -> None:
    port = listen(calling_ae_titles=("KNOWN",)).port
    for number in range(50):
        assert answer(port, request(calling=b"GUESS%d" % number)) == "rejected"
    wait_for(lambda: len(refusals(catalogue)) == 20)


def test_dcmtk_is_told_why_it_was_rejected(listen: Listen, catalogue: Catalogue) -> None:
    peer = listen(calling_ae_titles=("KNOWN",))
    done = subprocess.run(
        [need("echoscu"), "-aet", "STRANGER", "-aec", "RADIR", peer.host, str(peer.port)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Calling AE Title Not Recognized" in done.stdout + done.stderr
    wait_for(lambda: [row for row in catalogue.refusals.recent() if row.source == "STRANGER"])
