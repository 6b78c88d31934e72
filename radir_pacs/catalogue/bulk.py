"""Reading millions of encodings: Postgres packs the rows of a range of ids into one value, which numpy reads in place.

Ten times less work for Python than reading row by row, by COPY or otherwise.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from radir_pacs.catalogue.database import Connection, Cursor, Row, run
from radir_pacs.catalogue.queries import QUERIES


def ranges(
    connection: Connection, query: str, parameters: Mapping[str, Any], *, model_id: str, since: str, width: int
) -> Iterator[Row]:
    """The one row that ``query`` answers for each range of ``width`` ids (first, end) among a model's encodings.

    Among those that were committed at or after the snapshot ``since``. The server packs the next range while one is
    read; nothing else may be asked of the connection meanwhile.
    """
    bounds = run(connection, "encoding_bounds", model_id=model_id, since=since).fetchone()
    if bounds is None or bounds["first"] is None:
        return
    asked: deque[Cursor] = deque()
    with connection.pipeline():
        for first in range(bounds["first"], bounds["last"] + 1, width):
            values = {**parameters, "model_id": model_id, "since": since, "first": first, "end": first + width}
            asked.append(connection.cursor(binary=True).execute(QUERIES[query], values))
            if len(asked) > 1:
                yield from _row(asked.popleft())
        for cursor in asked:
            yield from _row(cursor)


def _row(cursor: Cursor) -> Iterator[Row]:
    with cursor:
        row = cursor.fetchone()
    if row is not None:
        yield row
