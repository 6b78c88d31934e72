"""What filters of the similar-case query look at: attributes of the encoded studies.

Each searching process holds them in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from psycopg import errors

from radir_pacs.catalogue import qido
from radir_pacs.catalogue.bulk import ranges
from radir_pacs.catalogue.database import Connection, Row, run
from radir_pacs.catalogue.index_rows import CASE_FIELDS, CaseChanges
from radir_pacs.catalogue.part import CataloguePart
from radir_pacs.errors import TooLarge
from radir_pacs.types import I64

_RECORD = np.dtype(list(CASE_FIELDS.items()))
_PACKED = _RECORD.newbyteorder(">")  # as Postgres sends numbers
MOST_NEWS = 20_000  # rows one by one; more are read packed
_RANGE = 65_536  # ids read at a time: 3 MB, for a connection keeps room for the longest message that it ever had


class Cases(CataloguePart):
    def all(self, model_id: str) -> CaseChanges:
        """Every case of a model: some hundred bytes each while they are read."""
        with self._database.transaction() as connection:
            snapshot = run(connection, "snapshot_xmin").fetchone()
            with ranges(connection, "cases_in_range", {}, model_id=model_id, since="0", width=_RANGE) as packed:
                read = [
                    np.frombuffer(row["cases"], _PACKED).astype(_RECORD) for row in packed if row["cases"] is not None
                ]
        assert snapshot is not None
        rows = np.concatenate([np.empty(0, _RECORD), *read])
        return CaseChanges(rows=rows, gone=np.empty(0, np.int64), xid=snapshot["xmin"])

    def words(self, ids: Sequence[int]) -> list[tuple[str, int, str]]:
        """(name of the attribute, hash, text) of what these encodings have as texts now."""
        with self._database.transaction() as connection:
            rows = run(connection, "case_words", ids=list(ids)).fetchall()
        return [(row["name"], row["hash"], row["word"]) for row in rows]

    def affirming(self, model_id: str, said: str, among: I64 | None = None) -> I64:
        """Encodings whose study's report says ``said``, a path (SQL/JSON) in mined findings; all, or ``among`` some."""
        with self._within_time() as connection:
            if among is None:
                return _unpacked(run(connection, "affirming_encodings", model_id=model_id, said=said).fetchall())
            return ids_of(run(connection, "affirming_among", ids=among.tolist(), said=said))

    def of_studies(self, model_id: str, study_uids: Sequence[str]) -> I64:
        """Encodings of some studies."""
        with self._database.transaction() as connection:
            return ids_of(run(connection, "encodings_of_studies", model_id=model_id, study_uids=list(study_uids)))

    def matching(self, model_id: str, query: qido.QidoQuery, among: I64 | None = None) -> I64:
        """Encodings whose study matches the keys of ``query``; all, or ``among`` some. Raises BadInput."""
        search = qido.Search.of(query)
        with self._within_time() as connection:
            few = among is None and search.condition.terms is not None and not qido.is_dense(connection, search)
            where, params = qido.where_of(search.condition, by_terms=few)
            statement = (
                "SELECT string_agg(int8send(e.id), '') AS ids FROM encoding e JOIN study_search k USING (study_uid)"
                f" WHERE e.model_id = %s AND {where}"
            )
            values: list[Any] = [model_id, *params]
            if among is not None:
                statement, values = f"{statement} AND e.id = ANY(%s)", [*values, among.tolist()]
            return _unpacked(qido.run_now(connection, (statement, values)))

    def news(self, model_id: str, since: str) -> CaseChanges | None:
        """What changed since an earlier reading's ``xid``; None where that is so much that all is read sooner."""
        with self._database.transaction() as connection:
            snapshot = run(connection, "snapshot_xmin").fetchone()
            assert snapshot is not None
            gone = ids_of(run(connection, "encodings_gone_since", model_id=model_id, since=since))
            rows = run(connection, "cases_since", model_id=model_id, since=since, most=MOST_NEWS + 1).fetchall()
        return None if len(rows) > MOST_NEWS else case_changes(rows, gone, snapshot["xmin"], snapshot["horizon"])

    @contextmanager
    def _within_time(self) -> Iterator[Connection]:
        """A transaction for what may read every study. Raises TooLarge when it exceeds the time of a search."""
        with self._database.transaction() as connection:
            connection.execute(f"SET LOCAL statement_timeout = {qido.SEARCH_TIMEOUT_S * 1000}".encode())
            try:
                yield connection
            except errors.QueryCanceled:
                raise TooLarge("the filter takes too long; narrow it down") from None


def case_changes(rows: Sequence[Row], gone: I64, xid: str, horizon: str) -> CaseChanges:
    """The news of a model, from ``cases_since`` and what is gone."""
    found = [tuple(row[name] for name in CASE_FIELDS) for row in rows]
    return CaseChanges(rows=np.array(found, _RECORD), gone=gone, xid=xid, horizon=horizon)


def ids_of(rows: Iterable[Row]) -> I64:
    """The ids that a query found, ascending."""
    return np.sort(np.fromiter((row["id"] for row in rows), np.int64))


def _unpacked(rows: Sequence[Row]) -> I64:
    """Ids from one row that holds them as Postgres sends numbers, ascending: a row for each takes ten times as long."""
    return np.sort(np.frombuffer(rows[0]["ids"] or b"", ">i8").astype(np.int64))
