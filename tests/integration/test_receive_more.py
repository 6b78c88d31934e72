"""`receive_more` stores what it may as `receive` does, and leaves all else to it."""

from __future__ import annotations

import hashlib
from datetime import date
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from radir_pacs.catalogue import Catalogue, Stored
from radir_pacs.catalogue.instances import _Arrival, _plain, values_of
from radir_pacs.catalogue.queries import QUERIES
from radir_pacs.types import InstanceHeader
from tests.catalogue_material import add, header

pytestmark = pytest.mark.timeout(120)

_TIMES = ("received_at", "last_instance_at", "changed_at")
_OF_A_STUDY: dict[str, Any] = {
    "patient_key": "|p",
    "patient_id": "p",
    "patient_keys": ("|p",),
    "attributes": {"00081040": {"vr": "LO", "Value": ["Thorax"]}},
}


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def arrival(given: InstanceHeader, site: str = "TEST") -> dict[str, Any]:
    values = values_of(given, sha256(given.sop_uid), 1000, "TEST")
    return _plain(values | {"site": site, "is_image": given.rows_px is not None})


def receive_more(database_url: str, *arrivals: dict[str, Any]) -> set[str]:
    with psycopg.connect(database_url) as connection:
        given = {"arrivals": Jsonb(list(arrivals)), "lock_timeout_ms": 1000}
        return {row[0] for row in connection.execute(QUERIES["receive_more"], given)}


def rows(database_url: str, table: str, study: int) -> list[dict[str, Any]]:
    """All rows of a study, its number and the times left out."""
    with psycopg.connect(database_url, row_factory=dict_row) as connection:
        found = connection.execute(
            f"SELECT * FROM {table} WHERE study_uid = %s ORDER BY {'sop_uid' if table == 'instance' else 'study_uid'}",
            [f"2.25.{study}"],
        ).fetchall()
    return [
        {name: str(value).replace(f"2.25.{study}", "2.25.N") for name, value in row.items() if name not in _TIMES}
        | {"content_sha256": None}
        for row in found
    ]


@pytest.mark.parametrize("is_image", [True, False])
def test_it_leaves_the_rows_that_receive_would(catalogue: Catalogue, database_url: str, is_image: bool) -> None:
    more: dict[str, Any] = dict(_OF_A_STUDY) if is_image else _OF_A_STUDY | {"rows_px": None, "columns_px": None}
    for study in (1, 2):
        add(catalogue, header(study, **_OF_A_STUDY))
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE study SET state = 'QUARANTINED', reason = 'r', reason_code = 'failed'")
    for number in (2, 3):
        add(catalogue, header(1, 1, number, **more))
    stored = receive_more(database_url, *(arrival(header(2, 1, number, **more)) for number in (2, 3)))
    assert stored == {"2.25.2.1.2", "2.25.2.1.3"}
    for table in ("study", "study_search", "instance"):
        assert rows(database_url, table, 2) == rows(database_url, table, 1)


@pytest.mark.parametrize(
    "news",
    [
        {"study_description": "CHEST"},
        {"patient_birth_date": date(1960, 1, 2)},
        {"patient_name": "A^B"},
        {"body_part": "CHEST"},
        {"modality": "CT"},
        {"patient_keys": ("|p", "|q")},
        {"attributes": {"00081040": {"vr": "LO", "Value": ["Other"]}}},
        {"series_uid": "2.25.1.2"},
        {"series_uid": "2.25.2.1"},
        {"study_uid": "2.25.3"},
        {"sop_uid": "2.25.1.1.1"},
    ],
    ids=lambda news: next(iter(news)),
)
def test_what_tells_something_new_is_left_to_receive(
    catalogue: Catalogue, database_url: str, news: dict[str, Any]
) -> None:
    for study in (1, 2):
        add(catalogue, header(study, **_OF_A_STUDY))
    before = rows(database_url, "study", 1), rows(database_url, "instance", 1)
    assert receive_more(database_url, arrival(header(1, 1, 2, **(_OF_A_STUDY | news)))) == set()
    assert (rows(database_url, "study", 1), rows(database_url, "instance", 1)) == before


@pytest.mark.parametrize("what", ["site", "damaged", "evicted"])
def test_so_is_another_site_and_a_file_that_comes_back(catalogue: Catalogue, database_url: str, what: str) -> None:
    add(catalogue, header(1, **_OF_A_STUDY))
    given = arrival(header(1, 1, 2, **_OF_A_STUDY), site="OTHER" if what == "site" else "TEST")
    if what != "site":
        with psycopg.connect(database_url) as connection:
            connection.execute(f"INSERT INTO {what}_blob (content_sha256) VALUES (%s)", [given["content_sha256"]])
    assert receive_more(database_url, given) == set()


def test_a_group_has_the_outcome_of_each(catalogue: Catalogue, database_url: str) -> None:
    """New ones, the same one twice, one that stands, and one of a series that nobody knows: one call."""
    add(catalogue, header(1, **_OF_A_STUDY))
    given = [header(1, 1, number, **_OF_A_STUDY) for number in (2, 3, 3, 1)] + [header(7)]
    outcomes = catalogue.instances._add_group([_arrival(one) for one in given])
    new, same = Stored.STORED, Stored.SAME
    assert (outcomes[0], {outcomes[1], outcomes[2]}, outcomes[3:]) == (new, {new, same}, [same, new])
    assert rows(database_url, "study", 1)[0]["revision"] == "3"


def _arrival(given: InstanceHeader) -> _Arrival:
    values = values_of(given, sha256(given.sop_uid), 1000, "TEST") | {"site": "TEST", "is_image": True}
    return _Arrival(given, values, wakes=True, durable=lambda: None)
