"""Ten thousand connections at the MLLP listener: it keeps few, its memory and file handles stay bounded, and a sender
that holds one connection is served all the while."""

from __future__ import annotations

import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import psutil
import pytest

from radir_pacs.catalogue import Catalogue, Outcome
from radir_pacs.config import Settings
from radir_pacs.errors import SettingError
from radir_pacs.hl7.connections import BACKLOG, make_room
from tests.conftest import free_port
from tests.hl7_material import VT, Peer, code, oru
from tests.integration.test_hl7_listener import connected, process

CROWD = 10_000
ROUNDS = 10
HOSTS = 20  # of the crowd, all on the loopback interface
MOST = 64  # connections that are kept, as by default


@contextmanager
def many_handles(count: int) -> Iterator[int]:
    """Let this process open so many files more, or as many as the system allows; gives how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + 1024 if hard == resource.RLIM_INFINITY else min(count + 1024, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    try:
        yield wanted - 1024
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def knock(port: int, number: int) -> socket.socket:
    """A connection that is begun, not awaited."""
    sock = socket.socket()
    sock.setblocking(False)
    sock.bind((f"127.1.0.{1 + number % HOSTS}", 0))
    sock.connect_ex(("127.0.0.1", port))
    return sock


def test_a_crowd_gives_way_to_who_sends(settings: Settings, catalogue: Catalogue) -> None:
    settings = replace(settings, hl7_port=free_port(), hl7_max_connections=MOST)
    with (
        process(settings) as listener,
        many_handles(CROWD) as allowed,
        ExitStack() as crowd,
        connected(settings.hl7_port) as sender,
    ):
        sender.sock.settimeout(120)
        assert code(sender.ask(oru(control="M0"))) == "AA"
        watched = psutil.Process(listener.pid)
        before_bytes, before_handles = watched.memory_info().rss, watched.num_fds()
        handles = grown_bytes = 0
        a_round = min(CROWD, allowed) // ROUNDS
        for turn in range(1, ROUNDS + 1):
            for number in range(a_round):
                crowd.enter_context(knock(settings.hl7_port, number))
            assert code(sender.ask(oru(f"Text {turn}.", control=f"M{turn}", minute=turn))) == "AA", "it holds one"
            handles = max(handles, watched.num_fds() - before_handles)
            grown_bytes = max(grown_bytes, watched.memory_info().rss - before_bytes)
        with Peer(settings.hl7_port, timeout_s=120) as newcomer:
            assert code(newcomer.ask(oru("Clear.", control="N", minute=30))) == "AA"
        print(f"{a_round * ROUNDS} connections: {handles} file handles, {grown_bytes >> 20} MiB more")
        assert handles <= MOST + 4 * BACKLOG
        assert grown_bytes < 64 << 20
    assert catalogue.overview().messages == {Outcome.WAITING: ROUNDS + 2}


def test_half_messages_of_one_machine_leave_room(settings: Settings, catalogue: Catalogue) -> None:
    """Connections in the middle of a message do not give way; those of one address hold three quarters at most."""
    settings = replace(settings, hl7_port=free_port(), hl7_max_connections=8)
    with process(settings), connected(settings.hl7_port), ExitStack() as crowd:
        for _ in range(40):
            sock = crowd.enter_context(socket.create_connection(("127.0.0.1", settings.hl7_port), 60, ("127.1.0.1", 0)))
            sock.sendall(VT + b"MSH|^~\\&|")
        with Peer(settings.hl7_port, timeout_s=60) as sender:
            assert code(sender.ask(oru())) == "AA"


def test_more_connections_than_file_handles_stop_the_start() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        pytest.skip("the system sets no limit")
    with pytest.raises(SettingError, match="hl7_max_connections"):
        make_room(hard)
