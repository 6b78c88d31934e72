"""Ports that systemd has opened and hands over, by its protocol (sd_listen_fds(3)) and without it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from radir_pacs import handed_sockets
from radir_pacs.catalogue import Catalogue
from radir_pacs.config import Settings, to_environment
from radir_pacs.delivery.destination import Destination
from radir_pacs.delivery.echo import echo
from tests.certificates import Authority
from tests.conftest import free_port
from tests.hl7_material import Peer, oru

_HANDS_OVER = """
import os, sys
count = int(sys.argv[1])
for number in range(count):
    os.dup2(int(sys.argv[2 + number]), 3 + number)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(count)}
os.execv(sys.executable, [sys.executable, "-m", "radir_pacs.cli", *sys.argv[2 + count:]])
"""
_START_S = 120.0
_OUT_OF_THE_WAY = 100  # descriptors from here on are none of those that are handed over


@contextmanager
def opened(*ports: int) -> Iterator[list[socket.socket]]:
    """What systemd holds for a unit, whether it runs or not."""
    with contextlib.ExitStack() as held:
        yield [held.enter_context(socket.create_server(("127.0.0.1", port))) for port in ports]


@contextmanager
def served(settings: Settings, sockets: Sequence[socket.socket], *roles: str) -> Iterator[subprocess.Popen[bytes]]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RADIR_")}
    environment |= to_environment(settings) | {"RADIR_LOG_TO": "stderr"}
    settings.home.mkdir(exist_ok=True)
    copies = [fcntl.fcntl(one, fcntl.F_DUPFD, _OUT_OF_THE_WAY) for one in sockets]
    words = [str(len(copies)), *map(str, copies), "serve", *roles, "--machine", "one"]
    with (settings.home / "serve.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", _HANDS_OVER, *words], env=environment, pass_fds=copies, stdout=log, stderr=log
        )
    for copy in copies:
        os.close(copy)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def calling(port: int) -> socket.socket:
    """A connection to the web service, with its request."""
    made = socket.create_connection(("127.0.0.1", port), timeout=_START_S)
    made.sendall(b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
    return made


def test_who_calls_before_a_start_waits_and_every_port_is_served(
    settings: Settings, catalogue: Catalogue, tmp_path: Path
) -> None:
    """Also where several processes share a port, and again after a restart."""
    house = Authority(tmp_path, "house")
    own = house.issue("radir")
    settings = replace(
        settings,
        listener_port=free_port(),
        listener_tls_port=free_port(),
        listener_tls_certificate=str(own.certificate),
        listener_tls_key=str(own.key),
        listener_processes=2,
        web_port=free_port(),
        web_processes=2,
        hl7_port=free_port(),
    )
    plain = Destination(ae_title=settings.ae_title, host="127.0.0.1", port=settings.listener_port)
    over_tls = replace(plain, port=settings.listener_tls_port)
    ports = (settings.listener_port, settings.listener_tls_port, settings.web_port, settings.hl7_port)
    with opened(*ports) as sockets:
        for _ in range(2):
            with calling(settings.web_port) as early, served(settings, sockets, "listener", "web", "hl7") as process:
                assert early.recv(100).startswith(b"HTTP/1.1 200")
                echo(plain, settings, timeout_s=_START_S)
                echo(
                    over_tls,
                    replace(settings, listener_tls_client_ca=str(house.file)),
                    over_tls=True,
                    timeout_s=_START_S,
                )
                with Peer(settings.hl7_port, timeout_s=_START_S) as ris:
                    assert b"MSA|" in ris.ask(oru())
                process.terminate()
                assert process.wait(60) == 0
    said = (settings.home / "serve.log").read_text()
    assert "cannot be" not in said, said


@pytest.mark.parametrize("changed", ["port", "host"])
def test_an_address_that_no_setting_names_ends_the_start_and_turns_away_who_waits(
    settings: Settings, catalogue: Catalogue, changed: str
) -> None:
    """As after a change of either: systemd would start it again for the first that waits, without end; and a service
    that was narrowed to loopback, which needs no token there, would go on being open to all."""
    port = free_port()
    if changed == "host":
        settings = replace(settings, listener_port=port)
    host = "127.0.0.1" if changed == "port" else "0.0.0.0"
    with (
        socket.create_server((host, port)) as held,
        calling(port) as waits,
        served(settings, [held], "listener") as process,
    ):
        assert process.wait(60) == 78
        with pytest.raises(ConnectionResetError):
            waits.recv(100)
    assert f"{host}:{port} is open for us" in (settings.home / "serve.log").read_text()


def test_one_port_at_two_addresses_is_two_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)) as one, socket.create_server(("127.0.0.2", port)) as other:
        first = fcntl.fcntl(one, fcntl.F_DUPFD, _OUT_OF_THE_WAY)
        os.dup2(other.fileno(), first + 1)
        monkeypatch.setattr(handed_sockets, "_FIRST", first)
        monkeypatch.setenv("LISTEN_FDS", "2")
        monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
        assert handed_sockets.without([("127.0.0.1", port)]) == {("127.0.0.2", port)}
        assert handed_sockets.has("127.0.0.1", port) and not handed_sockets.has("127.0.0.1", port + 1)
        for copy in (first, first + 1):
            os.close(copy)


def test_what_was_handed_to_another_process_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    with opened(port) as [listening]:
        monkeypatch.setattr(handed_sockets, "_FIRST", listening.fileno())
        monkeypatch.setenv("LISTEN_FDS", "1")
        found = {}
        for whose in (os.getpid(), os.getppid(), 1 << 22):
            monkeypatch.setenv("LISTEN_PID", str(whose))
            found[whose] = handed_sockets.descriptors()
        ours = {("127.0.0.1", port): listening.fileno()}
        assert found == {os.getpid(): ours, os.getppid(): ours, 1 << 22: {}}


def test_what_is_no_socket_that_listens_by_tcp_is_left_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "1")
    ours, theirs = socket.socketpair()
    with (tmp_path / "file").open("wb") as file, ours, theirs:
        for one in (file, ours):
            monkeypatch.setattr(handed_sockets, "_FIRST", one.fileno())
            assert handed_sockets.descriptors() == {} and handed_sockets.at("127.0.0.1", 0) is None
        monkeypatch.setenv("LISTEN_FDS", "many")
        assert handed_sockets.descriptors() == {}
