"""Several web processes on one port: each answers, and none of them is behind the others."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from radir_pacs.catalogue import Catalogue
from radir_pacs.config import Settings, to_environment
from radir_pacs.query import Searcher
from radir_pacs.storage.blobs import BlobStore
from radir_pacs.web.app import create_app
from radir_pacs.web.server import LARGE_REQUESTS, make_server
from tests.catalogue_material import encoded, register
from tests.conftest import free_port
from tests.stack import running_stack

_ANSWER = "/dicom-web/studies/2.25.1/similar?anatomy=chest&limit=200"


def one_to_each(port: int, pids: set[int]) -> dict[int, http.client.HTTPConnection]:
    """An open connection to each of the processes that share the port; which one took it is seen in its sockets."""
    found: dict[int, http.client.HTTPConnection] = {}
    deadline = time.monotonic() + 60
    while found.keys() != pids:
        assert time.monotonic() < deadline, f"only {found.keys()} of {pids} answer"
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            ask(connection, "GET", "/health/live")
        except ConnectionError:  # the first process does not listen yet
            continue
        assert connection.sock is not None
        own = connection.sock.getsockname()[1]
        for pid in pids - found.keys():
            peers = {c.raddr.port for c in psutil.Process(pid).net_connections("tcp") if c.raddr}
            if own in peers:
                found[pid] = connection
    return found


def ask(connection: http.client.HTTPConnection, method: str, path: str) -> tuple[int, bytes]:
    connection.request(method, path, headers={"Accept": "application/dicom+json"})
    answer = connection.getresponse()
    return answer.status, answer.read()


def cases(connection: http.client.HTTPConnection) -> set[str]:
    status, body = ask(connection, "GET", _ANSWER)
    assert status == 200, body
    return {row["0020000D"]["Value"][0] for row in json.loads(body)}


@pytest.fixture
def two(settings: Settings, catalogue: Catalogue) -> Iterator[list[http.client.HTTPConnection]]:
    """Connections to two processes over one catalogue of 30 studies, which both have searched."""
    register(catalogue)
    for study in range(1, 31):
        encoded(catalogue, study)
    shared = replace(settings, web_processes=2, min_cases=1)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RADIR_")}
    with ExitStack() as stack:
        pids = set()
        for name in ("web", "web-2"):
            command = [sys.executable, "-m", "radir_pacs.web", "--name", name]
            process = stack.enter_context(subprocess.Popen(command, env=environment | to_environment(shared)))
            stack.callback(process.kill)
            pids.add(process.pid)
        connections = one_to_each(shared.web_port, pids)
        assert all(len(cases(connection)) == 29 for connection in connections.values())
        yield list(connections.values())


def test_a_deletion_through_one_is_gone_from_the_next_answer_of_the_other(
    two: list[http.client.HTTPConnection],
) -> None:
    for study in range(2, 12):
        through, other = (two[study % 2], two[1 - study % 2])
        assert ask(through, "DELETE", f"/dicom-web/studies/2.25.{study}")[0] == 204
        left = {f"2.25.{number}" for number in range(study + 1, 31)}
        assert cases(other) == left
        assert cases(through) == left


def test_a_committed_encoding_is_in_the_next_answer_of_each(
    two: list[http.client.HTTPConnection], catalogue: Catalogue
) -> None:
    for study in range(31, 36):
        encoded(catalogue, study)
        assert all(cases(connection) == {f"2.25.{number}" for number in range(2, study + 1)} for connection in two)


def test_all_of_them_together_take_no_more_large_bodies_than_one(settings: Settings, catalogue: Catalogue) -> None:
    app = create_app(settings, catalogue, Searcher(catalogue, settings), BlobStore(settings.home / "blobs"))
    for processes in (1, 2, 4):
        server = make_server(app, replace(settings, web_port=free_port(), web_processes=processes))
        server.task_dispatcher.shutdown()
        server.close()
        assert server.guard.most_bytes * processes == LARGE_REQUESTS * settings.max_request_mib << 20
    app.extensions["radir"].decoder.close()


def test_status_shows_each_and_one_that_is_killed_comes_back(tmp_path: Path) -> None:
    """`running_stack` ends them in order."""
    with running_stack(tmp_path / "home", web_processes="2") as stack:
        shown = {p["name"]: p for p in stack.status()["processes"]}
        assert [shown[name]["state"] for name in ("web", "web-2")] == ["UP", "UP"]
        first = {shown[name]["pid"] for name in ("web", "web-2")}
        assert all(ask(one, "GET", "/health/ready")[0] == 200 for one in one_to_each(stack.web_port, first).values())
        assert stack.kill("web-2")
        again = stack.wait(lambda s: any(p["state"] == "UP" and p["restarts"] for p in s["processes"]))
        second = {p["pid"] for p in again["processes"] if p["name"] in ("web", "web-2")}
        assert second != first
        assert len(one_to_each(stack.web_port, second)) == 2
