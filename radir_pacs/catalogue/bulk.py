"""Reading millions of rows: COPY in the binary format, whose rows of fixed width numpy reads in place.

https://www.postgresql.org/docs/current/sql-copy.html: a header, per row the number of fields and per field its length
and its bytes (big-endian), a trailer. A query read here has no null and no value of variable length.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from radir_pacs.catalogue.database import Connection
from radir_pacs.catalogue.queries import QUERIES

_ROWS_A_BLOCK = 8192
_HEADER_BYTES = 19  # the signature, flags and an extension of length 0
_TRAILER = b"\xff\xff"


def blocks(
    connection: Connection, query: str, fields: Mapping[str, str], parameters: Mapping[str, Any]
) -> Iterator[npt.NDArray[Any]]:
    """The rows of a query of queries.sql, some thousand at a time, as structured arrays.

    fields: the numpy type of each column, in the query's order; the rows keep the order of bytes that Postgres sends.
    """
    layout: list[tuple[str, Any]] = [("_count", ">i2")]
    for name, kind in fields.items():
        layout += [(f"_{name}", ">i4"), (name, np.dtype(kind).newbyteorder(">"))]
    record = np.dtype(layout)
    statement = b"COPY (" + QUERIES[query] + b") TO STDOUT (FORMAT BINARY)"
    with connection.cursor() as cursor, cursor.copy(statement, parameters) as copy:
        waiting: list[Any] = []
        is_first = True
        for data in copy:
            waiting.append(data)
            if len(waiting) >= _ROWS_A_BLOCK:
                yield _rows(waiting, record, is_first)
                waiting, is_first = [], False
        yield _rows(waiting, record, is_first)


def _rows(waiting: list[Any], record: np.dtype[Any], is_first: bool) -> npt.NDArray[Any]:
    content = b"".join(waiting)
    content = content[_HEADER_BYTES:] if is_first else content
    if len(content) % record.itemsize == len(_TRAILER) and content.endswith(_TRAILER):
        content = content[: -len(_TRAILER)]
    return np.frombuffer(content, record)  # raises ValueError for rows of another width
