"""QIDO-RS searches over the catalogue (PS3.18 10.6; matching by PS3.4 C.2.2.2).

A key of the level asked for, or of one above, is compared with a column; every other one with the stored headers of
the instances below: a study matches when one of its instances does.

Studies are searched in ``study_search``. Up to COUNTED_MAX matches are found by the indexes of their keys, counted and
put into order. More matches than that are dense, so that the list of all studies, read from the newest, soon fills a
page: from the place where an earlier page ended, where that is known (`qido_places`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any, LiteralString

from psycopg import errors

from radir_pacs.catalogue.database import Connection, Database, Row
from radir_pacs.catalogue.part import CataloguePart
from radir_pacs.catalogue.qido_matching import Condition, Match, compare, date_range, together
from radir_pacs.catalogue.qido_places import Place, Places
from radir_pacs.catalogue.rows import CatalogueSeries, StoredInstance
from radir_pacs.catalogue.studies import study_of
from radir_pacs.config import Settings
from radir_pacs.errors import TooLarge
from radir_pacs.study_attributes import COUNTED, STUDY_ATTRIBUTES
from radir_pacs.types import CatalogueStudy

__all__ = ["Match", "Qido", "QidoLevel", "QidoPage", "QidoQuery", "QidoRow", "date_range"]

SEARCH_TIMEOUT_S = 10
COUNTED_MAX = 10_000
WALKED_MAX = 50_000  # studies read from the newest, before all matches are put into order
_DENSE = 0.05  # share of all studies above which reading them beats the index over terms
_ROWS_A_FETCH = 200


class QidoLevel(IntEnum):
    STUDY = 1
    SERIES = 2
    INSTANCE = 3


@dataclass(frozen=True, kw_only=True)
class QidoQuery:
    """A search at ``level``, inside one study or series when these are given. ``limit`` 0 only counts.

    ``tags``: which attributes of the stored header the rows carry; None: all of them, bulk data aside.
    """

    level: QidoLevel
    limit: int
    offset: int = 0
    study_uid: str | None = None
    series_uid: str | None = None
    matches: tuple[Match, ...] = ()
    fuzzy: bool = False
    tags: frozenset[str] | None = None


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


_SERIES_COUNT: LiteralString = "(SELECT count(*) FROM series c WHERE c.study_uid = k.study_uid)"
_INSTANCE_COUNT: LiteralString = "(SELECT count(*) FROM instance c WHERE c.study_uid = k.study_uid)"
_SERIES_INSTANCES: LiteralString = "(SELECT count(*) FROM instance c WHERE c.series_uid = e.series_uid)"

_DAY = ("00080020",)  # Study Date
_KIND_OF_STUDY_VR = {"DA": "date", "TM": "time", "IS": "number"}  # of the VRs that STUDY_ATTRIBUTES have
_KINDS_OF_STUDY = {
    "study_date": "day",
    "accession_number": "text a",
    "modalities": "members",
    "referring_physician": "name r",
    "study_description": "text d",
    "patient_name": "name n",
    "patient_id": "identifier i",
}


def _study_columns() -> dict[str, tuple[QidoLevel, LiteralString, str]]:
    special: dict[str, LiteralString] = {
        "series_count": _SERIES_COUNT,
        "instance_count": _INSTANCE_COUNT,
        "study_date": "k.newest_first",
        "patient_name": "k.patient_name_folded",
        "referring_physician": "k.referring_physician_folded",
    }
    columns: dict[str, tuple[QidoLevel, LiteralString, str]] = {}
    for attribute in STUDY_ATTRIBUTES:
        expression = special.get(attribute.name) or f"k.{attribute.name}"
        kind = _KINDS_OF_STUDY.get(attribute.name) or _KIND_OF_STUDY_VR.get(attribute.vr, "text")
        columns[attribute.tag] = (QidoLevel.STUDY, expression, kind)
    return columns


# Tag -> (level of the row that holds it, SQL expression, kind of comparison).
_COLUMNS: Mapping[str, tuple[QidoLevel, LiteralString, str]] = {
    **_study_columns(),
    "0020000E": (QidoLevel.SERIES, "e.series_uid", "text"),
    "00080060": (QidoLevel.SERIES, "e.modality", "text"),
    "0008103E": (QidoLevel.SERIES, "e.series_description", "text"),
    "00180015": (QidoLevel.SERIES, "e.body_part", "text"),
    "00200011": (QidoLevel.SERIES, "e.series_number", "number"),
    "00201209": (QidoLevel.SERIES, _SERIES_INSTANCES, "number"),
    "00080016": (QidoLevel.INSTANCE, "i.sop_class_uid", "text"),
    "00080018": (QidoLevel.INSTANCE, "i.sop_uid", "text"),
    "00080062": (QidoLevel.INSTANCE, "i.sop_class_uid", "text"),  # SOP Classes in Study
    "00200013": (QidoLevel.INSTANCE, "i.instance_number", "number"),
    "00280008": (QidoLevel.INSTANCE, "i.frames", "number"),
    "00280010": (QidoLevel.INSTANCE, "i.rows_px", "number"),
    "00280011": (QidoLevel.INSTANCE, "i.columns_px", "number"),
}
_KIND_OF_VR = {
    "PN": "header-name",
    "DA": "dates",
    "DT": "time",
    "TM": "time",
    "IS": "number",
    "DS": "number",
} | dict.fromkeys(("US", "SS", "UL", "SL", "UV", "SV", "FL", "FD"), "number")

_BELOW: Mapping[QidoLevel, LiteralString] = {  # beside the studies k
    QidoLevel.STUDY: "",
    QidoLevel.SERIES: " JOIN series e ON e.study_uid = k.study_uid",
    QidoLevel.INSTANCE: " JOIN instance i ON i.study_uid = k.study_uid JOIN series e ON e.series_uid = i.series_uid",
}
_KEY: Mapping[QidoLevel, LiteralString] = {
    QidoLevel.STUDY: "k.study_uid",
    QidoLevel.SERIES: "e.series_uid",
    QidoLevel.INSTANCE: "i.sop_uid",
}
_ORDER: Mapping[QidoLevel, LiteralString] = {
    QidoLevel.STUDY: "k.newest_first, k.study_uid",
    QidoLevel.SERIES: "k.newest_first, k.study_uid, e.series_number, e.series_uid",
    QidoLevel.INSTANCE: "k.newest_first, k.study_uid, e.series_number, e.series_uid, i.instance_number, i.sop_uid",
}
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
# Of one transaction. No search waits for its plan to be compiled; a walk reads studies in order and looks the rest up.
_QUICKLY = "SET LOCAL jit = off; SET LOCAL work_mem = '32MB'"
_IN_ORDER = "; ".join(
    f"SET LOCAL enable_{way} = off" for way in ("sort", "seqscan", "bitmapscan", "hashjoin", "mergejoin")
)
_TERMS: LiteralString = (
    "search_terms(k.patient_name_folded, k.referring_physician_folded, k.patient_id, k.accession_number,"
    " k.study_description) @@ %s::tsquery"
)
_STUDY_COLUMNS = tuple(name for name in CatalogueStudy.__dataclass_fields__ if name not in COUNTED)
_SERIES_COLUMNS = "study_uid series_uid modality series_number series_description body_part"
_INSTANCE_COLUMNS = (
    "study_uid series_uid sop_uid sop_class_uid transfer_syntax_uid instance_number rows_px columns_px "
    "frames content_sha256 size_bytes source received_at"
)


_Statement = tuple[str, list[Any]]  # built only from constants of this package; every value is a parameter


@dataclass(frozen=True, kw_only=True)
class Search:
    """A query as SQL: its conditions, those of them on studies alone, and of these the ones on the day alone."""

    query: QidoQuery
    condition: Condition
    of_study: Condition
    of_day: Condition

    @classmethod
    def of(cls, query: QidoQuery) -> Search:
        """Raises BadInput."""
        found = [_condition(match, query) for match in query.matches]
        if query.study_uid is not None:
            found.append((QidoLevel.STUDY, Condition(sql="k.study_uid = %s", params=(query.study_uid,))))
        if query.series_uid is not None:
            found.append((QidoLevel.SERIES, Condition(sql="e.series_uid = %s", params=(query.series_uid,))))
        return cls(
            query=query,
            condition=together(condition for _, condition in found),
            of_study=together(condition for holder, condition in found if holder is QidoLevel.STUDY),
            of_day=together(_condition(match, query)[1] for match in query.matches if match.path == _DAY),
        )

    @property
    def most(self) -> int | None:
        """How many matches are counted: all of one study."""
        return None if self.query.study_uid is not None else COUNTED_MAX

    def counted(self, *, by_terms: bool) -> _Statement:
        """``total``, at most one more than are counted, and the ``keys`` of the page: null where there are more."""
        columns = _ORDER[self.query.level].split(", ")
        order = ", ".join(f"c{number}" for number in range(len(columns)))
        where, params = _where(self.condition, by_terms)
        found = ", ".join(f"{column} AS c{number}" for number, column in enumerate(columns))
        sql = (
            f"WITH found AS MATERIALIZED (SELECT {found} FROM study_search k{_BELOW[self.query.level]} WHERE {where}"
            " LIMIT %s), counted AS (SELECT count(*) AS total FROM found)"
            f" SELECT total, CASE WHEN total <= coalesce(%s, total) THEN ARRAY(SELECT c{len(columns) - 1} FROM found"
            f" ORDER BY {order} LIMIT %s OFFSET %s) END AS keys FROM counted"
        )
        one_more = None if self.most is None else self.most + 1
        return sql, [*params, one_more, self.most, self.query.limit, self.query.offset]

    def walked(self, place: Place) -> _Statement:
        """The matches from ``place`` on among as many studies as are walked: the page's, and one more."""
        window, from_place = self._from(place)
        most = None if self.condition == self.of_day else WALKED_MAX
        studies = f"(SELECT k.* FROM {window} ORDER BY k.newest_first, k.study_uid LIMIT %s) k"
        return self._page(studies, "TRUE", [*from_place, most], place, by_terms=False)

    def sorted(self, place: Place) -> _Statement:
        """The same rows, by whatever way the planner chooses."""
        window, from_place = self._from(place)
        studies, _, where = window.partition(" WHERE ")
        return self._page(studies, where, from_place, place, by_terms=self.condition.terms is not None)

    def goes_on(self, place: Place) -> _Statement:
        """A row when there are more studies from ``place`` on than are walked."""
        window, from_place = self._from(place)
        order = "ORDER BY k.newest_first, k.study_uid OFFSET %s LIMIT 1"
        return f"SELECT k.study_uid FROM {window} {order}", [*from_place, WALKED_MAX]

    def _from(self, place: Place) -> _Statement:
        where = f"(k.newest_first, k.study_uid) >= (%s, %s) AND {self.of_day.sql}"
        return f"study_search k WHERE {where}", [place.newest_first, place.study_uid, *self.of_day.params]

    def _page(self, studies: str, where: str, params: list[Any], place: Place, *, by_terms: bool) -> _Statement:
        level, (condition, compared) = self.query.level, _where(self.condition, by_terms)
        sql = (
            f"SELECT k.newest_first, k.study_uid, {_KEY[level]} AS key FROM {studies}{_BELOW[level]}"
            f" WHERE {where} AND {condition} ORDER BY {_ORDER[level]} LIMIT %s OFFSET %s"
        )
        return sql, [*params, *compared, self.query.limit + 1, self.query.offset - place.row]


class Qido(CataloguePart):
    def __init__(self, database: Database, settings: Settings) -> None:
        super().__init__(database, settings)
        self._places = Places()

    def search(self, query: QidoQuery) -> QidoPage:
        """One page of matches in a stable total order, and how many follow it.

        Where more than COUNTED_MAX match, a page goes on where the page before it ended, if this process gave that one
        lately: studies that came or went since make it neither repeat nor skip any.
        Raises BadInput on a value that cannot be compared and TooLarge when the search exceeds its time.
        """
        search = Search.of(query)
        with self._database.transaction() as connection:
            try:
                connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                connection.execute(f"SET LOCAL statement_timeout = {SEARCH_TIMEOUT_S * 1000}; {_QUICKLY}".encode())
                by_terms = search.condition.terms is not None and not _is_dense(connection, search)
                counted = _run(connection, search.counted(by_terms=by_terms))[0]
                total, keys, follows = counted["total"], counted["keys"], False
                if keys is None:
                    keys, follows = self._walk(connection, search)
                more = max(int(follows), total - query.offset - len(keys))
                is_exact = counted["keys"] is not None or (query.limit > 0 and not follows)
                return QidoPage(
                    rows=_rows(connection, query, keys),
                    more=0 if is_exact and counted["keys"] is None else more,
                    is_exact=is_exact,
                )
            except errors.QueryCanceled:
                raise TooLarge("the search takes too long; narrow it down") from None

    def _walk(self, connection: Connection, search: Search) -> tuple[list[str], bool]:
        """The keys of the page, and whether a match follows them, where more match than are counted."""
        query = search.query
        if query.limit == 0:
            return [], False
        asked = replace(query, limit=0, offset=0, tags=None)
        place = self._places.nearest(asked, query.offset)
        connection.execute(_IN_ORDER.encode())
        rows = _run(connection, search.walked(place))
        if len(rows) <= query.limit and search.condition != search.of_day and _run(connection, search.goes_on(place)):
            connection.execute(_IN_ORDER.replace("off", "on").encode())
            rows = _run(connection, search.sorted(place))
        page = rows[: query.limit]
        studies = [(row["newest_first"], row["study_uid"]) for row in page]
        self._places.remember(asked, query.offset, studies, one_each=query.level is QidoLevel.STUDY)
        return [row["key"] for row in page], len(rows) > query.limit


def _run(connection: Connection, statement: _Statement) -> list[Row]:
    sql, params = statement
    return connection.execute(sql.encode(), params, prepare=False).fetchall()  # a plan for these very values


def _is_dense(connection: Connection, search: Search) -> bool:
    """Whether, as the planner reckons, so many studies match that reading some finds them sooner than the terms."""
    where, params = _where(search.of_study, by_terms=False)
    rows = connection.execute(f"EXPLAIN (FORMAT JSON) SELECT FROM study_search k WHERE {where}".encode(), params)
    plan = rows.fetchall()[0]["QUERY PLAN"]
    known = connection.execute("SELECT reltuples FROM pg_class WHERE oid = 'study_search'::regclass").fetchone()
    return known is not None and plan[0]["Plan"]["Plan Rows"] > max(COUNTED_MAX, _DENSE * known["reltuples"])


def _where(condition: Condition, by_terms: bool) -> _Statement:
    if by_terms:
        return f"{_TERMS} AND {condition.sql}", [condition.terms, *condition.params]
    return condition.sql, [*condition.params]


def _rows(connection: Connection, query: QidoQuery, keys: Sequence[str]) -> tuple[QidoRow, ...]:
    """The rows of these keys, in their order; a few at a time, so that no more headers than that are in memory (P6)."""
    tags = (
        None if query.tags is None else query.tags - (frozenset(_COLUMNS) if query.level is QidoLevel.STUDY else set())
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
        for row in _run(connection, (sql, [*given, list(keys[start : start + _ROWS_A_FETCH])]))
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


def _condition(match: Match, query: QidoQuery) -> tuple[QidoLevel, Condition]:
    """One key at the query's level, and the level of the rows that hold it."""
    if len(match.path) == 1 and match.path[0] in _COLUMNS:
        holder, expression, kind = _COLUMNS[match.path[0]]
        condition = compare(expression, kind, match, fuzzy=query.fuzzy)
    else:
        holder = QidoLevel.INSTANCE
        steps = [f'."{tag}".Value[*]' for tag in match.path] + ([".*"] if match.vr == "PN" else [])
        compared = compare("(found #>> '{}')", _KIND_OF_VR.get(match.vr, "text"), match, fuzzy=query.fuzzy)
        condition = Condition(
            sql=f"EXISTS (SELECT FROM jsonb_path_query(i.attributes, %s::jsonpath) found WHERE {compared.sql})",
            params=("$" + "".join(steps), *compared.params),
        )
    if holder <= query.level:
        return holder, condition
    above = "study_uid = k.study_uid" if query.level is QidoLevel.STUDY else "series_uid = e.series_uid"
    row, table = ("e", "series e") if holder is QidoLevel.SERIES else ("i", "instance i")
    return holder, replace(condition, sql=f"EXISTS (SELECT FROM {table} WHERE {row}.{above} AND ({condition.sql}))")
