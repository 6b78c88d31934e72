"""Names match in any case and alphabet, whatever the database's locale; fuzzy matching knows other spellings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from unittest.mock import patch

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from radir_pacs.catalogue import Catalogue
from radir_pacs.catalogue import migrate as migrate_module
from radir_pacs.catalogue.migrate import migrate, migrations
from radir_pacs.catalogue.names import folded
from radir_pacs.catalogue.qido import QidoLevel, QidoQuery
from radir_pacs.config import Settings
from radir_pacs.similar_cases import Match
from tests.catalogue_material import add, header

NAMES = {
    1: "Müller^Änne",
    2: "ИВАНОВ^ПЁТР",
    3: "Παπαδόπουλος^Γιώργος",
    4: "Ōsaka^Jō=大阪^譲=おおさか^じょう",
    5: "O'Brien-Smith^Seán",
    6: "Strauß^Jörg",
    7: "Baur^Eva",
    8: "がま^か",
    9: "ŁUKASIK^ŻANETA",
}


@pytest.fixture(scope="module", params=["C", "C.UTF-8"])
def archive(postgres: str, request: pytest.FixtureRequest) -> Iterator[Catalogue]:
    name = f"radir_names_{request.param.lower().replace('.', '_').replace('-', '_')}"
    made = f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE '{request.param}'"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(made.encode())
    url = make_conninfo(postgres, dbname=name)
    with Catalogue.open(Settings(database_url=url)) as catalogue:
        for number, patient in NAMES.items():
            operator = {"00081070": {"vr": "PN", "Value": [{"Alphabetic": patient.split("=")[0]}]}}
            add(catalogue, header(number, patient_name=patient, referring_physician=patient, attributes=operator))
        yield catalogue
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def found(catalogue: Catalogue, value: str, *, fuzzy: bool = False, tag: str = "00100010") -> set[int]:
    match = Match(path=(tag,), vr="PN", values=(value,))
    page = catalogue.qido.search(QidoQuery(level=QidoLevel.STUDY, limit=50, matches=(match,), fuzzy=fuzzy))
    return {int(row.study.study_uid.removeprefix("2.25.")) for row in page.rows}


@pytest.mark.parametrize("tag", ["00100010", "00080090"])
@pytest.mark.parametrize(
    ("value", "numbers"),
    [
        ("MÜLLER*", {1}),
        ("müller^änne", {1}),
        ("Mu\u0308ller*", {1}),
        ("иванов*", {2}),
        ("Иванов^Пётр", {2}),
        ("иванов^петр", {2}),
        ("ΠΑΠΑΔΌΠΟΥΛΟΣ*", {3}),
        ("ΠΑΠΑΔΟΠΟΥΛΟΣ^ΓΙΩΡΓΟΣ", {3}),
        ("παπαδόπουλος*", {3}),
        ("大阪*", {4}),
        ("osaka*", {4}),
        ("strauss*", {6}),
        ("STRAUẞ^JÖRG", {6}),
        ("łukasik*", {9}),
        ("がま*", {8}),
        ("かま*", set()),
        ("M?ller*", {1}),
        ("%*", set()),
        ("Mueller*", set()),
        ("nobody", set()),
    ],
)
def test_names_match_without_regard_to_case_and_accents(
    archive: Catalogue, value: str, numbers: set[int], tag: str
) -> None:
    assert found(archive, value, tag=tag) == numbers


@pytest.mark.parametrize(
    ("value", "numbers"),
    [
        ("Muller", {1}),
        ("mueller", {1}),
        ("MÜLL", {1}),
        ("änne müller", {1}),
        ("PETR ivan", set()),
        ("пётр иванов", {2}),
        ("ΓΙΩΡΓΟΣ", {3}),
        ("smith", {5}),
        ("sean o'brien", {5}),
        ("Smith, Seán", {5}),
        ("joerg", {6}),
        ("bauer", {7}),
        ("ller", set()),
        ("", set(NAMES)),
    ],
)
def test_fuzzy_matching_knows_how_names_are_spelt(archive: Catalogue, value: str, numbers: set[int]) -> None:
    assert found(archive, value, fuzzy=True) == numbers


@pytest.mark.parametrize(("value", "numbers"), [("иванов*", {2}), ("ИВАНОВ*", {2}), ("müller*", {1}), ("MÜLLER*", {1})])
@pytest.mark.parametrize("fuzzy", [False, True])
def test_names_of_other_people_match_in_the_cases_that_names_are_written_in(
    archive: Catalogue, value: str, numbers: set[int], fuzzy: bool
) -> None:
    assert found(archive, value.rstrip("*") if fuzzy else value, fuzzy=fuzzy, tag="00081070") == numbers


def test_a_corrected_name_is_found_and_the_one_before_is_not(catalogue: Catalogue) -> None:
    before = header(patient_name="Falsch^Jörg")
    after = replace(before, patient_name="Richtig^Jörg")
    add(catalogue, before)
    stored = catalogue.instances.get(before.sop_uid)
    catalogue.corrections.apply(
        after,
        before,
        changed=("PatientName",),
        replaces_sha256=stored.content_sha256,
        content_sha256="0" * 64,
        size_bytes=1,
        source="TEST",
        reopens=False,
    )
    assert found(catalogue, "RICHTIG*") == {1} and found(catalogue, "falsch*") == set()


def test_studies_of_before_are_found_after_the_migration(settings: Settings) -> None:
    old = {version: sql for version, sql in migrations().items() if version < 14}
    with psycopg.connect(settings.database_url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        with patch.object(migrate_module, "migrations", lambda: old):
            migrate(settings.database_url)
        connection.execute(
            "INSERT INTO study (study_uid, patient_name, referring_physician) VALUES"
            " ('2.25.1', 'Иванов^Пётр', 'Müller^Änne'), ('2.25.2', NULL, 'Müller^Änne'), ('2.25.3', '', NULL)"
        )
    with Catalogue.open(settings) as catalogue:
        assert found(catalogue, "ИВАНОВ*") == {1}
        assert found(catalogue, "müller^änne", tag="00080090") == {1, 2}


@pytest.mark.parametrize("name", ["Müller^Änne", "ΣΊΣΥΦΟΣ", "İstanbul", "ﬁ", "ǰ", "大阪", "ß", "Å"])
def test_folding_again_changes_nothing(name: str) -> None:
    assert folded(folded(name)) == folded(name)
    assert folded(name.upper()) == folded(name.lower()) == folded(name)
