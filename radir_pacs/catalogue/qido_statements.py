"""A QIDO query as SQL over the narrow table ``study_search`` and what lies below its studies.

Statements are built only from constants of this package; every value is a parameter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any, LiteralString

from radir_pacs.catalogue.qido_matching import UNDATED, Condition, compare, newest_day, together
from radir_pacs.catalogue.qido_page_starts import PageStart
from radir_pacs.scopes import WITHOUT_IMAGES, Scope, Withheld
from radir_pacs.similar_cases import Match
from radir_pacs.study_attributes import STUDY_ATTRIBUTES

COUNTED_MAX = 5_000
_BY_TERMS = 2  # times as many: to put them all into order costs what it costs to count half of them and walk
WALKED_MAX = 50_000  # studies read from the newest, before all matches are put into order

Statement = tuple[str, list[Any]]


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
    scope: Scope = field(default_factory=Scope)


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
COLUMNS: Mapping[str, tuple[QidoLevel, LiteralString, str]] = {
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
_TERMS: LiteralString = (
    "search_terms(k.patient_name_folded, k.referring_physician_folded, k.patient_id, k.accession_number,"
    " k.study_description) @@ %s::tsquery"
)


@dataclass(frozen=True, kw_only=True)
class Search:
    """A query as SQL: its conditions, those of them on studies alone, and of these the ones on the day alone."""

    query: QidoQuery
    condition: Condition
    of_study: Condition
    of_day: Condition
    newest_first: int  # of the newest day asked for

    @classmethod
    def of(cls, query: QidoQuery) -> Search:
        """Raises BadInput."""
        found = [_condition(match, query) for match in query.matches]
        found += [(QidoLevel.STUDY, condition) for condition in of_scope(query.scope)]
        if query.study_uid is not None:
            found.append((QidoLevel.STUDY, Condition(sql="k.study_uid = %s", params=(query.study_uid,))))
        if query.series_uid is not None:
            found.append((QidoLevel.SERIES, Condition(sql="e.series_uid = %s", params=(query.series_uid,))))
        return cls(
            query=query,
            condition=together(condition for _, condition in found),
            of_study=together(condition for holder, condition in found if holder is QidoLevel.STUDY),
            of_day=together(_condition(match, query)[1] for match in query.matches if match.path == _DAY),
            newest_first=max((newest_day(match.values) for match in query.matches if match.path == _DAY), default=0),
        )

    def most(self, *, by_terms: bool) -> int | None:
        """How many matches are counted: all of one study."""
        if self.query.study_uid is not None:
            return None
        return COUNTED_MAX * (_BY_TERMS if by_terms else 1)

    def counted(self, *, by_terms: bool) -> Statement:
        """``total``, at most one more than are counted, and the ``keys`` of the page: null where there are more."""
        columns = _ORDER[self.query.level].split(", ")
        order = ", ".join(f"c{number}" for number in range(len(columns)))
        where, params = where_of(self.condition, by_terms=by_terms)
        found = ", ".join(f"{column} AS c{number}" for number, column in enumerate(columns))
        sql = (
            f"WITH found AS MATERIALIZED (SELECT {found} FROM study_search k{_BELOW[self.query.level]} WHERE {where}"
            " LIMIT %s), counted AS (SELECT count(*) AS total FROM found)"
            f" SELECT total, CASE WHEN total <= coalesce(%s, total) THEN ARRAY(SELECT c{len(columns) - 1} FROM found"
            f" ORDER BY {order} LIMIT %s OFFSET %s) END AS keys FROM counted"
        )
        most = self.most(by_terms=by_terms)
        return sql, [*params, None if most is None else most + 1, most, self.query.limit, self.query.offset]

    def walked(self, start: PageStart) -> Statement:
        """The matches from ``start`` on among as many studies as are walked: the page's, and one more."""
        window, from_start = self._from(start)
        most = None if self.condition == self.of_day else WALKED_MAX
        studies = f"(SELECT k.* FROM {window} ORDER BY k.newest_first, k.study_uid LIMIT %s) k"
        return self._page(studies, "TRUE", [*from_start, most], start, by_terms=False)

    def sorted(self, start: PageStart) -> Statement:
        """The same rows, by whatever way the planner chooses."""
        window, from_start = self._from(start)
        studies, _, where = window.partition(" WHERE ")
        return self._page(studies, where, from_start, start, by_terms=self.condition.terms is not None)

    def reckoned(self) -> Statement:
        """The studies that pass, for the planner's reckoning of their number."""
        where, params = where_of(self.of_study, by_terms=False)
        return f"SELECT FROM study_search k WHERE {where}", params

    def goes_on(self, start: PageStart) -> Statement:
        """A row when there are more studies from ``start`` on than are walked."""
        window, from_start = self._from(start)
        order = "ORDER BY k.newest_first, k.study_uid OFFSET %s LIMIT 1"
        return f"SELECT k.study_uid FROM {window} {order}", [*from_start, WALKED_MAX]

    def _from(self, start: PageStart) -> Statement:
        # The server begins to read at the pair, whatever else limits the day: the newest day asked for goes into it.
        first = max((start.newest_first, start.study_uid), (self.newest_first, ""))
        where = f"(k.newest_first, k.study_uid) >= (%s, %s) AND {self.of_day.sql}"
        return f"study_search k WHERE {where}", [*first, *self.of_day.params]

    def _page(self, studies: str, where: str, params: list[Any], start: PageStart, *, by_terms: bool) -> Statement:
        level, (condition, compared) = self.query.level, where_of(self.condition, by_terms=by_terms)
        sql = (
            f"SELECT k.newest_first, k.study_uid, {_KEY[level]} AS key FROM {studies}{_BELOW[level]}"
            f" WHERE {where} AND {condition} ORDER BY {_ORDER[level]} LIMIT %s OFFSET %s"
        )
        return sql, [*params, *compared, self.query.limit + 1, self.query.offset - start.row]


def where_of(condition: Condition, *, by_terms: bool) -> Statement:
    """by_terms: with what the index over terms needs, which costs much where rows are found otherwise."""
    if by_terms:
        return f"{_TERMS} AND {condition.sql}", [condition.terms, *condition.params]
    return condition.sql, [*condition.params]


def of_scope(scope: Scope) -> list[Condition]:
    """What a scope says of the studies k: `Scope.admits`. The overlap beside each subset is for the index."""
    if scope.opened and scope.restricts:
        rest = together(of_scope(scope.without_opened()))
        opened = "k.study_uid = ANY(%s::text[])"
        return [Condition(sql=f"({rest.sql}) OR {opened}", params=(*rest.params, sorted(scope.opened)))]
    found = []
    if scope.sites:
        sites = sorted(scope.sites)
        found.append(Condition(sql="k.sites && %s::text[] AND k.sites <@ %s::text[]", params=(sites, sites)))
    if scope.departments:
        named = sorted(scope.departments)
        sql = "k.departments && %s::text[] AND k.departments <@ %s::text[]"
        found.append(Condition(sql=sql, params=(named, named)))
    if scope.modalities:
        all_of = sorted(scope.modalities | WITHOUT_IMAGES)
        sql = "k.modalities && %s::text[] AND k.modalities <@ %s::text[]"
        found.append(Condition(sql=sql, params=(sorted(scope.modalities), all_of)))
    if scope.since is not None:
        found.append(Condition(sql="k.newest_first <= DATE '9999-12-31' - %s::date", params=(scope.since,)))
    if scope.until is not None:
        sql = f"k.newest_first >= DATE '9999-12-31' - %s::date AND k.newest_first <> {UNDATED}"
        found.append(Condition(sql=sql, params=(scope.until,)))
    if scope.sees < Withheld.FROM_ALL:
        found.append(Condition(sql="k.withheld <= %s", params=(int(scope.sees),)))
    return found


def _condition(match: Match, query: QidoQuery) -> tuple[QidoLevel, Condition]:
    """One key at the query's level, and the level of the rows that hold it."""
    if len(match.path) == 1 and match.path[0] in COLUMNS:
        holder, expression, kind = COLUMNS[match.path[0]]
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
