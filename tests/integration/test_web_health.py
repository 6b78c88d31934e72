"""Probes."""

from __future__ import annotations

import threading

import psycopg
import pytest
import requests
from psycopg.conninfo import conninfo_to_dict

from radir_pacs.errors import NotReady
from radir_pacs.web.probe import Probe
from tests.integration.conftest import Web
from tests.integration.test_web_server import wait_for


def test_live_and_ready(web: Web) -> None:
    assert requests.get(web.root + "/health/live", timeout=30).json() == {"status": "live"}
    assert requests.get(web.root + "/health/ready", timeout=30).json() == {"status": "ready"}


def test_without_the_database_it_lives_but_is_not_ready(web: Web, postgres: str) -> None:
    name = conninfo_to_dict(web.settings.database_url)["dbname"]
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false".encode())
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        try:
            for _ in range(3):
                answer = requests.get(web.root + "/health/ready", timeout=60)
                assert (answer.status_code, answer.json()["error"]["code"]) == (503, "not_ready")
                assert answer.elapsed.total_seconds() < 2
            assert requests.get(web.root + "/health/live", timeout=30).status_code == 200
        finally:
            connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true".encode())
    wait_for(lambda: requests.get(web.root + "/health/ready", timeout=60).status_code == 200)


def test_probes_of_a_part_that_hangs_do_not_pile_up() -> None:
    asked, release = [], threading.Event()

    def hang() -> None:
        asked.append(1)
        release.wait(30)

    probe = Probe("part", hang)
    try:
        for _ in range(5):
            with pytest.raises(NotReady):
                probe.check(0.01)
        assert len(asked) == 1
    finally:
        release.set()
    wait_for(lambda: not [thread for thread in threading.enumerate() if thread.name == "probe"])
    probe.check(5)
    assert len(asked) == 2
