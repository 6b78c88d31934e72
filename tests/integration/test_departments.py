"""Departments that instances name, however long and however many: they are bounded, and what is bounded is denied."""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import patch

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.types.json import Jsonb

from radir_pacs.catalogue import Catalogue
from radir_pacs.catalogue import migrate as migrate_module
from radir_pacs.catalogue.migrate import migrate, migrations
from radir_pacs.scopes import Scope
from tests.catalogue_material import add, header
from tests.dicom_files import radiograph
from tests.integration.listening import wait_for
from tests.integration.test_scope_rules import attributes
from tests.integration.test_scopes import NORTH, House
from tests.integration.test_scopes import house as house

LONG = "".join(random.Random(7).choices(string.ascii_letters + string.digits, k=8192))  # random: it does not compress
STUDY = "2.25.1"
_LOCKS = "SELECT relation::regclass::text FROM pg_locks WHERE NOT granted AND relation IS NOT NULL"


def test_a_long_name_is_stored_and_cut(house: House) -> None:
    image = radiograph(StudyInstanceUID="1.2.700", InstitutionalDepartmentName=LONG)
    assert house.store(image, house.tokens[NORTH]).status_code == 200
    study = house.web.catalogue.studies.get("1.2.700")
    assert study.departments == (LONG[:64],)


def test_many_names_are_bounded_and_denied(catalogue: Catalogue) -> None:
    names = [f"Department {number:02}" for number in range(70)]
    scope = Scope(departments=frozenset(names))
    for number, name in enumerate(names[:32]):
        add(catalogue, header(1, 1, number + 1, attributes=attributes("DX", name)))
    assert catalogue.studies.get(STUDY).departments == tuple(names[:32])
    assert catalogue.studies.in_scope([STUDY], scope) == {STUDY}
    for number, name in enumerate(names[32:], 32):
        add(catalogue, header(1, 1, number + 1, attributes=attributes("DX", name)))
        study = catalogue.studies.get(STUDY)
        assert study.departments == (",",) and not scope.admits(study), name
        assert catalogue.studies.in_scope([STUDY], scope) == frozenset()
    last = header(1, 1, 1, attributes=attributes("DX", LONG))
    catalogue.corrections.apply(
        last,
        header(1, 1, 1),
        changed=["InstitutionalDepartmentName"],
        replaces_sha256=catalogue.instances.get(last.sop_uid).content_sha256,
        content_sha256="f" * 64,
        size_bytes=1,
        source="TEST",
        site="TEST",
        reopens=False,
    )
    assert catalogue.studies.get(STUDY).departments == (",",)


@pytest.fixture
def before(postgres: str) -> Iterator[str]:
    """A database as version 44 left it."""
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("CREATE DATABASE radir_departments")
        conninfo = make_conninfo(postgres, dbname="radir_departments")
        older = {version: sql for version, sql in migrations().items() if version < 45}
        with patch.object(migrate_module, "migrations", lambda: older):
            migrate(conninfo)
        yield conninfo
        connection.execute("DROP DATABASE radir_departments WITH (FORCE)")


def stand(connection: psycopg.Connection, study: str, *names: str) -> None:
    """A study with an instance for each name."""
    connection.execute("INSERT INTO study (study_uid) VALUES (%s) ON CONFLICT DO NOTHING", [study])
    connection.execute("INSERT INTO series (series_uid, study_uid) VALUES (%s, %s) ON CONFLICT DO NOTHING", [study] * 2)
    for name in names:
        connection.execute(
            "INSERT INTO instance (sop_uid, series_uid, study_uid, sop_class_uid, transfer_syntax_uid, content_sha256,"
            " size_bytes, attributes) VALUES (gen_random_uuid()::text, %s, %s, '1', '1', '', 1, %s)",
            [study, study, Jsonb(attributes("DX", name))],
        )


def departments(connection: psycopg.Connection) -> dict[str, list[str]]:
    rows = connection.execute(
        "SELECT study_uid, s.departments, k.departments FROM study AS s JOIN study_search AS k USING (study_uid)"
    ).fetchall()
    assert all(of_study == of_search for _, of_study, of_search in rows)
    return {uid: names for uid, names, _ in rows}


def test_what_stands_already_is_bounded_by_the_migration(before: str) -> None:
    with psycopg.connect(before) as connection:
        stand(connection, "1.1", LONG, "Radiology", "", "Radiology")
        stand(connection, "1.2", *(f"Department {number}" for number in range(33)))
        stand(connection, "1.3", "")
    migrate(before)
    with psycopg.connect(before) as connection:
        found = departments(connection)
    assert {uid: sorted(names) for uid, names in found.items()} == {
        "1.1": sorted(["Radiology", LONG[:64]]),
        "1.2": [","],
        "1.3": [],
    }


def test_the_migration_reads_before_it_locks_and_misses_nothing(before: str) -> None:
    with psycopg.connect(before) as connection:
        stand(connection, "1.1", "Radiology")
    with (
        psycopg.connect(before) as reading,
        psycopg.connect(before) as locking,
        psycopg.connect(before, autocommit=True) as store,
        ThreadPoolExecutor(1) as pool,
    ):
        reading.execute("LOCK TABLE instance IN ACCESS EXCLUSIVE MODE")
        locking.execute("LOCK TABLE account IN ROW EXCLUSIVE MODE")  # where the migration stands once it has read
        done = pool.submit(migrate, before)
        try:
            wait_for(waits_for(store, "instance"))
            store.execute("SET lock_timeout = '100ms'")
            store.execute("UPDATE study SET changed_at = now()")  # studies are read and written meanwhile
            reading.rollback()
            wait_for(waits_for(store, "account"))
            stand(store, "1.1", "Orthopaedics")
            stand(store, "1.4", "Emergency")
        finally:
            reading.rollback()
            locking.rollback()
        assert done.result(60) >= 45
        assert departments(store) == {"1.1": ["Orthopaedics", "Radiology"], "1.4": ["Emergency"]}


def waits_for(connection: psycopg.Connection, table: str) -> Callable[[], bool]:
    return lambda: (table,) in connection.execute(_LOCKS).fetchall()
