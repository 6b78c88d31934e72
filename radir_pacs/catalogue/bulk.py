"""Reading millions of encodings: Postgres packs the rows of a range of ids into one value, which numpy reads in place.

Ten times less work for Python than reading row by row, by COPY or otherwise.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from radir_pacs.catalogue.database import Connection, Cursor, Row, run
from radir_pacs.catalogue.queries import QUERIES


@contextlib.contextmanager
def ranges(
    connection: Connection, query: str, parameters: Mapping[str, Any], *, model_id: str, since: str, width: int
) -> Iterator[Iterator[Row]]:
    """The one row that ``query`` answers for each range of ``width`` ids (first, end) among a model's encodings.

    Among those that were committed at or after the snapshot ``since``. The server packs the next range while one is
    read, by libpq's pipeline mode, which ends with the block: nothing else may be asked of the connection before.
    """
    bounds = run(connection, "encoding_bounds", model_id=model_id, since=since).fetchone()
    if bounds is None or bounds["first"] is None:
        yield iter(())
        return
    asked = (
        {**parameters, "model_id": model_id, "since": since, "first": first, "end": first + width}
        for first in range(bounds["first"], bounds["last"] + 1, width)
    )
    with connection.pipeline():
        yield _rows(connection, query, asked)


def _rows(connection: Connection, query: str, asked: Iterable[Mapping[str, Any]]) -> Iterator[Row]:
    waiting: deque[Cursor] = deque()
    for values in asked:
        waiting.append(connection.cursor(binary=True).execute(QUERIES[query], values))
        if len(waiting) > 1:
            yield from _row(waiting.popleft())
    for cursor in waiting:
        yield from _row(cursor)


def _row(cursor: Cursor) -> Iterator[Row]:
    with cursor:
        row = cursor.fetchone()
    if row is not None:
        yield row
