"""Searches of many studies: what they find, how they page, which index serves each."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from datetime import date
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from radir_pacs.catalogue import Catalogue, qido, qido_statements
from radir_pacs.catalogue.names import folded, spelt_alike
from radir_pacs.catalogue.qido import QidoLevel, QidoPage, QidoQuery
from radir_pacs.config import Settings
from radir_pacs.similar_cases import Match
from tests.catalogue_material import add, header
from tests.conftest import free_port

NAME, REFERRING, PATIENT_ID = "00100010", "00080090", "00100020"
ACCESSION, DESCRIPTION, DATE, MODALITIES = "00080050", "00081030", "00080020", "00080061"
LETTERS = "aaeeoumüßÅД大'\"\\%_ -&|!:*?"


def text(rng: random.Random, letters: str = LETTERS.replace("*", "").replace("?", "")) -> str:
    return "".join(rng.choice(letters) for _ in range(rng.randrange(1, 9)))


def name(rng: random.Random) -> str:
    return text(rng) + rng.choice(("", "^", f"^{text(rng)}"))


def pattern(rng: random.Random, value: str) -> str:
    """A piece of ``value``, some characters of it replaced by wildcards, or something else."""
    start = rng.randrange(len(value) + 1)
    piece = value[start : start + rng.randrange(1, 7)] if rng.random() < 0.8 else text(rng)
    drawn = "".join(rng.choice("*?") if rng.random() < 0.15 else letter for letter in piece)
    return rng.choice(("", "*", "*", "?")) + drawn + rng.choice(("", "*", "*", "?"))


def matches(asked: str, value: str) -> bool:
    expression = "".join({"*": ".*", "?": "."}.get(letter) or re.escape(letter) for letter in asked)
    return re.fullmatch(expression, value, re.DOTALL) is not None


@pytest.fixture(scope="module")
def database(postgres: str) -> Iterator[str]:
    name = f"radir_module_{free_port()}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE radir_template".encode())
    yield make_conninfo(postgres, dbname=name)
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture(scope="module")
def odd_texts(database: str) -> dict[str, dict[str, str]]:
    """By UID, studies with odd texts in the columns that are searched by pieces of them."""
    rng = random.Random(7)
    studies = {}
    with psycopg.connect(database) as connection:
        for number in range(400):
            names = ["=".join(name(rng) for _ in range(rng.choice((1, 1, 2)))) for _ in range(2)]
            ids = "\\".join(text(rng).replace("\\", "") or "x" for _ in range(rng.choice((1, 1, 2))))
            row = {NAME: names[0], REFERRING: names[1], PATIENT_ID: ids, ACCESSION: text(rng), DESCRIPTION: text(rng)}
            studies[f"1.{number}"] = row
            connection.execute(
                "INSERT INTO study (study_uid, patient_name_folded, referring_physician_folded, patient_id,"
                " accession_number, study_description) VALUES (%s, %s, %s, %s, %s, %s)",
                [f"1.{number}", folded(names[0]), folded(names[1]), *list(row.values())[2:]],
            )
    return studies


def expected(studies: dict[str, dict[str, str]], tag: str, asked: str) -> set[str]:
    if tag in (NAME, REFERRING):
        asked = folded(asked.rstrip("^"))
        found = ((uid, [part.rstrip("^") for part in folded(row[tag]).split("=")]) for uid, row in studies.items())
    else:
        parts = "\\" if tag == PATIENT_ID else "\0"
        found = ((uid, row[tag].split(parts)) for uid, row in studies.items())
    return {uid for uid, values in found if any(matches(asked, value) for value in values)}


@pytest.mark.parametrize("is_dense", [False, True], ids=["by terms", "by reading"])
@pytest.mark.parametrize("tag", [NAME, REFERRING, PATIENT_ID, ACCESSION, DESCRIPTION])
def test_any_pattern_finds_what_it_describes(
    database: str, odd_texts: dict[str, dict[str, str]], tag: str, is_dense: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qido, "is_dense", lambda *_: is_dense)
    rng, some = random.Random(tag), 0
    with Catalogue.open(Settings(database_url=database)) as catalogue:
        for _ in range(60):
            asked = pattern(rng, rng.choice(list(odd_texts.values()))[tag])
            match = Match(path=(tag,), vr="PN" if tag in (NAME, REFERRING) else "LO", values=(asked,))
            page = catalogue.qido.search(QidoQuery(level=QidoLevel.STUDY, limit=1000, matches=(match,)))
            found = {row.study.study_uid for row in page.rows}
            assert found == expected(odd_texts, tag, asked), asked
            some += 0 < len(found) < len(odd_texts)
    assert some > 15


@pytest.mark.parametrize("is_dense", [False, True], ids=["by terms", "by reading"])
def test_fuzzy_words_find_what_begins_with_them(
    database: str, odd_texts: dict[str, dict[str, str]], is_dense: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qido, "is_dense", lambda *_: is_dense)
    rng, some = random.Random(3), 0
    words = {uid: re.split("[ ^=,-]", spelt_alike(folded(row[NAME]))) for uid, row in odd_texts.items()}
    with Catalogue.open(Settings(database_url=database)) as catalogue:
        for _ in range(60):
            asked = rng.choice(rng.choice(list(words.values())))[: rng.randrange(1, 5)]
            match = Match(path=(NAME,), vr="PN", values=(asked,))
            page = catalogue.qido.search(QidoQuery(level=QidoLevel.STUDY, limit=1000, matches=(match,), fuzzy=True))
            begins = spelt_alike(folded(asked))
            found = {row.study.study_uid for row in page.rows}
            assert found == {uid for uid, those in words.items() if any(word.startswith(begins) for word in those)}
            some += 0 < len(found) < len(odd_texts)
    assert some > 15


@pytest.mark.parametrize("is_dense", [False, True], ids=["by terms", "by reading"])
def test_fuzzy_pieces_are_found_anywhere(
    database: str, odd_texts: dict[str, dict[str, str]], is_dense: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qido, "is_dense", lambda *_: is_dense)
    rng, some = random.Random(5), 0
    names = {uid: re.sub("[\\^=,-]", " ", spelt_alike(folded(row[NAME]))) for uid, row in odd_texts.items()}
    with Catalogue.open(Settings(database_url=database)) as catalogue:
        for _ in range(60):
            word = rng.choice(rng.choice(list(names.values())).split() or ["x"])
            start = rng.randrange(len(word))
            piece = word[start : start + rng.randrange(2, 6)]
            match = Match(path=(NAME,), vr="PN", values=(f"*{piece}*",))
            page = catalogue.qido.search(QidoQuery(level=QidoLevel.STUDY, limit=1000, matches=(match,), fuzzy=True))
            found = {row.study.study_uid for row in page.rows}
            assert found == {uid for uid, text in names.items() if spelt_alike(piece) in text}, piece
            some += 0 < len(found) < len(odd_texts)
    assert some > 15


@pytest.fixture
def few_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qido_statements, "COUNTED_MAX", 5)
    monkeypatch.setattr(qido_statements, "WALKED_MAX", 8)


def stored(catalogue: Catalogue, number: int, day: date | None) -> None:
    """A study with two series of two instances; every third is a CT."""
    for series in (1, 2):
        for instance in (1, 2):
            modality = "CT" if number % 3 == 0 else "DX"
            add(catalogue, header(number, series, instance, study_date=day, series_number=series, modality=modality))


def days(count: int) -> Iterator[tuple[int, date | None]]:
    for number in range(1, count + 1):
        yield number, None if number % 7 == 0 else date(2024, 1, 1 + number % 5)


def page_of(catalogue: Catalogue, level: QidoLevel, offset: int, limit: int, *keys: Match, **inside: Any) -> QidoPage:
    return catalogue.qido.search(QidoQuery(level=level, offset=offset, limit=limit, matches=keys, **inside))


def uids(page: QidoPage) -> list[str]:
    """Of the instances, series or studies, whichever are the rows."""
    return [
        row.instance.sop_uid if row.instance else row.series.series_uid if row.series else row.study.study_uid
        for row in page.rows
    ]


CT = Match(path=(MODALITIES,), vr="CS", values=("CT",))
ENDING_IN_3 = Match(path=(PATIENT_ID,), vr="LO", values=("*3",))
UNTIL_THE_3RD = Match(path=(DATE,), vr="DA", values=("-20240103",))
FROM_THE_3RD = Match(path=(DATE,), vr="DA", values=("20240103-",))


@pytest.mark.parametrize("level", QidoLevel)
@pytest.mark.parametrize(
    "keys", [(), (CT,), (ENDING_IN_3,), (FROM_THE_3RD,), (UNTIL_THE_3RD,), (UNTIL_THE_3RD, CT)], ids=len
)
def test_pages_of_more_than_are_counted_are_those_of_a_counted_search(
    catalogue: Catalogue, level: QidoLevel, keys: tuple[Match, ...], request: pytest.FixtureRequest
) -> None:
    for number, day in days(45):
        stored(catalogue, number, day)
    whole = page_of(catalogue, level, 0, 1000, *keys)
    assert whole.is_exact and whole.more == 0 and len(whole.rows) > 3
    request.getfixturevalue("few_are_counted")
    seen: list[str] = []
    for _ in whole.rows:
        page = page_of(catalogue, level, len(seen), 3, *keys)
        seen += uids(page)
        more = len(whole.rows) - len(seen)
        assert page.more == more if page.is_exact else 0 < page.more <= more
        if not page.more:
            break
    assert seen == uids(whole)


@pytest.mark.parametrize("level", QidoLevel)
def test_a_page_in_the_middle_is_found_without_those_before(
    settings: Settings, catalogue: Catalogue, level: QidoLevel, request: pytest.FixtureRequest
) -> None:
    for number, day in days(30):
        stored(catalogue, number, day)
    whole = uids(page_of(catalogue, level, 0, 1000, CT))
    request.getfixturevalue("few_are_counted")
    for offset in (1, 4, 7, len(whole) - 1, len(whole), len(whole) + 5):
        with Catalogue.open(settings) as afresh:
            page = page_of(afresh, level, offset, 3, CT)
        assert uids(page) == whole[offset : offset + 3]
        assert (page.more > 0) == (offset + 3 < len(whole))


@pytest.mark.usefixtures("few_are_counted")
@pytest.mark.parametrize("level", [QidoLevel.STUDY, QidoLevel.SERIES])
def test_pages_neither_repeat_nor_skip_while_studies_come_and_go(catalogue: Catalogue, level: QidoLevel) -> None:
    for number in range(1, 31):
        stored(catalogue, number, date(2024, 1, number))
    before = uids(page_of(catalogue, level, 0, 1000))
    seen: list[str] = []
    for turn in range(100, 200):
        page = page_of(catalogue, level, len(seen), 3)
        seen += uids(page)
        if not page.more:
            break
        stored(catalogue, turn, date(2025, 1, 1))  # newer than any
        if turn == 101:
            catalogue.studies.delete("2.25.30")  # seen already
    assert seen == before


def test_all_of_one_study_is_counted(catalogue: Catalogue, request: pytest.FixtureRequest) -> None:
    for number in range(1, 21):
        add(catalogue, header(1, 1, number))
    request.getfixturevalue("few_are_counted")
    page = page_of(catalogue, QidoLevel.INSTANCE, 5, 3, study_uid="2.25.1")
    assert (len(page.rows), page.more, page.is_exact) == (3, 12, True)


@pytest.mark.usefixtures("few_are_counted")
def test_counting_stops_where_it_costs(catalogue: Catalogue) -> None:
    for number, day in days(20):
        stored(catalogue, number, day)
    page = page_of(catalogue, QidoLevel.STUDY, 0, 2)
    assert (page.more, page.is_exact) == (4, False)
    counted = page_of(catalogue, QidoLevel.STUDY, 0, 0)
    assert (counted.rows, counted.more, counted.is_exact) == ((), 6, False)
    last = page_of(catalogue, QidoLevel.STUDY, 18, 2)
    assert (len(last.rows), last.more, last.is_exact) == (2, 0, True)
    few = page_of(catalogue, QidoLevel.STUDY, 0, 1, ENDING_IN_3)
    assert (len(few.rows), few.more, few.is_exact) == (1, 1, True)


def searched(connection: psycopg.Connection[Any]) -> list[Any]:
    rows = "SELECT ctid::text, study_uid, newest_first, patient_name_folded, modalities FROM study_search"
    return connection.execute(rows).fetchall()


def test_what_is_searched_follows_the_study_and_an_instance_alone_changes_nothing(catalogue: Catalogue) -> None:
    with psycopg.connect(catalogue.conninfo, autocommit=True) as connection:
        add(catalogue, header(1, 1, 1, patient_name="Müller^A", study_date=date(2024, 1, 5)))
        first = searched(connection)
        assert [row[1:] for row in first] == [("2.25.1", (date.max - date(2024, 1, 5)).days, "muller^a", ["DX"])]
        add(catalogue, header(1, 1, 2, patient_name="Müller^A", study_date=date(2024, 1, 5)))
        catalogue.studies.complete_now("2.25.1")
        assert searched(connection) == first  # the very row: no index of it was written
        add(catalogue, header(1, 2, 1, modality="CT"))
        assert [row[4] for row in searched(connection)] == [["CT", "DX"]]
        connection.execute("UPDATE study SET patient_name_folded = 'other', study_date = NULL")
        assert [row[2:4] for row in searched(connection)] == [(2147483647, "other")]
        catalogue.studies.delete("2.25.1")
        assert searched(connection) == []


@pytest.fixture(scope="module")
def many(database: str) -> str:
    """The connection string of a database with 10,000 studies, one series and instance each, known to the planner."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("DELETE FROM study")
        connection.execute(
            "INSERT INTO study (study_uid, patient_id, patient_name_folded, referring_physician_folded, study_date,"
            " patient_birth_date, accession_number, study_description, modalities)"
            " SELECT '1.' || n, 'PAT' || lpad(n::text, 7, '0'), md5(n::text) || '^' || md5((n % 500)::text),"
            " md5((n % 300)::text) || '^x', date '2024-01-01' - n % 3000, date '1950-01-01' + n % 10000,"
            " 'ACC' || n * 7919 % 1000003, CASE n % 100 WHEN 7 THEN 'CT Angiography' ELSE 'Chest PA' END,"
            " ARRAY[CASE n % 1000 WHEN 5 THEN 'XA' ELSE 'DX' END] FROM generate_series(1, 10000) n"
        )
        connection.execute(
            "INSERT INTO series (series_uid, study_uid, modality) SELECT study_uid || '.1', study_uid, 'DX' FROM study"
        )
        connection.execute(
            "INSERT INTO instance (sop_uid, series_uid, study_uid, sop_class_uid, transfer_syntax_uid, content_sha256,"
            " size_bytes, attributes)"
            " SELECT study_uid || '.1.1', study_uid || '.1', study_uid, '1.2', '1.2', study_uid, 1, '{}' FROM study"
        )
        connection.execute("INSERT INTO model (model_id, kind, dim, manifest) VALUES ('any', 'CXR', 1, '{}')")
        connection.execute(
            "INSERT INTO encoding (study_uid, series_uid, sop_uid, model_id, revision, regions, vectors)"
            " SELECT study_uid, study_uid || '.1', study_uid || '.1.1', 'any', 1, '{chest}', '\\x0000803f' FROM study"
        )
        connection.execute("VACUUM ANALYZE")
    return database


def scans(plan: dict[str, Any]) -> Iterator[str]:
    """The indexes and tables that a plan reads."""
    if "Index Name" in plan:
        yield plan["Index Name"]
    elif plan["Node Type"].endswith("Seq Scan"):
        yield f"all of {plan['Relation Name']}"
    for below in plan.get("Plans", []):
        yield from scans(below)


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What each search of studies reads, as the server plans it in that very transaction."""
    return planned("study_search k", monkeypatch)


@pytest.fixture
def row_plans(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """As ``plans``, of the statements that fetch the rows of a page."""
    return planned("AS page (key, place)", monkeypatch)


def planned(words: str, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """By statement with ``words`` in it."""
    read: list[list[str]] = []
    run = qido.run_now

    def explained(connection: Any, statement: tuple[str, list[Any]]) -> list[Any]:
        sql, params = statement
        if words in sql and not sql.startswith("EXPLAIN"):
            answer = run(connection, (f"EXPLAIN (FORMAT JSON) {sql}", params))
            read.append(list(scans(answer[0]["QUERY PLAN"][0]["Plan"])))
        return run(connection, statement)

    monkeypatch.setattr(qido, "run_now", explained)
    return read


TERMS, IN_ORDER = ["study_search_by_terms"], ["study_search_in_order"]


@pytest.mark.parametrize(
    ("keys", "fuzzy", "read"),
    [  # as OHIF 3 sends the filters of its study list, then what others send
        ({NAME: "*d41d8*"}, False, TERMS),
        ({NAME: "*d41d8*"}, True, TERMS),
        ({NAME: "*zz*"}, False, TERMS),
        ({NAME: "*ü?q*"}, False, TERMS),
        ({PATIENT_ID: "*0001234*"}, False, TERMS),
        ({ACCESSION: "*C12345*"}, False, TERMS),
        ({DESCRIPTION: "*Angio*"}, False, TERMS),
        ({MODALITIES: "XA"}, False, ["study_search_by_modality"]),
        ({DATE: "20231201-20231202"}, False, IN_ORDER),
        (
            {NAME: "*d41d8*", PATIENT_ID: "*123*", ACCESSION: "*12*", DESCRIPTION: "*Angio*", MODALITIES: "XA"},
            False,
            None,
        ),
        ({"0020000D": "1.7\\1.8\\1.9"}, False, ["study_search_pkey"]),
        ({PATIENT_ID: "PAT0001234"}, False, TERMS),
        ({ACCESSION: "ACC12345"}, False, ["study_search_by_accession"]),
        ({NAME: "d41d8*"}, False, TERMS),
        ({NAME: "*^d41d8"}, False, TERMS),
        ({NAME: "d4?d8*"}, False, TERMS),
        ({NAME: "d41d8 9bf31c7f"}, True, TERMS),
        ({REFERRING: "*1d7f7a*"}, False, TERMS),
        ({"00100030": "19500301"}, False, ["study_search_by_birth_date"]),
        ({"0020000E": "1.7.1"}, False, None),
    ],
)
def test_an_index_serves_each_filter_of_a_study_list(
    many: str, plans: list[list[str]], keys: dict[str, str], fuzzy: bool, read: list[str] | None
) -> None:
    vrs = {NAME: "PN", REFERRING: "PN", DATE: "DA", "00100030": "DA", MODALITIES: "CS", "0020000D": "UI"}
    asked = tuple(
        Match(path=(tag,), vr=vrs.get(tag, "LO"), values=tuple(value.split("\\"))) for tag, value in keys.items()
    )
    with Catalogue.open(Settings(database_url=many)) as catalogue:
        catalogue.qido.search(QidoQuery(level=QidoLevel.STUDY, limit=101, matches=asked, fuzzy=fuzzy))
    assert len(plans) == 1
    assert plans[0] == read if read is not None else "all of study_search" not in plans[0]


@pytest.mark.parametrize(
    "keys", [{}, {MODALITIES: "DX"}, {DESCRIPTION: "*Chest*"}, {DATE: "20180101-20231231"}], ids=str
)
def test_a_dense_list_is_read_in_order(many: str, plans: list[list[str]], keys: dict[str, str]) -> None:
    asked = tuple(Match(path=(tag,), vr="DA" if tag == DATE else "CS", values=(value,)) for tag, value in keys.items())
    with Catalogue.open(Settings(database_url=many)) as catalogue:
        page = catalogue.qido.search(QidoQuery(level=QidoLevel.STUDY, limit=101, offset=101, matches=asked))
    assert len(page.rows) == 101 and not page.is_exact
    assert plans[1:] == [IN_ORDER]


@pytest.mark.parametrize(
    ("level", "index"), [(QidoLevel.STUDY, "instance_by_study"), (QidoLevel.SERIES, "instance_by_series")]
)
@pytest.mark.parametrize("keys", [{}, {DESCRIPTION: "*Angio*"}], ids=["dense", "counted"])
def test_the_headers_of_a_page_are_read_by_their_studies_alone(
    many: str, row_plans: list[list[str]], level: QidoLevel, index: str, keys: dict[str, str]
) -> None:
    asked = tuple(Match(path=(tag,), vr="LO", values=(value,)) for tag, value in keys.items())
    with Catalogue.open(Settings(database_url=many)) as catalogue:
        page = catalogue.qido.search(QidoQuery(level=level, limit=25, matches=asked))
    assert len(page.rows) == 25 and page.is_exact == bool(keys)
    [read] = row_plans
    assert index in read and "instance_pkey" not in read


@pytest.mark.parametrize(("value", "count", "by_terms"), [("*Angio*", 100, True), ("*Chest*", 9900, False)])
def test_a_text_filter_of_cases_uses_the_terms_where_they_are_rare(
    many: str, plans: list[list[str]], value: str, count: int, by_terms: bool
) -> None:
    asked = QidoQuery(level=QidoLevel.STUDY, limit=0, matches=(Match(path=(DESCRIPTION,), vr="LO", values=(value,)),))
    with Catalogue.open(Settings(database_url=many)) as catalogue:
        assert len(catalogue.cases.matching("any", asked)) == count
    [read] = plans
    assert ("study_search_by_terms" in read) == by_terms
