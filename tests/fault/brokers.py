"""Brokers for a single test, on free loopback ports, ended by their process ids."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import free_port
from tests.services import need, need_module


@contextlib.contextmanager
def broker(kind: str) -> Iterator[str]:
    """Its URL, as the setting ``broker_url`` takes it; empty for pgmq, which lives in the catalogue's Postgres."""
    if kind == "pgmq":
        yield ""
        return
    folder = Path(tempfile.mkdtemp(prefix=f"radir-{kind}-"))
    try:
        with (_redis if kind == "redis" else _rabbitmq)(folder) as url:
            yield url
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _redis(folder: Path) -> Iterator[str]:
    need_module("redis")
    port = free_port()
    arguments = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(folder)]
    with _running([need("redis-server"), *arguments], folder, dict(os.environ)):
        _wait_for(port, 20)
        yield f"redis://127.0.0.1:{port}/0"


@contextlib.contextmanager
def _rabbitmq(folder: Path) -> Iterator[str]:
    need("rabbitmq-server")
    program = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")  # the one on PATH changes to the user rabbitmq
    epmd = need("epmd")
    if not program.exists():
        pytest.skip("rabbitmq-server is not where Debian puts it")
    port, epmd_port = free_port(), free_port()
    environment = os.environ | {
        "HOME": str(folder),
        "ERL_EPMD_PORT": str(epmd_port),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": f"radir{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_CONF_ENV_FILE": str(folder / "none"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +S 1:1",
    }
    (folder / "plugins").write_text("[].\n")
    with _running([epmd], folder, environment), _running([str(program)], folder, environment):
        _wait_for(port, 90)
        yield f"amqp://guest:guest@127.0.0.1:{port}//"


@contextlib.contextmanager
def _running(command: list[str], folder: Path, environment: dict[str, str]) -> Iterator[None]:
    with (folder / "output").open("ab") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_for(port: int, limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    pytest.fail(f"the broker does not answer on port {port}")
