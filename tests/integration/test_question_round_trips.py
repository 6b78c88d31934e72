"""A similar-case question costs at most three round trips to Postgres: counted, so that none creeps in."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from radir_pacs.catalogue.database import Database
from radir_pacs.catalogue.index_rows import Question
from radir_pacs.catalogue.questions import Questions
from tests.integration.conftest import Web
from tests.integration.test_web_similar import archive, at_angle, encode, found, radiograph, uid, uids

ROUND_TRIPS = {"_statement": 1, "pipeline": 1, "transaction": 3}  # the last: BEGIN or a try, statements, COMMIT


@pytest.fixture
def trips(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ways by which requests asked the database, in order; questions in shadow, in a thread of their own, not."""
    asked: list[str] = []

    def counted(name: str, way: Any) -> Any:
        @contextmanager
        def wrapper(database: Database) -> Iterator[Any]:
            if threading.current_thread().name.startswith("waitress"):
                asked.append(name)
            leased: AbstractContextManager[Any] = way(database)
            with leased as connection:
                yield connection

        return wrapper

    for name in ROUND_TRIPS:
        monkeypatch.setattr(Database, name, counted(name, getattr(Database, name)))
    return asked


def keep_tokens(web: Web) -> None:
    """Else a request reads them once a second, for all that follow."""
    web.app.extensions["radir"].bearers._read_s = float("inf")


def cost(trips: list[str]) -> int:
    return sum(ROUND_TRIPS[name] for name in trips)


@pytest.mark.parametrize(
    "query",
    ["limit=5", "anatomy=left lung&PatientSex=M", "anatomy=left_lung:2,right_lung&limit=3", "limit=2&offset=3"],
)
def test_a_question_costs_at_most_three_round_trips(web: Web, trips: list[str], query: str) -> None:
    archive(web)
    first = found(web, query)
    keep_tokens(web)
    trips.clear()
    assert found(web, query) == first
    assert 1 <= cost(trips) <= 3, trips


def test_news_costs_one_more(web: Web, trips: list[str]) -> None:
    archive(web)
    assert found(web, "limit=1") == uids(1)
    late = radiograph(StudyInstanceUID=uid(9), PatientID="P9", ImagerPixelSpacing=[1, 1])
    web.store(late)
    encode(web, late, at_angle(0))
    keep_tokens(web)
    trips.clear()
    assert found(web, "limit=1") == uids(9), "a committed encoding is in the very next answer"
    assert 1 <= cost(trips) <= 3, trips


def test_news_is_asked_for_where_the_answer_comes_from(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tail of a partition that nobody asks would grow with each study, and no build would ever replace it."""
    named: list[set[str]] = []
    ask = Questions.ask

    def spied(questions: Questions, *args: Any, **values: Any) -> Question:
        named.append({region for _, region in values["partitions"]})
        return ask(questions, *args, **values)

    monkeypatch.setattr(Questions, "ask", spied)
    archive(web)
    thin, enough = "anatomy=left lung&PatientSex=M", "anatomy=left lung"
    for query in (thin, thin, enough, enough):
        found(web, query)
    assert named == [set(), {"left_lung", "chest"}, {"left_lung", "chest"}, {"left_lung"}]
