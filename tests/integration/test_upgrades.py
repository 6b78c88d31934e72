"""A database of every earlier version, with data in it, becomes one of today, and says what it said before.

The rows are those of one study with all that belongs to it. At an earlier version it has the tables and columns that
there were; what a migration is to make of particular values is tested beside it, in test_migrations.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import date
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg.types.json import Jsonb

from radir_pacs.catalogue import Catalogue
from radir_pacs.catalogue.migrate import migrate, migrations
from radir_pacs.config import Settings
from radir_pacs.errors import StorageFailed

UID, SHA256, MODEL = "2.25.1", "ab" * 32, "cxr-1"
_numbers = itertools.count(1)

# In the order of their references. Values of columns that are generated are left out.
ROWS: list[tuple[str, dict[str, Any]]] = [
    (
        "study",
        {
            "study_uid": UID,
            "state": "INDEXED",
            "revision": 3,
            "patient_key": "|p1",
            "patient_keys": ["|p1"],
            "patient_id": "p1",
            "patient_name": "Müller^Änne",
            "patient_name_folded": "muller^anne",
            "patient_birth_date": date(1960, 2, 29),
            "patient_age_years": 63.5,
            "study_date": date(2024, 1, 5),
            "accession_number": "A-1",
            "modalities": ["DX"],
            "has_report": True,
        },
    ),
    ("study", {"study_uid": "2.25.2", "state": "QUARANTINED", "reason": "the decoder died (SIGKILL)"}),
    ("series", {"series_uid": f"{UID}.1", "study_uid": UID, "modality": "DX"}),
    (
        "instance",
        {
            "sop_uid": f"{UID}.1.1",
            "series_uid": f"{UID}.1",
            "study_uid": UID,
            "sop_class_uid": "1.2.840.10008.5.1.4.1.1.1.1",
            "transfer_syntax_uid": "1.2.840.10008.1.2.1",
            "rows_px": 64,
            "columns_px": 64,
            "content_sha256": SHA256,
            "size_bytes": 1 << 33,
            "attributes": Jsonb({"00080070": {"vr": "LO", "Value": ["Maker"]}}),
            "patient_keys": ["|p1"],
        },
    ),
    ("refusal", {"sop_uid": "2.25.9", "reason": "stored already", "dimse_status": 0xC002}),
    ("damaged_blob", {"content_sha256": SHA256}),
    ("model", {"model_id": MODEL, "kind": "CXR", "dim": 2, "manifest": Jsonb({"n": 1}), "active": True}),
    (
        "encoding",
        {
            "study_uid": UID,
            "series_uid": f"{UID}.1",
            "sop_uid": f"{UID}.1.1",
            "model_id": MODEL,
            "revision": 3,
            "regions": ["chest"],
            "vectors": bytes.fromhex("0000803f00000000"),
        },
    ),
    (
        "image_tokens",
        {
            "study_uid": UID,
            "encoder": "e",
            "series_uid": f"{UID}.1",
            "sop_uid": f"{UID}.1.1",
            "revision": 3,
            "kind": "CXR",
            "lateral_view": False,
            "count": 1,
            "tokens": bytes(8),
        },
    ),
    ("partition", {"model_id": MODEL, "region": "chest"}),
    (
        "generation",
        {
            "model_id": MODEL,
            "region": "chest",
            "name": "g1",
            "count": 1,
            "as_of": "5",
            "manifest": Jsonb({}),
        },
    ),
    (
        "report",
        {
            "study_uid": UID,
            "source": "csv",
            "body": "Kein Erguss.",
            "content_sha256": "cd" * 32,
            "findings": Jsonb({"findings": []}),
            "parser": "7",
        },
    ),
    (
        "report_version",
        {
            "source": "hl7",
            "document": "d",
            "status": "FINAL",
            "version_at": "2024-01-05",
            "sent_at": "2024-01-05",
            "body": "Waits.",
            "content_sha256": "ef" * 32,
            "numbers": ["A-9"],
        },
    ),
    (
        "message",
        {
            "sender": "RIS",
            "control_id": "1",
            "content_sha256": "aa" * 32,
            "kind": "ORU^R01",
            "outcome": "STORED",
            "answer": "AA",
        },
    ),
    ("patient_link", {"prior_key": "|p0", "key": "|p1"}),
    ("order_link", {"number": "A-9", "study_uid": "2.25.3"}),
    ("job", {"kind": "encode", "key": UID, "state": "RUNNING", "attempt": 1, "token": 7, "worker": "w"}),
    ("job", {"kind": "pull", "key": "2.25.4", "state": "FAILED", "error": "gone"}),
    (
        "feedback",
        {
            "query_study_uid": UID,
            "case_study_uid": "2.25.2",
            "region": "chest",
            "model_id": MODEL,
            "rank": 1,
            "score": 0.5,
            "verdict": "UP",
            "reader": "r",
        },
    ),
    ("viewer_context", {"token_sha256": "t", "study_uid": UID, "expires_at": "2030-01-01"}),
    ("commitment", {"transaction_uid": "2.25.5", "requestor": "CT1", "instances": Jsonb([["1.2", "2.25.6"]])}),
    ("access_token", {"name": "reader", "role": "radiologist", "token_sha256": "bb", "created_by": "root"}),
    ("audit_event", {"event": "OPENED", "caller": "reader", "role": "radiologist", "study_uid": UID}),
    (
        "retraining_run",
        {
            "kind": "CXR",
            "depth": "head",
            "state": "DONE",
            "plan": Jsonb({}),
            "plan_sha256": "p",
            "champion": MODEL,
            "started_by": "root",
        },
    ),
]


@pytest.fixture
def server(postgres: str) -> Iterator[tuple[psycopg.Connection, list[str]]]:
    """A connection of the server, and the names of databases to drop."""
    made: list[str] = []
    with psycopg.connect(postgres, autocommit=True) as connection:
        yield connection, made
        for name in made:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def columns(connection: psycopg.Connection) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for table, column in connection.execute(
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
    ):
        found.setdefault(table, set()).add(column)
    return found


def fill(connection: psycopg.Connection) -> list[tuple[str, dict[str, Any]]]:
    """Insert what this version has of the rows; returns it."""
    known, said = columns(connection), []
    for table, values in ROWS:
        kept = {name: value for name, value in values.items() if name in known.get(table, ())}
        if kept:
            names = sql.SQL(", ").join(map(sql.Identifier, kept))
            places = sql.SQL(", ").join(map(sql.Placeholder, kept))
            connection.execute(
                sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(sql.Identifier(table), names, places), kept
            )
            said.append((table, kept))
    return said


def shape(connection: psycopg.Connection) -> list[tuple[Any, ...]]:
    """Tables, columns, constraints, indexes, functions, triggers and views, as text."""
    return connection.execute(
        """
        SELECT 'column', table_name, column_name, data_type, column_default, is_nullable FROM information_schema.columns
        WHERE table_schema = 'public'
        UNION ALL SELECT 'index', indexname, indexdef, '', '', '' FROM pg_indexes WHERE schemaname = 'public'
        UNION ALL SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid), '', ''
        FROM pg_constraint WHERE connamespace = 'public'::regnamespace
        UNION ALL SELECT 'function', proname, prosrc, '', '', '' FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace
        UNION ALL SELECT 'trigger', tgrelid::regclass::text, pg_get_triggerdef(oid), '', '', '' FROM pg_trigger
        WHERE NOT tgisinternal
        UNION ALL SELECT 'view', viewname, definition, '', '', '' FROM pg_views WHERE schemaname = 'public'
        ORDER BY 1, 2, 3, 4
        """
    ).fetchall()


def test_from_every_version(server: tuple[psycopg.Connection, list[str]], postgres: str) -> None:
    connection, made = server
    stem = f"radir_upgrade_{next(_numbers)}"
    growing = f"{stem}_growing"
    connection.execute(f"CREATE DATABASE {growing}".encode())
    made.append(growing)
    with psycopg.connect(postgres, dbname="radir_template") as template:
        today, now_known = shape(template), columns(template)
    for version, statement in migrations().items():
        with psycopg.connect(postgres, dbname=growing) as grown:
            grown.execute(statement.encode())
            grown.execute("INSERT INTO schema_version (version) VALUES (%s)", [version])
        name = f"{stem}_{version}"
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {growing} STRATEGY file_copy".encode())
        made.append(name)
        with psycopg.connect(postgres, dbname=name) as old:
            said = fill(old)
        assert len(said) >= 12, "little can be lost of little"
        migrate(make_conninfo(postgres, dbname=name))
        with psycopg.connect(postgres, dbname=name) as new:
            assert shape(new) == today, f"from version {version}"
            for table, values in said:
                tell(new, table, {k: v for k, v in values.items() if k in now_known[table]}, version)
            assert new.execute("SELECT state FROM model").fetchone() in (("SERVING",), ("REGISTERED",))
            if version < 27:
                assert new.execute("SELECT state FROM model").fetchone() == ("SERVING",), f"from version {version}"
            found = new.execute("SELECT patient_name_folded, modalities FROM study_search WHERE patient_id = 'p1'")
            assert found.fetchall() == [("muller^anne", ["DX"])], f"from version {version}"
            (code,) = new.execute("SELECT reason_code FROM study WHERE study_uid = '2.25.2'").fetchone() or (None,)
            assert code == ("DECODER_KILLED" if version < 4 else None)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
        made.remove(name)


def tell(connection: psycopg.Connection, table: str, values: dict[str, Any], version: int) -> None:
    """There is one such row."""
    conditions = sql.SQL(" AND ").join(
        sql.SQL("{} IS NOT DISTINCT FROM {}").format(sql.Identifier(name), sql.Placeholder(name)) for name in values
    )
    found = connection.execute(
        sql.SQL("SELECT count(*) FROM {} WHERE {}").format(sql.Identifier(table), conditions), values
    ).fetchone()
    assert found == (1,), f"{table} from version {version}"


def test_an_earlier_program_is_refused_with_a_reason_and_changes_nothing(settings: Settings) -> None:
    """A newer program has been here: its tables may mean what this one does not know."""
    later = max(migrations()) + 1
    with psycopg.connect(settings.database_url) as connection:
        connection.execute("INSERT INTO schema_version (version) VALUES (%s)", [later])
        before = shape(connection)
    with pytest.raises(StorageFailed, match=rf"version {later}, this program knows {later - 1}: .*radir restore"):
        Catalogue.open(settings)
    with psycopg.connect(settings.database_url) as connection:
        assert shape(connection) == before
