"""QIDO-RS searches over the catalogue (PS3.18 10.6; matching by PS3.4 C.2.2.2).

A key of the level asked for, or of one above, is compared with a column; every other one with the stored headers of
the instances below: a study matches when one of its instances does.

Studies are searched in ``study_search``. Up to COUNTED_MAX matches, twice as many by the index over terms, are found by
the indexes of their keys, counted and put into order. More matches than that are dense, so that the list of all
studies, read from the newest, soon fills a page: from the place where an earlier page ended, where that is known
(`qido_page_starts`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, LiteralString

from psycopg import errors

from radir_pacs.catalogue.database import Connection, Database, Row
from radir_pacs.catalogue.part import CataloguePart
from radir_pacs.catalogue.qido_matching import date_range
from radir_pacs.catalogue.qido_page_starts import PageStarts
from radir_pacs.catalogue.qido_statements import (
    COLUMNS,
    COUNTED_MAX,
    QidoLevel,
    QidoQuery,
    Search,
    Statement,
    where_of,
)
from radir_pacs.catalogue.rows import CatalogueSeries, StoredInstance
from radir_pacs.catalogue.studies import study_of
from radir_pacs.config import Settings
from radir_pacs.errors import TooLarge
from radir_pacs.study_attributes import COUNTED
from radir_pacs.types import CatalogueStudy

__all__ = [
    "SEARCH_TIMEOUT_S",
    "Qido",
    "QidoLevel",
    "QidoPage",
    "QidoQuery",
    "QidoRow",
    "Search",
    "date_range",
    "is_dense",
    "run_now",
    "where_of",
]

SEARCH_TIMEOUT_S = 10
_DENSE = 0.05  # share of all studies from which on reading them beats the index over terms
_ROWS_A_FETCH = 200


@dataclass(frozen=True, kw_only=True)
class QidoRow:
    """One match. ``attributes`` is the header of the instance, or of a representative one of the study or series."""

    study: CatalogueStudy
    series: CatalogueSeries | None
    instance: StoredInstance | None
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class QidoPage:
    """``more``: how many matches follow these rows; at least so many, where it is not exact."""

    rows: tuple[QidoRow, ...]
    more: int
    is_exact: bool = True


_ROWS: Mapping[QidoLevel, LiteralString] = {
    QidoLevel.STUDY: "study s ON s.study_uid = page.key",
    QidoLevel.SERIES: "series e ON e.series_uid = page.key JOIN study s USING (study_uid)",
    QidoLevel.INSTANCE: "instance i ON i.sop_uid = page.key JOIN series e USING (series_uid)"
    " JOIN study s ON s.study_uid = i.study_uid",
}
_SAMPLE: Mapping[QidoLevel, LiteralString] = {
    QidoLevel.STUDY: "(SELECT attributes FROM instance WHERE study_uid = s.study_uid ORDER BY sop_uid LIMIT 1)",
    QidoLevel.SERIES: "(SELECT attributes FROM instance WHERE series_uid = e.series_uid ORDER BY sop_uid LIMIT 1)",
    QidoLevel.INSTANCE: "i.attributes",
}
# Of one transaction: all of it sees the same studies. What is searched is mostly in memory: to read a row costs little
# more than to find that it need not be read.
_READING = (
    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY;"
    f" SET LOCAL statement_timeout = {SEARCH_TIMEOUT_S * 1000}; SET LOCAL work_mem = '32MB';"
    " SET LOCAL random_page_cost = 1.1"
)
# Studies are read in their order, and what else is asked about looked up for each; then any way is open again: without
# sorting, the header of one instance of a study would be found by reading all instances in their order.
_WAYS = ("sort", "seqscan", "bitmapscan", "hashjoin", "mergejoin")
_IN_ORDER, _ANY_WAY = ("; ".join(f"SET LOCAL enable_{way} = {switch}" for way in _WAYS) for switch in ("off", "on"))
_STUDY_COLUMNS = tuple(name for name in CatalogueStudy.__dataclass_fields__ if name not in COUNTED)
_SERIES_COLUMNS = "study_uid series_uid modality series_number series_description body_part"
_INSTANCE_COLUMNS = (
    "study_uid series_uid sop_uid sop_class_uid transfer_syntax_uid instance_number rows_px columns_px "
    "frames content_sha256 size_bytes source received_at"
)


class Qido(CataloguePart):
    def __init__(self, database: Database, settings: Settings) -> None:
        super().__init__(database, settings)
        self._starts = PageStarts()

    def search(self, query: QidoQuery) -> QidoPage:
        """One page of matches in a stable total order, and how many follow it.

        Where more than COUNTED_MAX match, a page goes on where the page before it ended, if this process gave that one
        lately: studies that came or went since make it neither repeat nor skip any.
        Raises BadInput on a value that cannot be compared and TooLarge when the search exceeds its time.
        """
        search = Search.of(query)
        with self._database.transaction() as connection:
            try:
                connection.execute(_READING.encode())
                by_terms = search.condition.terms is not None and not is_dense(connection, search)
                counted = run_now(connection, search.counted(by_terms=by_terms))[0]
                if counted["keys"] is not None:
                    keys, follows = counted["keys"], False
                    more, is_exact = max(0, counted["total"] - query.offset - len(keys)), True
                else:
                    keys, follows = self._walk(connection, search)
                    is_exact = query.limit > 0 and not follows
                    more = 0 if is_exact else max(int(follows), counted["total"] - query.offset - len(keys))
                return QidoPage(rows=_rows(connection, query, keys), more=more, is_exact=is_exact)
            except errors.QueryCanceled:
                raise TooLarge("the search takes too long; narrow it down") from None

    def _walk(self, connection: Connection, search: Search) -> tuple[list[str], bool]:
        """The keys of the page, and whether a match follows them, where more match than are counted."""
        query = search.query
        if query.limit == 0:
            return [], False
        asked = replace(query, limit=0, offset=0, tags=None)
        start = self._starts.nearest(asked, query.offset)
        connection.execute(_IN_ORDER.encode())
        rows = run_now(connection, search.walked(start))
        is_short = len(rows) <= query.limit and search.condition != search.of_day
        goes_on = is_short and run_now(connection, search.goes_on(start))
        connection.execute(_ANY_WAY.encode())
        if goes_on:
            rows = run_now(connection, search.sorted(start))
        page = rows[: query.limit]
        studies = [(row["newest_first"], row["study_uid"]) for row in page]
        self._starts.remember(asked, query.offset, studies, one_each=query.level is QidoLevel.STUDY)
        return [row["key"] for row in page], len(rows) > query.limit


def run_now(connection: Connection, statement: Statement) -> list[Row]:
    """The rows of a statement that is planned for its values."""
    sql, params = statement
    return connection.execute(sql.encode(), params, prepare=False).fetchall()


def is_dense(connection: Connection, search: Search) -> bool:
    """Whether, as the planner reckons, so many studies match that reading some finds them sooner than the terms."""
    sql, params = search.reckoned()
    plan = run_now(connection, (f"EXPLAIN (FORMAT JSON) {sql}", params))[0]["QUERY PLAN"][0]["Plan"]
    studies = run_now(connection, ("SELECT reltuples FROM pg_class WHERE oid = 'study_search'::regclass", []))
    return bool(plan["Plan Rows"] > max(COUNTED_MAX, _DENSE * studies[0]["reltuples"]))


def _rows(connection: Connection, query: QidoQuery, keys: Sequence[str]) -> tuple[QidoRow, ...]:
    """The rows of these keys, in their order; a few at a time, so that no more headers than that are in memory (P6)."""
    tags = (
        None if query.tags is None else query.tags - (frozenset(COLUMNS) if query.level is QidoLevel.STUDY else set())
    )
    sample: str = _SAMPLE[query.level]
    if tags is not None:
        sample = (
            f"(SELECT jsonb_object_agg(key, value) FROM jsonb_each({sample}) WHERE key = ANY(%s))" if tags else "NULL"
        )
    sql = (
        f"SELECT {_columns(query.level)}, {sample} AS attributes"
        f" FROM unnest(%s::text[]) WITH ORDINALITY AS page (key, place) JOIN {_ROWS[query.level]} ORDER BY place"
    )
    given = [sorted(tags)] if tags else []
    rows = tuple(
        _row(row, query)
        for start in range(0, len(keys), _ROWS_A_FETCH)
        for row in run_now(connection, (sql, [*given, list(keys[start : start + _ROWS_A_FETCH])]))
    )
    return _counted(connection, rows)


def _columns(level: QidoLevel) -> str:
    columns = [f"s.{name}" for name in _STUDY_COLUMNS]
    columns += ["0 AS series_count", "0 AS instance_count"]  # counted for the whole page at once, in _counted
    if level >= QidoLevel.SERIES:
        columns += [f"e.{name} AS e_{name}" for name in _SERIES_COLUMNS.split()]
        columns.append("0 AS e_instance_count")
    if level >= QidoLevel.INSTANCE:
        columns += [f"i.{name} AS i_{name}" for name in _INSTANCE_COLUMNS.split()]
    return ", ".join(columns)


def _row(row: Row, query: QidoQuery) -> QidoRow:
    series = instance = None
    level = query.level
    attributes = row["attributes"] or {}
    if level >= QidoLevel.SERIES:
        series = CatalogueSeries(**{name: row[f"e_{name}"] for name in (*_SERIES_COLUMNS.split(), "instance_count")})
    if level >= QidoLevel.INSTANCE:
        instance = StoredInstance(
            attributes=attributes, **{name: row[f"i_{name}"] for name in _INSTANCE_COLUMNS.split()}
        )
    return QidoRow(study=study_of(row), series=series, instance=instance, attributes=attributes)


def _counted(connection: Connection, rows: tuple[QidoRow, ...]) -> tuple[QidoRow, ...]:
    """``rows`` with their numbers of series and instances, counted once per study rather than once per row."""
    studies = list({row.study.study_uid for row in rows})
    series = list({row.series.series_uid for row in rows if row.series is not None})
    n_series, n_instances, n_in_series = (
        {found["uid"]: found["n"] for found in connection.execute(sql, [uids])} if uids else {}
        for sql, uids in (
            ("SELECT study_uid AS uid, count(*) AS n FROM series WHERE study_uid = ANY(%s) GROUP BY 1", studies),
            ("SELECT study_uid AS uid, count(*) AS n FROM instance WHERE study_uid = ANY(%s) GROUP BY 1", studies),
            ("SELECT series_uid AS uid, count(*) AS n FROM instance WHERE series_uid = ANY(%s) GROUP BY 1", series),
        )
    )
    return tuple(
        replace(
            row,
            study=replace(
                row.study,
                series_count=n_series.get(row.study.study_uid, 0),
                instance_count=n_instances.get(row.study.study_uid, 0),
            ),
            series=row.series and replace(row.series, instance_count=n_in_series.get(row.series.series_uid, 0)),
        )
        for row in rows
    )
