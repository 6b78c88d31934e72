"""QIDO-RS searches over the catalogue (PS3.18 10.6; matching by PS3.4 C.2.2.2).

A key of the level asked for, or of one above, is compared with a column; every other one with the stored headers of
the instances below: a study matches when one of its instances does.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from enum import IntEnum
from typing import Any, LiteralString

from psycopg import errors

from radir_pacs.catalogue.database import Connection, Row
from radir_pacs.catalogue.names import folded, spelt_alike
from radir_pacs.catalogue.part import CataloguePart
from radir_pacs.catalogue.rows import CatalogueSeries, StoredInstance
from radir_pacs.catalogue.studies import study_of
from radir_pacs.errors import BadInput, TooLarge
from radir_pacs.study_attributes import COUNTED, STUDY_ATTRIBUTES
from radir_pacs.types import CatalogueStudy, Match

SEARCH_TIMEOUT_S = 10
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
    rows: tuple[QidoRow, ...]
    total: int  # all matches, not only this page

    def more_after(self, query: QidoQuery) -> int:
        return max(0, self.total - query.offset - len(self.rows))


_Params = list[Any]
_Condition = tuple[str, _Params]

_SERIES_COUNT: LiteralString = "(SELECT count(*) FROM series c WHERE c.study_uid = s.study_uid)"
_INSTANCE_COUNT: LiteralString = "(SELECT count(*) FROM instance c WHERE c.study_uid = s.study_uid)"
_SERIES_INSTANCES: LiteralString = "(SELECT count(*) FROM instance c WHERE c.series_uid = e.series_uid)"

_KIND_OF_STUDY_VR = {"DA": "date", "TM": "time", "PN": "name", "IS": "number"}  # of the VRs that STUDY_ATTRIBUTES have
_SEVERAL = frozenset({"modalities", "patient_id"})  # some systems write two ids of a patient


def _study_columns() -> dict[str, tuple[QidoLevel, LiteralString, str]]:
    special: dict[str, LiteralString] = {
        "series_count": _SERIES_COUNT,
        "instance_count": _INSTANCE_COUNT,
        "patient_name": "s.patient_name_folded",
        "referring_physician": "s.referring_physician_folded",
        "patient_id": "string_to_array(s.patient_id, E'\\\\')",
    }
    columns: dict[str, tuple[QidoLevel, LiteralString, str]] = {}
    for attribute in STUDY_ATTRIBUTES:
        expression = special.get(attribute.name) or f"s.{attribute.name}"
        kind = "array" if attribute.name in _SEVERAL else _KIND_OF_STUDY_VR.get(attribute.vr, "text")
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
    "PN": "header name",
    "DA": "dates",
    "DT": "time",
    "TM": "time",
    "IS": "number",
    "DS": "number",
} | dict.fromkeys(("US", "SS", "UL", "SL", "UV", "SV", "FL", "FD"), "number")

_TABLES: Mapping[QidoLevel, LiteralString] = {
    QidoLevel.STUDY: "study s",
    QidoLevel.SERIES: "series e JOIN study s USING (study_uid)",
    QidoLevel.INSTANCE: "instance i JOIN series e USING (series_uid) JOIN study s ON s.study_uid = i.study_uid",
}
_KEY: Mapping[QidoLevel, LiteralString] = {
    QidoLevel.STUDY: "s.study_uid",
    QidoLevel.SERIES: "e.series_uid",
    QidoLevel.INSTANCE: "i.sop_uid",
}
_ORDER: Mapping[QidoLevel, LiteralString] = {
    QidoLevel.STUDY: "s.study_date DESC NULLS LAST, s.study_uid",
    QidoLevel.SERIES: "s.study_date DESC NULLS LAST, s.study_uid, e.series_number, e.series_uid",
    QidoLevel.INSTANCE: "s.study_date DESC NULLS LAST, s.study_uid, e.series_number, e.series_uid,"
    " i.instance_number, i.sop_uid",
}
_SAMPLE: Mapping[QidoLevel, LiteralString] = {
    QidoLevel.STUDY: "(SELECT attributes FROM instance WHERE study_uid = s.study_uid ORDER BY sop_uid LIMIT 1)",
    QidoLevel.SERIES: "(SELECT attributes FROM instance WHERE series_uid = e.series_uid ORDER BY sop_uid LIMIT 1)",
    QidoLevel.INSTANCE: "i.attributes",
}
_STUDY_COLUMNS = tuple(name for name in CatalogueStudy.__dataclass_fields__ if name not in COUNTED)
_SERIES_COLUMNS = "study_uid series_uid modality series_number series_description body_part"
_INSTANCE_COLUMNS = (
    "study_uid series_uid sop_uid sop_class_uid transfer_syntax_uid instance_number rows_px columns_px "
    "frames content_sha256 size_bytes source received_at"
)


class Qido(CataloguePart):
    def search(self, query: QidoQuery) -> QidoPage:
        """One page of matches in a stable total order, and how many match in all.

        Raises BadInput on a value that cannot be compared and TooLarge when the search exceeds its time.
        """
        # Built only from constants of this module; every value is passed as a parameter.
        where, params = _where(query)
        tables = f"{_TABLES[query.level]} WHERE {where}"
        order, key = f"ORDER BY {_ORDER[query.level]}", _KEY[query.level]
        # Keys first: what else a row shows is looked up for the page alone, not for all that is passed over.
        keys = f"SELECT {key} FROM {tables} {order} LIMIT %s OFFSET %s"
        page = f"SELECT {_columns(query.level)} FROM {_TABLES[query.level]} WHERE {key} = ANY(ARRAY({keys})) {order}"
        with self._database.transaction() as connection:
            try:
                connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                connection.execute(f"SET LOCAL statement_timeout = {SEARCH_TIMEOUT_S * 1000}".encode())
                counted = connection.execute(f"SELECT count(*) AS total FROM {tables}".encode(), params).fetchone()
                total = counted["total"] if counted else 0
                if total <= query.offset or query.limit == 0:
                    return QidoPage(rows=(), total=total)
                # A server-side cursor: headers are reduced to the attributes asked for before many are in memory (P6).
                with connection.cursor(name="qido") as cursor:
                    cursor.execute(page.encode(), [*params, query.limit, query.offset])
                    cursor.itersize = _ROWS_A_FETCH
                    rows = tuple(_row(row, query) for row in cursor)
                rows = _counted(connection, rows)
            except errors.QueryCanceled:
                raise TooLarge("the search takes too long; narrow it down") from None
        return QidoPage(rows=rows, total=total)


def condition_of_study(query: QidoQuery) -> tuple[str, list[Any]]:
    """The SQL condition on a study ``s``, with its parameters, of a query at the level of studies. Raises BadInput."""
    return _where(query)


def _where(query: QidoQuery) -> _Condition:
    conditions = [_condition(match, query) for match in query.matches]
    if query.study_uid is not None:
        conditions.append(("s.study_uid = %s", [query.study_uid]))
    if query.series_uid is not None:
        conditions.append(("e.series_uid = %s", [query.series_uid]))
    where = " AND ".join(f"({sql})" for sql, _ in conditions) or "TRUE"
    return where, [param for _, given in conditions for param in given]


def _columns(level: QidoLevel) -> str:
    columns = [f"s.{name}" for name in _STUDY_COLUMNS]
    columns += ["0 AS series_count", "0 AS instance_count"]  # counted for the whole page at once, in _counted
    if level >= QidoLevel.SERIES:
        columns += [f"e.{name} AS e_{name}" for name in _SERIES_COLUMNS.split()]
        columns.append("0 AS e_instance_count")
    if level >= QidoLevel.INSTANCE:
        columns += [f"i.{name} AS i_{name}" for name in _INSTANCE_COLUMNS.split()]
    return ", ".join([*columns, f"{_SAMPLE[level]} AS attributes"])


def _row(row: Row, query: QidoQuery) -> QidoRow:
    series = instance = None
    level = query.level
    attributes = {
        tag: found for tag, found in (row["attributes"] or {}).items() if query.tags is None or tag in query.tags
    }
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
        {found["uid"]: found["n"] for found in connection.execute(sql, [uids])}
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


def _condition(match: Match, query: QidoQuery) -> _Condition:
    """The SQL of one key at the query's level."""
    if len(match.path) == 1 and match.path[0] in _COLUMNS:
        holder, expression, kind = _COLUMNS[match.path[0]]
        sql, params = _comparison(expression, kind, match, query.fuzzy)
    else:
        holder = QidoLevel.INSTANCE
        steps = [f'."{tag}".Value[*]' for tag in match.path] + ([".*"] if match.vr == "PN" else [])
        kind = _KIND_OF_VR.get(match.vr, "text")
        compared, given = _comparison("(found #>> '{}')", kind, match, query.fuzzy)
        sql = f"EXISTS (SELECT FROM jsonb_path_query(i.attributes, %s::jsonpath) found WHERE {compared})"
        params = ["$" + "".join(steps), *given]
    if holder <= query.level:
        return sql, params
    above = "s.study_uid" if query.level is QidoLevel.STUDY else "e.series_uid"
    row = "e" if holder is QidoLevel.SERIES else "i"
    table = "series e" if holder is QidoLevel.SERIES else "instance i"
    return f"EXISTS (SELECT FROM {table} WHERE {row}.{above[2:]} = {above} AND {sql})", params


def _comparison(expression: str, kind: str, match: Match, fuzzy: bool) -> _Condition:
    if kind == "array":
        one, params = _any_of(_text, "member", match)
        return f"EXISTS (SELECT FROM unnest({expression}) member WHERE {one})", params
    if kind == "name":
        return _any_of(_fuzzy_name if fuzzy else _name, expression, match)
    if kind == "header name":
        return _any_of(_fuzzy_header_name if fuzzy else _header_name, expression, match)
    compare = {"text": _text, "date": _date, "dates": _date_text, "time": _time, "number": _number}[kind]
    return _any_of(compare, expression, match)


def _any_of(compare: Callable[[str, str], _Condition], expression: str, match: Match) -> _Condition:
    parts = [compare(expression, unicodedata.normalize("NFC", value)) for value in match.values]
    return " OR ".join(f"({sql})" for sql, _ in parts), [param for _, given in parts for param in given]


def _pattern(value: str) -> str:
    """``value`` with DICOM wildcards as a LIKE pattern (PS3.4 C.2.2.2.4)."""
    escaped = value.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return escaped.replace("*", "%").replace("?", "_")


def _has_wildcard(value: str) -> bool:
    return "*" in value or "?" in value


def _text(expression: str, value: str) -> _Condition:
    if _has_wildcard(value):
        return f"{expression} LIKE %s", [_pattern(value)]
    return f"{expression} = %s", [value]


def _name(expression: str, value: str) -> _Condition:
    """A folded name, in any of its three component groups (PS3.4 C.2.2.2.1; PS3.5 6.2.1)."""
    groups = f"unnest(string_to_array({expression}, '=')) name_group"
    return f"EXISTS (SELECT FROM {groups} WHERE rtrim(name_group, '^') LIKE %s)", [_pattern(folded(value.rstrip("^")))]


def _fuzzy_name(expression: str, value: str) -> _Condition:
    """Every requested word begins a word of the folded name, in any order; Mueller and Muller find Müller."""
    haystack = f"' ' || translate(regexp_replace({expression}, '([aou])e', '\\1', 'g'), '^=-,', '    ')"
    words = [spelt_alike(word) for word in _words(folded(value))]
    return " AND ".join(f"{haystack} LIKE %s" for _ in words) or "TRUE", [f"% {_pattern(word)}%" for word in words]


def _header_name(expression: str, value: str) -> _Condition:
    """A name in a stored header, where none is folded: as asked for, and in the cases in which names are written."""
    groups = f"unnest(string_to_array({expression}, '=')) name_group"
    patterns = [_pattern(case) for case in _cases(value.rstrip("^"))]
    return f"EXISTS (SELECT FROM {groups} WHERE rtrim(name_group, '^') ILIKE ANY(%s))", [patterns]


def _fuzzy_header_name(expression: str, value: str) -> _Condition:
    haystack = f"' ' || translate({expression}, '^=-,', '    ')"
    words = [[f"% {_pattern(case)}%" for case in _cases(word)] for word in _words(value)]
    return " AND ".join(f"{haystack} ILIKE ANY(%s)" for _ in words) or "TRUE", list(words)


def _words(name: str) -> list[str]:
    return re.split(r"[\s^=,-]+", name.strip(" ^=,-")) if name.strip(" ^=,-") else []


def _cases(name: str) -> list[str]:
    """The locale of the database may fold ASCII alone."""
    return list(dict.fromkeys((name, name.upper(), name.lower(), name.title())))


def _bounds(value: str) -> tuple[str, str]:
    """The two ends of a range, either may be empty; a single value is both (PS3.4 C.2.2.2.5)."""
    low, dash, high = (part.strip() for part in value.partition("-"))
    if dash and not (low or high):
        raise BadInput("a range needs at least one end")
    return low, high if dash else low


def _day(text: str) -> date | None:
    if not text:
        return None
    try:
        if len(text) != 8 or not (text.isascii() and text.isdigit()):
            raise ValueError
        return date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        raise BadInput("a date to match is not of the form YYYYMMDD, or two of them with a hyphen") from None


def _ends(expression: str, low: Any, high: Any) -> _Condition:
    parts = [(f"{expression} >= %s", low), (f"{expression} <= %s", high)]
    given = [(sql, end) for sql, end in parts if end not in (None, "")]
    return " AND ".join(sql for sql, _ in given), [end for _, end in given]


def date_range(value: str) -> tuple[date | None, date | None]:
    """The days of a DA range or single value; None is an open end. Raises BadInput."""
    low, high = _bounds(value)
    return _day(low), _day(high)


def _date(expression: str, value: str) -> _Condition:
    low, high = date_range(value)
    return _ends(expression, low, high)


def _date_text(expression: str, value: str) -> _Condition:
    low, high = date_range(value)
    return _ends(expression, low and low.strftime("%Y%m%d"), high and high.strftime("%Y%m%d"))


def _time(expression: str, value: str) -> _Condition:
    """TM and DT compare as text; a shortened upper end covers all it abbreviates. Colons are of ACR-NEMA's times."""
    low, high = _bounds(value.replace(":", ""))
    if any(not end.replace(".", "", 1).isdigit() or not end.isascii() for end in (low, high) if end):
        raise BadInput("a time to match is not of the form HHMMSS, or two of them with a hyphen")
    return _ends(f'{expression} COLLATE "C"', low, high and high + "~")


def _number(expression: str, value: str) -> _Condition:
    try:
        number = float(value)
    except ValueError:
        raise BadInput("a number to match is not a number") from None
    if not abs(number) < 1e15:  # refuses NaN and infinity as well
        raise BadInput("a number to match is out of bounds")
    # Headers may hold text where a number belongs; only what reads as one is compared.
    reads = f"{expression}::text ~ '^-?[0-9]{{1,15}}(\\.[0-9]{{0,15}})?([eE][-+]?[0-9]{{1,2}})?$'"
    return f"CASE WHEN {reads} THEN {expression}::text::float8 = %s ELSE FALSE END", [number]
