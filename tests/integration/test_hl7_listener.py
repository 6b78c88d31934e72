"""The MLLP listener as senders meet it: real sockets, a real Postgres, peers that are slow, many, rude or killed."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import hl7.client
import pytest

from radir_pacs.catalogue import Catalogue, Outcome
from radir_pacs.config import Settings, to_environment
from radir_pacs.errors import SettingError
from radir_pacs.hl7.server import MllpServer
from radir_pacs.reasons import ReasonCode
from tests.catalogue_material import add, header
from tests.conftest import free_port
from tests.hl7_material import CR, FS, VT, Peer, adt, code, oru

STUDY = "2.25.1"


@contextmanager
def serving(settings: Settings, catalogue: Catalogue) -> Iterator[int]:
    """A listener in a thread of its own; gives its port."""
    loop = asyncio.new_event_loop()
    server = MllpServer(settings, catalogue)
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(server.start(), loop).result(30)
        yield settings.hl7_port
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)


@pytest.fixture
def listen(settings: Settings, catalogue: Catalogue) -> Iterator[Callable[..., int]]:
    settings.home.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:

        def start(**changes: Any) -> int:
            changed = replace(settings, **({"hl7_port": free_port()} | changes))
            return stack.enter_context(serving(changed, catalogue))

        yield start


@pytest.fixture
def study(catalogue: Catalogue) -> None:
    add(catalogue, header(accession_number="A1", patient_key="\\p1"))


def texts(catalogue: Catalogue) -> list[str]:
    return [report.body for report in catalogue.reports.of_study(STUDY)]


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def refusals(catalogue: Catalogue) -> str:
    return " ".join(refusal.reason for refusal in catalogue.refusals.recent())


def test_a_report_is_taken_corrected_and_resent(listen: Callable[..., int], catalogue: Catalogue, study: None) -> None:
    with Peer(listen()) as peer:
        first, second = oru("Large pneumothorax."), oru("No pneumothorax.", control="M2", status="C", minute=5)
        assert code(peer.ask(first)) == "AA" and texts(catalogue) == ["Large pneumothorax."]
        assert code(peer.ask(second)) == "AA" and texts(catalogue) == ["No pneumothorax."]
        assert code(peer.ask(first)) == "AA" and texts(catalogue) == ["No pneumothorax."]
        assert code(peer.ask(oru(control="M3", obx=[]))) == "AE"
        assert code(peer.ask(b"no message")) == "AE"
        assert code(peer.ask(oru("Clear.", control="M4", minute=9))) == "AA", "the others go on"
    assert {message.reason_code for message in catalogue.messages.kept()} == {
        ReasonCode.NO_TEXT,
        ReasonCode.MESSAGE_UNREADABLE,
    }
    assert catalogue.overview().messages == {Outcome.STORED: 3, Outcome.KEPT: 2}


def test_the_client_of_another_package_is_understood(
    listen: Callable[..., int], catalogue: Catalogue, study: None
) -> None:
    with hl7.client.MLLPClient("127.0.0.1", listen()) as client:
        answer = client.send_message(oru("Größere Ergüsse."))
    assert b"MSA|AA|M1" in answer
    assert texts(catalogue) == ["Größere Ergüsse."]


def test_a_batch_is_answered_by_a_batch(listen: Callable[..., int], catalogue: Catalogue, study: None) -> None:
    messages = [oru("One."), oru("Two.", control="M2", filler="F2"), oru(control="M3", filler="F3", obx=[])]
    batch = b"FHS|^~\\&|RIS\rBHS|^~\\&|RIS|H|||||||||B1\r" + b"".join(messages) + b"BTS|3\rFTS|1\r"
    with Peer(listen()) as peer:
        answer = peer.ask(batch)
    assert [code(b"MSA" + part) for part in answer.split(b"\rMSA")[1:]] == ["AA", "AA", "AE"]
    assert answer.startswith(b"FHS") and texts(catalogue) == ["One.", "Two."]


def test_messages_sent_without_waiting_are_answered_in_order(
    listen: Callable[..., int], catalogue: Catalogue, study: None
) -> None:
    with Peer(listen()) as peer:
        stream = b"".join(VT + oru(f"Text {n}.", control=f"M{n}", minute=n) + FS + CR for n in range(20))
        threading.Thread(target=peer.sock.sendall, args=(stream,), daemon=True).start()
        answers = [peer.answer() for _ in range(20)]
    assert [f"|M{n}".encode() in answer for n, answer in enumerate(answers)] == [True] * 20
    assert texts(catalogue) == ["Text 19."]


def test_patients_move(listen: Callable[..., int], catalogue: Catalogue, study: None) -> None:
    with Peer(listen()) as peer:
        assert code(peer.ask(adt("A40", "p2", "p1"))) == "AA"
        assert catalogue.studies.get(STUDY).patient_id == "p2"
        assert code(peer.ask(oru("Clear.", patient="p1"))) == "AA" and texts(catalogue) == ["Clear."]
        assert code(peer.ask(adt("A37", "p2", "p1", control="ADT2"))) == "AA"
        assert catalogue.studies.get(STUDY).patient_id == "p1"
        assert code(peer.ask(adt("A08", "p1", name="Neu^Anna", control="ADT3"))) == "AA"
        assert catalogue.studies.get(STUDY).patient_name == "Neu^Anna"


# -- Who may come --


def test_other_hosts_are_refused_unless_they_are_named(settings: Settings, catalogue: Catalogue) -> None:
    may = lambda host, **said: MllpServer(replace(settings, **said), catalogue)._may_come(host)  # noqa: E731
    assert may("127.0.0.1") and may("::1") and may("::ffff:127.0.0.1")
    assert not may("192.0.2.7") and not may("") and not may("fe80::1%eth0")
    assert may("192.0.2.7", hl7_hosts=("192.0.2.0/24",)) and may("::ffff:192.0.2.7", hl7_hosts=("192.0.2.7",))
    with pytest.raises(SettingError, match="hl7_hosts"):
        replace(settings, hl7_hosts=("everybody",))


def test_an_application_that_is_not_named_is_rejected(listen: Callable[..., int], catalogue: Catalogue) -> None:
    with Peer(listen(hl7_senders=("OTHER",))) as peer:
        answer = peer.ask(oru())
    assert code(answer) == "AR" and b"hl7_senders" in answer
    assert catalogue.overview().waiting_reports == 0


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for 127.0.0.1, and one for a client."""
    folder = tmp_path_factory.mktemp("tls")
    for name in ("server", "client"):
        subprocess.run(
            [
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
                "-keyout",
                str(folder / f"{name}.key"),
                "-out",
                str(folder / f"{name}.pem"),
                "-days",
                "2",
                "-subj",
                f"/CN={name}",
                "-addext",
                "subjectAltName=IP:127.0.0.1",
            ],
            check=True,
            capture_output=True,
        )
    return folder


def test_tls_with_certificates_on_both_sides(
    listen: Callable[..., int], catalogue: Catalogue, study: None, certificates: Path
) -> None:
    server, client = certificates / "server.pem", certificates / "client.pem"
    port = listen(
        hl7_tls_certificate=str(server),
        hl7_tls_key=str(certificates / "server.key"),
        hl7_tls_client_ca=str(client),
    )
    context = ssl.create_default_context(cafile=str(server))
    with (
        pytest.raises((ssl.SSLError, OSError)),
        context.wrap_socket(
            socket.create_connection(("127.0.0.1", port), timeout=30), server_hostname="127.0.0.1"
        ) as stranger,
    ):
        stranger.sendall(VT + oru() + FS + CR)
        assert stranger.recv(1) == b"", "no answer without a certificate"
        raise OSError
    context.load_cert_chain(client, certificates / "client.key")
    with Peer(port) as peer:
        peer.sock = context.wrap_socket(peer.sock, server_hostname="127.0.0.1")
        assert code(peer.ask(oru("Clear."))) == "AA"
    assert texts(catalogue) == ["Clear."]
    with Peer(port) as plain:
        plain.send(oru())
        assert plain.answer() == b""


def test_connections_that_never_shake_hands_give_way(
    listen: Callable[..., int], study: None, certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("radir_pacs.hl7.server._HANDSHAKE_S", 600.0)
    server = certificates / "server.pem"
    port = listen(hl7_tls_certificate=str(server), hl7_tls_key=str(certificates / "server.key"), hl7_max_connections=8)
    with ExitStack() as stack:
        crowd = [stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60)) for _ in range(40)]
        wait_for(lambda: still_open(crowd) <= 6)
        peer = stack.enter_context(Peer(port, timeout_s=60))
        peer.sock = ssl.create_default_context(cafile=str(server)).wrap_socket(peer.sock, server_hostname="127.0.0.1")
        assert code(peer.ask(oru("Clear."))) == "AA"


def still_open(crowd: list[socket.socket]) -> int:
    count = 0
    for sock in crowd:
        sock.setblocking(False)
        try:
            count += bool(sock.recv(1))
        except BlockingIOError:
            count += 1
        except OSError:
            pass
    return count


def test_a_certificate_that_cannot_be_read_stops_the_start(listen: Callable[..., int], tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="hl7_tls_certificate"):
        listen(hl7_tls_certificate=str(tmp_path / "none.pem"))


# -- Bounds --


def test_a_message_that_drips_is_ended_and_others_go_on(
    listen: Callable[..., int], catalogue: Catalogue, study: None
) -> None:
    port = listen(hl7_message_s=1.0)
    with Peer(port) as slow, Peer(port) as other:
        slow.sock.sendall(VT + b"MSH")
        began = time.monotonic()
        gone = threading.Event()

        def drip() -> None:
            try:
                while time.monotonic() < began + 20:
                    slow.sock.sendall(b"|")
                    gone.wait(0.1)
            except OSError:
                pass

        dripping = threading.Thread(target=drip)
        dripping.start()
        assert code(other.ask(oru("Clear."))) == "AA"
        with suppress(ConnectionError):
            assert slow.sock.recv(1) == b""
        assert time.monotonic() - began < 10
        gone.set()
        dripping.join(30)
        assert code(other.ask(oru("Clear.", control="M2"))) == "AA"
    wait_for(lambda: "hl7_message_s" in refusals(catalogue))


def test_a_connection_that_rests_too_long_is_ended(listen: Callable[..., int]) -> None:
    with Peer(listen(hl7_idle_s=1.0)) as peer:
        assert code(peer.ask(oru())) == "AA"
        assert peer.answer() == b""


def test_a_message_too_large_is_rejected(listen: Callable[..., int], catalogue: Catalogue) -> None:
    with Peer(listen(hl7_max_message_mib=1)) as peer:
        threading.Thread(target=lambda: _send_quietly(peer, VT + b"MSH|^~\\&|" + b"A" * (3 << 20)), daemon=True).start()
        try:
            answer = peer.answer()
        except ConnectionError:  # our end was closed while the peer still sent
            answer = b""
    assert code(answer) in ("AR", "")
    wait_for(lambda: "hl7_max_message_mib" in refusals(catalogue))
    assert catalogue.overview().messages == {}


def _send_quietly(peer: Peer, data: bytes) -> None:
    with suppress(OSError):
        peer.sock.sendall(data)


def test_half_a_message_is_no_message(listen: Callable[..., int], catalogue: Catalogue, study: None) -> None:
    port = listen()
    with Peer(port) as peer:
        peer.sock.sendall(VT + oru("Half.")[:-20])
    wait_for(lambda: "in the middle" in refusals(catalogue))
    assert texts(catalogue) == []
    with Peer(port) as peer:
        assert code(peer.ask(oru("Whole."))) == "AA"


def test_away_is_said_and_nothing_is_lost(
    listen: Callable[..., int], catalogue: Catalogue, study: None, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    port = listen(min_free_disk_mib=1 << 30)
    with Peer(port) as peer:
        answer = peer.ask(oru("Clear."))
    assert code(answer) == "AR" and b"send it again" in answer
    assert catalogue.overview().messages == {}
    with Peer(listen()) as peer:
        assert code(peer.ask(oru("Clear."))) == "AA"


def test_messages_at_once_on_many_connections(listen: Callable[..., int], catalogue: Catalogue, study: None) -> None:
    port = listen()
    answers: list[str] = []

    def send(number: int) -> None:
        with Peer(port) as peer:
            for minute in range(5):
                control = f"M{number % 4}.{minute}"  # each comes twice, at once
                answers.append(
                    code(peer.ask(oru(f"Text {minute}.", control=control, minute=minute, filler=f"F{number % 4}")))
                )

    threads = [threading.Thread(target=send, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers == ["AA"] * 40
    assert texts(catalogue) == ["Text 4."], "four documents say the same"
    assert catalogue.overview().messages == {Outcome.STORED: 20}


# -- Kills --


@contextmanager
def process(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    settings.home.mkdir(parents=True, exist_ok=True)
    started = subprocess.Popen(
        [sys.executable, "-m", "radir_pacs.hl7"],
        env=os.environ | to_environment(settings),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield started
    finally:
        started.kill()
        started.wait(30)


def connected(port: int) -> Peer:
    deadline = time.monotonic() + 60
    while True:
        try:
            return Peer(port)
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_what_was_acknowledged_survives_kill_9_and_a_resend_counts_once(
    settings: Settings, catalogue: Catalogue
) -> None:
    """Killed between receipt and answer, again and again: the sender repeats what was not answered."""
    settings = replace(settings, hl7_port=free_port())
    messages = [oru(f"Report {n}.", control=f"M{n}", filler=f"F{n}", accession=f"A{n}") for n in range(30)]
    answered = 0
    kills = 0
    while answered < len(messages):
        with process(settings) as listener, connected(settings.hl7_port) as peer:
            killed = False
            while answered < len(messages) and not killed:
                peer.send(messages[answered])
                if answered % 7 == 6 and kills <= answered // 7:
                    os.kill(listener.pid, signal.SIGKILL)
                    kills += 1
                    killed = True
                try:
                    answer = peer.answer()
                except ConnectionError:
                    answer = b""
                if code(answer) == "AA":
                    answered += 1
                else:
                    assert killed, answer
    assert kills == 4
    overview = catalogue.overview()
    assert overview.messages == {Outcome.WAITING: 30} and overview.waiting_reports == 30
