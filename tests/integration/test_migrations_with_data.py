"""Migrations of a database that has rows of every version in every table: nothing fails on them, nothing is lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from radir_pacs.catalogue import Catalogue
from radir_pacs.catalogue import migrate as migrate_module
from radir_pacs.catalogue.migrate import migrate, migrations
from radir_pacs.config import Settings
from radir_pacs.types import StudyState

Connection = psycopg.Connection[Any]
MADE_BY_TRIGGERS = frozenset({"study_search", "study_changed", "blob_usage"})
BY_TYPE = {
    "text": "'{n}'",
    "integer": "{n}",
    "bigint": "{n}",
    "smallint": "1",
    "real": "0.5",
    "double precision": "0.5",
    "boolean": "FALSE",
    "date": "DATE '2026-01-02'",
    "timestamp with time zone": "now()",
    "jsonb": """'{{"00080040": {{"vr": "CS", "Value": ["A"]}}}}'""",
    "text[]": "'{{a}}'",
    "bigint[]": "'{{1}}'",
    "real[]": "'{{1}}'",
    "bytea": "'\\x00000000'",
    "uuid": "gen_random_uuid()",
    "xid8": "pg_current_xact_id()",
    "inet": "'127.0.0.1'",
}
# What a CHECK asks for, or other code reads.
BY_NAME: dict[tuple[str, str], str] = {
    ("model", "kind"): "'CXR'",
    ("model", "active"): "FALSE",
    ("feedback", "verdict"): "'UP'",
    ("report_version", "status"): "'FINAL'",
    ("message", "outcome"): "'DONE'",
    ("message", "answer"): "'AA'",
    ("patient_link", "prior_key"): "'prior {n}'",
    ("access_token", "role"): "'service'",
    ("account", "role"): "'radiologist'",
    ("model_event", "change"): "'REGISTERED'",
    ("image_tokens", "kind"): "'CXR'",
    ("retraining_run", "kind"): "'CXR'",
    ("retraining_run", "depth"): "'head'",
    ("model_quality", "kind"): "'CXR'",
    ("withheld_patient", "degree"): "1",
    ("study_hold", "why"): "'person'",
}
COLUMNS = """
    SELECT t.relname, a.attname, format_type(a.atttypid, a.atttypmod), r.relname, f.attname,
        a.attnotnull AND NOT a.atthasdef OR r.relname IS NOT NULL OR a.attname IN ('active', 'patient_id', 'study_date')
    FROM pg_class AS t
    JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attnum > 0 AND a.attidentity = '' AND NOT a.attisdropped
    LEFT JOIN pg_constraint AS k ON k.conrelid = t.oid AND k.contype = 'f' AND k.conkey = ARRAY[a.attnum]
    LEFT JOIN pg_class AS r ON r.oid = k.confrelid
    LEFT JOIN pg_attribute AS f ON f.attrelid = k.confrelid AND f.attnum = k.confkey[1]
    WHERE t.relkind = 'r' AND t.relnamespace = 'public'::regnamespace
        AND t.relname NOT IN ('schema_version', 'installation')
    ORDER BY t.relname, a.attnum
"""
Columns = list[tuple[Any, ...]]  # name, type, table and column that it refers to, whether a row must say it


def columns_of(connection: Connection) -> dict[str, Columns]:
    found: dict[str, Columns] = {}
    for table, *column in connection.execute(COLUMNS).fetchall():
        found.setdefault(table, []).append(tuple(column))
    return found


def insert_a_row(connection: Connection, table: str, columns: Columns, number: int) -> int:
    """The least that the table asks for: values by type, foreign keys to the newest row there is."""
    names, values = [], []
    for name, kind, other, key in (rest for *rest, must in columns if must):
        names.append(sql.Identifier(name))
        if other:
            found = sql.SQL("(SELECT {0} FROM {1} ORDER BY {0} DESC LIMIT 1)")
            values.append(found.format(sql.Identifier(key), sql.Identifier(other)))
        else:
            template = BY_NAME.get((table, name)) or BY_TYPE[kind]
            values.append(sql.SQL(template.format(n=number)))  # type: ignore[arg-type]
    insert = sql.SQL("INSERT INTO {} ({}) VALUES ({}) ON CONFLICT DO NOTHING").format(
        sql.Identifier(table), sql.SQL(", ").join(names), sql.SQL(", ").join(values)
    )
    return connection.execute(insert).rowcount


def fill(connection: Connection, tables: dict[str, Columns], number: int) -> tuple[list[str], dict[str, str]]:
    """A row more in each table: those that have one, and why others have none."""
    filled: list[str] = []
    left = dict.fromkeys(tables, "")
    for _ in range(4):  # a table waits for those that it refers to
        for table in list(left):
            try:
                with connection.transaction():
                    filled += [table] * insert_a_row(connection, table, tables[table], number)
                del left[table]
            except (psycopg.IntegrityError, KeyError) as error:
                left[table] = str(error)
    return filled, left


@pytest.fixture
def empty(postgres: str) -> Iterator[str]:
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("CREATE DATABASE radir_with_data")
        yield make_conninfo(postgres, dbname="radir_with_data")
        connection.execute("DROP DATABASE radir_with_data WITH (FORCE)")


def test_rows_of_every_version_live_through_all_later_migrations(empty: str) -> None:
    """Each table gets a row as it first was, and one more after each migration that changed it."""
    before: dict[str, Columns] = {}
    filled: Counter[str] = Counter()
    for number in migrations():
        known = {version: text for version, text in migrations().items() if version <= number}
        with patch.object(migrate_module, "migrations", lambda known=known: known):
            migrate(empty)
        with psycopg.connect(empty, autocommit=True) as connection:
            now = columns_of(connection)
            rows, left = fill(connection, {t: c for t, c in now.items() if before.get(t) != c}, 1000 + number)
            assert left == {}, f"after migration {number}"
            filled.update(rows)
            before = now
    assert set(filled) >= set(before) - MADE_BY_TRIGGERS and filled["study"] > 5
    with psycopg.connect(empty) as connection:
        for table, least in filled.items():
            row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))).fetchone()
            assert row is not None and row[0] >= least, table
        studies = connection.execute("SELECT study_uid FROM study").fetchall()
    with Catalogue.open(Settings(home=Path("/nowhere"), database_url=empty)) as catalogue:
        for (study_uid,) in studies:
            assert catalogue.studies.get(study_uid).state is StudyState.RECEIVING
