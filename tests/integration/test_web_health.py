"""Probes."""

from __future__ import annotations

import psycopg
import requests
from psycopg.conninfo import conninfo_to_dict

from tests.integration.conftest import Web


def test_live_and_ready(web: Web) -> None:
    assert requests.get(web.root + "/health/live", timeout=30).json() == {"status": "live"}
    assert requests.get(web.root + "/health/ready", timeout=30).json() == {"status": "ready"}


def test_without_the_database_it_lives_but_is_not_ready(web: Web, postgres: str) -> None:
    web.catalogue._database._pool.timeout = 0.5  # of 10 s that it would wait
    name = conninfo_to_dict(web.settings.database_url)["dbname"]
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false".encode())
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        try:
            answer = requests.get(web.root + "/health/ready", timeout=60)
            assert (answer.status_code, answer.json()["error"]["code"]) == (507, "storage_failed")
            assert requests.get(web.root + "/health/live", timeout=30).status_code == 200
        finally:
            connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true".encode())
