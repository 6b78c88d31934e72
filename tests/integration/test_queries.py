"""Every named query is commented, used, and understood by the server."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest

import radir_pacs.catalogue
from radir_pacs.catalogue.queries import QUERIES, parse

TREE = Path(__file__).parents[2]
_PLACEHOLDER = re.compile(r"%\((\w+)\)s")


def prepared(query: bytes) -> bytes:
    """The statement with numbered placeholders, as the server parses it."""
    numbers: dict[str, int] = {}
    text = _PLACEHOLDER.sub(lambda m: f"${numbers.setdefault(m[1], len(numbers) + 1)}", query.decode())
    return text.replace("%%", "%").encode()


@pytest.mark.parametrize("name", QUERIES)
def test_the_server_understands(name: str, database_session: psycopg.Connection) -> None:
    if QUERIES[name].startswith(b"LOCK"):
        database_session.execute(QUERIES[name])
        return
    result = database_session.pgconn.prepare(b"", prepared(QUERIES[name]))
    assert result.status == psycopg.pq.ExecStatus.COMMAND_OK, result.error_message.decode()


@pytest.fixture(scope="module")
def database_session(postgres: str):  # type: ignore[no-untyped-def]
    with psycopg.connect(postgres, dbname="postgres", autocommit=False) as connection:
        connection.execute("CREATE SCHEMA queries_test; SET search_path TO queries_test")
        from radir_pacs.catalogue.migrate import schema

        connection.execute(schema().encode())
        yield connection
        connection.rollback()


def test_every_query_is_used() -> None:
    folder = Path(radir_pacs.catalogue.__file__).parent
    program = "".join(path.read_text() for path in folder.glob("*.py"))
    assert [name for name in QUERIES if f'"{name}"' not in program] == []


def test_what_tests_and_benchmarks_name_is_there() -> None:
    programs = [path.read_text() for room in ("tests", "benchmarks") for path in (TREE / room).rglob("*.py")]
    named = {name for program in programs for name in re.findall(r'QUERIES\["(\w+)"\]', program)}
    assert named and named <= QUERIES.keys()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("-- name: a\n-- One.\nSELECT 1;\n-- name: a\n-- Two.\nSELECT 2;", "named twice"),
        ("-- name: a\nSELECT 1;", "no comment"),
        ("-- name: a\n-- Two.\nSELECT 1; SELECT 2;", "not one statement"),
        ("-- name: a\n-- Open.\nSELECT 1", "not one statement"),
    ],
)
def test_a_sloppy_file_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse(text)
