"""Fixtures with real parts: one embedded Postgres per session, a database per test."""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import shutil
import socket
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from xdist.scheduler import LoadFileScheduling

from radir_pacs.catalogue import Catalogue, embedded
from radir_pacs.catalogue.migrate import migrate
from radir_pacs.config import Settings
from tests.services import need, of_system

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from xdist.workermanage import WorkerController

# WebGL is drawn by SwiftShader. Pages are put together without it: that takes half the processor time, and draws alike.
CHROMIUM_FLAGS = [
    *("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-sandbox"),
    *("--disable-gpu-rasterization", "--disable-gpu-compositing"),
]
CHROMIUM_SHELL = "chromium-headless-shell"
_TEMPLATE = "radir_template"
_numbers = itertools.count(1)
_ports = itertools.count()
_ROOM = 2 << 30
_FIRST_PORT, _PORTS_PER_PROCESS = 10_000, 2_000
hypothesis.settings.register_profile("quick", max_examples=20)  # of `make unit`; see tests.examples
_TOGETHER = ("tests/acceptance/orthanc/", "tests/viewer/")
_WITH_SERVICES = frozenset({"integration", "acceptance", "fault", "viewer"})


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """Connection string of a fresh embedded Postgres; its database "radir_template" is migrated."""
    home = Path(tempfile.mkdtemp(prefix="radir-test-", dir=memory_folder()))
    conninfo = embedded.start(home)
    with psycopg.connect(conninfo, autocommit=True) as connection:
        for setting in ("fsync", "full_page_writes", "synchronous_commit"):  # a test's data need survive no power cut
            connection.execute(f"ALTER SYSTEM SET {setting} = off")
        connection.execute("SELECT pg_reload_conf()")
        connection.execute(f"CREATE DATABASE {_TEMPLATE}")
    migrate(make_conninfo(conninfo, dbname=_TEMPLATE))
    yield conninfo
    embedded.stop(home)
    shutil.rmtree(home, ignore_errors=True)


def memory_folder() -> Path | None:
    """A file system in memory with room for the databases, where there is one.

    A database is some 600 files. On ext4, creating them just after another database was dropped takes longer than
    most tests: the kernel passes over inodes that were freed a short time ago.
    """
    folder = Path("/dev/shm")
    has_room = folder.is_dir() and os.access(folder, os.W_OK) and shutil.disk_usage(folder).free > _ROOM
    return folder if has_room else None


class Maintenance:
    """A connection that makes and drops databases: to connect costs Postgres a third of what they do.

    One that a test has lost is made anew, so that no later test fails for it.
    """

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self._connection = psycopg.connect(conninfo, autocommit=True)

    def execute(self, statement: str) -> None:
        try:
            self._connection.execute(statement.encode())
        except psycopg.OperationalError:
            if not self._connection.closed:
                raise
            self._connection = psycopg.connect(self._conninfo, autocommit=True)
            self._connection.execute(statement.encode())

    def close(self) -> None:
        self._connection.close()


@pytest.fixture(scope="session")
def maintenance(postgres: str) -> Iterator[Maintenance]:
    connection = Maintenance(postgres)
    yield connection
    connection.close()


@pytest.fixture
def database_url(postgres: str, maintenance: Maintenance) -> Iterator[str]:
    """Connection string of an empty, migrated database for this test."""
    name = f"radir_test_{next(_numbers)}"
    maintenance.execute(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE} STRATEGY file_copy")
    yield make_conninfo(postgres, dbname=name)
    maintenance.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    """Settings with a home folder, a database and free ports for this test, and short waits."""
    return Settings(
        home=tmp_path / "home",
        database_url=database_url,
        listener_port=free_port(),
        listener_processes=1,
        web_port=free_port(),
        quiet_period_s=0.2,
        relay_interval_s=0.05,
        device="cpu",
        torch_threads=1,
        web_processes=1,
        quality_weekly=False,  # what begins at night would begin in tests at night
    )


@pytest.fixture
def catalogue(settings: Settings) -> Iterator[Catalogue]:
    with Catalogue.open(settings) as opened:
        yield opened


def free_port() -> int:
    """A loopback port for this test process alone, below those that the kernel gives to outgoing connections.

    A port that the kernel named free could be another connection's before its server starts.
    """
    while True:
        port = _FIRST_PORT + _PORTS_PER_PROCESS * _worker_number() + (os.getpid() + next(_ports)) % _PORTS_PER_PROCESS
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _worker_number() -> int:
    """Of this pytest-xdist worker: gw0, gw1 …; 0 without one."""
    return int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is imported and collected stays. Looking through it for garbage took an eighth of the time of collecting."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What talks to real services is tried once more after a failure; the summary lists it as RERUN."""
    for item in items:
        if _WITH_SERVICES.intersection(item.path.relative_to(Path(__file__).parent).parts[:1]):
            item.add_marker(pytest.mark.flaky(reruns=1))


class _Together(LoadFileScheduling):
    """Files go to processes whole, and some folders too: what their conftest.py starts serves all of their files.

    Every second process takes them from the end of the list, so that what waits for services (named first) runs beside
    what computes (named last): together they keep the cores busy, and the short files in between come last.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return next((folder for folder in _TOGETHER if file.startswith(folder)), file)

    def _assign_work_unit(self, node: WorkerController) -> None:
        if int(node.gateway.id.removeprefix("gw")) % 2:
            self.workqueue.move_to_end(next(reversed(self.workqueue)), last=False)
        super()._assign_work_unit(node)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling | None:
    return _Together(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The system's Chromium, one per test process: Playwright starts only once in a process.

    Debian's shell is the same engine without a browser's window, bars and menus, which nobody sees here and which take
    a third of the processor time.
    """
    from playwright.sync_api import sync_playwright  # the quick tests need not load it

    path = of_system(CHROMIUM_SHELL) or need("chromium")  # only Debian packs the shell
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=CHROMIUM_FLAGS)
        yield started
        started.close()
