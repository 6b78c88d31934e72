"""A database that is gone, frozen or back again: reported in seconds, then at once; used at once when it is back."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import requests

from radir_pacs.catalogue import Catalogue, embedded_pid, start_embedded, stop_embedded
from radir_pacs.catalogue.watch import ANSWER_S, CONNECT_S, SLOW_S
from radir_pacs.config import Settings
from radir_pacs.delivery.send import send_files
from radir_pacs.errors import DatabaseAway, StorageFailed
from radir_pacs.storage.blobs import BlobStore
from tests.conftest import free_port
from tests.dicom_files import radiograph, save
from tests.integration.conftest import running
from tests.integration.listening import listening, wait_for

DEADLINE_S = SLOW_S + 2 * ANSWER_S + CONNECT_S  # the kept connection, then a new one
AT_ONCE_S = 0.5


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Settings]:
    """Settings with a Postgres for this test alone, which may be damaged."""
    settings = Settings(home=tmp_path / "home", web_port=free_port(), listener_port=free_port(), web_threads=4)
    start_embedded(settings.home)
    yield settings
    resume(settings)
    stop_embedded(settings.home)


def processes(settings: Settings) -> list[psutil.Process]:
    """The server and its backends."""
    server = psutil.Process(embedded_pid(settings.home))
    return [server, *server.children(recursive=True)]


@contextlib.contextmanager
def frozen(settings: Settings) -> Iterator[None]:
    for process in processes(settings):
        process.suspend()
    try:
        yield
    finally:
        resume(settings)


def resume(settings: Settings) -> None:
    for process in processes(settings):
        with contextlib.suppress(psutil.NoSuchProcess):  # a backend that ended as soon as the server could act
            process.resume()


@contextlib.contextmanager
def gone(settings: Settings) -> Iterator[None]:
    stop_embedded(settings.home)
    try:
        yield
    finally:
        start_embedded(settings.home)


def timed(call: Callable[[], object]) -> float:
    began = time.monotonic()
    call()
    return time.monotonic() - began


def away(catalogue: Catalogue) -> None:
    with pytest.raises(StorageFailed):
        catalogue.processes.all()


def answers(catalogue: Catalogue) -> bool:
    try:
        catalogue.processes.all()
    except StorageFailed:
        return False
    return True


@pytest.mark.parametrize("hurt", [frozen, gone])
def test_the_catalogue_says_so_within_seconds_then_at_once(
    own: Settings, hurt: Callable[[Settings], contextlib.AbstractContextManager[None]]
) -> None:
    with Catalogue.open(own) as catalogue:
        catalogue.processes.all()
        with hurt(own):
            assert timed(lambda: away(catalogue)) < DEADLINE_S
            wait_for(lambda: timed(lambda: away(catalogue)) < 0.05, DEADLINE_S)
            for _ in range(20):
                assert timed(lambda: away(catalogue)) < 0.05
            with pytest.raises(DatabaseAway):
                catalogue.processes.all()
        assert timed(lambda: wait_for(lambda: answers(catalogue), 10)) < 3
        assert timed(catalogue.processes.all) < AT_ONCE_S


def test_who_reads_by_a_spare_connection_is_told(own: Settings) -> None:
    with Catalogue.open(own) as catalogue:

        def read() -> None:
            with pytest.raises(StorageFailed), catalogue._database.transaction(), catalogue._database.spare() as spare:
                assert spare is not None
                with frozen(own):
                    spare.execute("SELECT 1")

        assert timed(read) < DEADLINE_S


def test_everybody_who_waits_is_told(own: Settings) -> None:
    """More threads than connections."""
    with Catalogue.open(own) as catalogue:
        catalogue.processes.all()
        with frozen(own):
            threads = [threading.Thread(target=away, args=(catalogue,)) for _ in range(30)]
            began = time.monotonic()
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(30)
            assert time.monotonic() - began < DEADLINE_S + 1


def test_a_slow_statement_is_let_be(own: Settings) -> None:
    with Catalogue.open(own) as catalogue, catalogue._database.transaction() as connection:
        connection.execute("SELECT pg_sleep(%s)", [SLOW_S + 1.5])
        assert connection.execute("SELECT 1 AS one").fetchone() == {"one": 1}


def test_no_plan_is_compiled_whatever_the_servers_default(own: Settings) -> None:
    with Catalogue.open(own) as catalogue, catalogue._database.transaction() as connection:
        connection.execute("ALTER DATABASE postgres SET jit = on")
    with Catalogue.open(own) as catalogue, catalogue._database.transaction() as connection:
        shown = connection.execute("SELECT current_database() AS name, current_setting('jit') AS jit").fetchone()
    assert shown == {"name": "postgres", "jit": "off"}


def test_connections_that_the_server_ended_cost_nothing(own: Settings) -> None:
    with Catalogue.open(own) as catalogue:
        for _ in range(3):
            with catalogue._database.transaction() as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
                )
            assert answers(catalogue)


@pytest.mark.parametrize("hurt", [frozen, gone])
def test_a_store_and_a_get_are_answered_while_it_is_away(
    own: Settings, hurt: Callable[[Settings], contextlib.AbstractContextManager[None]], tmp_path: Path
) -> None:
    path = save(radiograph(), tmp_path / "a.dcm")
    with (
        Catalogue.open(own) as catalogue,
        listening(own, catalogue, BlobStore(own.home / "blobs")) as (peer, _),
        running(own, catalogue) as web,
    ):
        assert requests.get(web.root + "/health/ready", timeout=10).status_code == 200

        def store() -> None:
            (result,) = send_files([path], peer)
            assert result.status == 0xA700

        def get() -> None:
            answer = requests.get(web.base + "/studies", timeout=30)
            assert answer.status_code in (503, 507), answer.text

        def ready() -> None:
            answer = requests.get(web.root + "/health/ready", timeout=10)
            assert answer.status_code == 503 and "database" in answer.json()["error"]["message"]
            assert int(answer.headers["Retry-After"]) >= 1

        with hurt(own):
            assert timed(ready) < 2
            assert timed(store) < DEADLINE_S + 1
            assert timed(store) < 2  # an association of its own
            assert timed(get) < AT_ONCE_S
            assert timed(ready) < AT_ONCE_S
        wait_for(lambda: requests.get(web.root + "/health/ready", timeout=10).status_code == 200, 3)
        (result,) = send_files([path], peer)
        assert result.status == 0x0000


def test_ready_says_that_the_store_takes_nothing(own: Settings) -> None:
    full = replace(own, min_free_disk_mib=1 << 40)
    with Catalogue.open(full) as catalogue, running(full, catalogue) as web:
        answer = requests.get(web.root + "/health/ready", timeout=10)
        assert answer.status_code == 503
        assert "MiB of disk left" in answer.json()["error"]["message"]


def test_ready_tries_the_disk(own: Settings) -> None:
    with Catalogue.open(own) as catalogue, running(own, catalogue) as web:
        web.blobs.incoming_folder.rename(web.blobs.root / "elsewhere")
        answer = requests.get(web.root + "/health/ready", timeout=10)
        assert answer.status_code == 503 and "store" in answer.json()["error"]["message"]
        (web.blobs.root / "elsewhere").rename(web.blobs.incoming_folder)
        assert requests.get(web.root + "/health/ready", timeout=10).status_code == 200
        assert not list(web.blobs.incoming_folder.iterdir())
