"""The vector engine pgvector, in the catalogue's own Postgres: the port of `radir_pacs.index.engine`.

A table for each region under each model, since an index of pgvector knows no filters: it is read in order until enough
pass them. Halves (halfvec) suffice: the catalogue's own vectors score what is named. Tables are made when they are
needed, in a schema of their own that no backup has: they are a copy, as index files are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from psycopg import errors, sql

from radir_pacs.catalogue.database import Connection
from radir_pacs.catalogue.part import CataloguePart
from radir_pacs.errors import DatabaseAway, EngineAway, IndexRefused, SettingError, StorageFailed
from radir_pacs.types import F32, I64, PartitionKey

SCHEMA = "radir_vectors"
LEAST_VERSION = (0, 8)  # iterative scans
INDEX_FROM = 5_000  # vectors; fewer are read in a few milliseconds, exactly
_M, _EF_CONSTRUCTION = 16, 64
_LEAST_EF, _MOST_EF = 64, 1_000
_MOST_SCANNED = 1 << 30
_BUILD_MIB = 1_024  # memory of an index build at most
_LOCK = 0x52414456  # "RADV": tables are made one at a time
_COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_COPY_END = b"\xff\xff"
_ADVICE = (
    "install pgvector 0.8 or newer on the database server (Debian: postgresql-VERSION-pgvector), then, as a superuser"
    " in radir's database: CREATE EXTENSION vector"
)


class Vectors(CataloguePart):
    """See `radir_pacs.index.engine.Engine` for what each method promises."""

    name = "pgvector"

    def nearest(self, place: PartitionKey, query: F32, count: int) -> I64:
        values = {"query": _text(query), "count": count}
        statement = sql.SQL("SELECT id FROM {} ORDER BY v <#> %(query)s::halfvec LIMIT %(count)s").format(_table(place))
        settings = {
            "ef": str(min(max(count, _LEAST_EF), _MOST_EF)),
            "scanned": str(_MOST_SCANNED),
        }
        with self._errors():
            found = self._database.read(
                lambda connection: (
                    connection.execute(
                        "SELECT set_config('hnsw.ef_search', %(ef)s, true),"
                        " set_config('hnsw.iterative_scan', 'relaxed_order', true),"
                        " set_config('hnsw.max_scan_tuples', %(scanned)s, true)",
                        settings,
                    ),
                    connection.execute(statement, values),
                )
            )
            rows = found[1].fetchall()
        return np.fromiter((row["id"] for row in rows), np.int64, len(rows))

    def add(self, place: PartitionKey, labels: I64, vectors: F32) -> None:
        if not len(labels):
            return
        table = _table(place)
        with self._errors(), self._database.transaction() as connection:
            connection.execute("SET LOCAL statement_timeout = 0")
            _make(connection, place, vectors.shape[1])
            connection.execute(sql.SQL("CREATE TEMPORARY TABLE arriving (LIKE {}) ON COMMIT DROP").format(table))
            with connection.cursor().copy("COPY arriving (id, v) FROM STDIN (FORMAT binary)") as copy:
                copy.write(_COPY_HEADER)
                copy.write(_packed(labels, vectors))
                copy.write(_COPY_END)
            connection.execute(sql.SQL("INSERT INTO {} SELECT * FROM arriving ON CONFLICT DO NOTHING").format(table))

    def remove(self, place: PartitionKey, labels: I64) -> None:
        if not len(labels):
            return
        with self._errors(), self._database.transaction() as connection:
            if _exists(connection, place):
                statement = sql.SQL("DELETE FROM {} WHERE id = ANY(%s)").format(_table(place))
                connection.execute(statement, [labels.tolist()])

    def settle(self, place: PartitionKey, dim: int) -> int:
        table = _table(place)
        with self._errors(), self._database.transaction() as connection:
            connection.execute("SET LOCAL statement_timeout = 0")
            _make(connection, place, dim)
            row = connection.execute(sql.SQL("SELECT count(*) AS n FROM {}").format(table)).fetchone()
            assert row is not None
            count: int = row["n"]
            if count >= INDEX_FROM:
                mib = min(_BUILD_MIB, 64 + count * (2 * dim + 512) // (1 << 20))
                # Without workers: they would need as much shared memory, of which a container has little.
                connection.execute(f"SET LOCAL maintenance_work_mem = '{mib}MB'".encode())
                connection.execute("SET LOCAL max_parallel_maintenance_workers = 0")
                connection.execute(
                    sql.SQL(
                        "CREATE INDEX IF NOT EXISTS {} ON {} USING hnsw (v halfvec_ip_ops)"
                        " WITH (m = {}, ef_construction = {})"
                    ).format(sql.Identifier(f"{_name(place)}_hnsw"), table, _M, _EF_CONSTRUCTION)
                )
            connection.execute(sql.SQL("ANALYZE {}").format(table))
        return count

    def labels(self, place: PartitionKey) -> I64:
        with self._errors(), self._database.transaction() as connection:
            if not _exists(connection, place):
                return np.empty(0, np.int64)
            statement = sql.SQL("SELECT string_agg(int8send(id), '') AS ids FROM {}").format(_table(place))
            row = connection.cursor(binary=True).execute(statement).fetchone()
        return np.sort(np.frombuffer((row and row["ids"]) or b"", ">i8").astype(np.int64))

    def holds(self, place: PartitionKey, labels: I64) -> int:
        with self._errors(), self._database.transaction() as connection:
            if not len(labels) or not _exists(connection, place):
                return 0
            statement = sql.SQL("SELECT count(*) AS n FROM {} WHERE id = ANY(%s)").format(_table(place))
            row = connection.execute(statement, [labels.tolist()]).fetchone()
        return int(row["n"]) if row else 0

    def clear(self, place: PartitionKey) -> None:
        with self._errors(), self._database.transaction() as connection:
            connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(_table(place)))

    def check(self) -> str:
        with self._errors(), self._database.transaction() as connection:
            row = connection.execute(
                "SELECT e.extversion, a.default_version, (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)"
                " AS may FROM (VALUES ('vector')) AS v (name) LEFT JOIN pg_extension AS e ON e.extname = v.name"
                " LEFT JOIN pg_available_extensions AS a ON a.name = v.name"
            ).fetchone()
        assert row is not None
        version = row["extversion"] or (row["default_version"] if row["may"] else None)
        if version is None:
            raise SettingError(f"index_engine: the database has no pgvector: {_ADVICE}")
        if tuple(map(int, version.split(".")[:2])) < LEAST_VERSION:
            raise SettingError(f"index_engine: the database has pgvector {version}: {_ADVICE} (or ALTER … UPDATE)")
        return f"pgvector {version}"

    def size_bytes(self, place: PartitionKey) -> int:
        """Of its table with its indexes; 0 where there is none."""
        with self._errors(), self._database.transaction() as connection:
            row = connection.execute(
                "SELECT pg_total_relation_size(to_regclass(%s)) AS size", [f"{SCHEMA}.{_name(place)}"]
            ).fetchone()
        return (row and row["size"]) or 0

    def close(self) -> None:
        """The connections are the catalogue's."""

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except errors.UndefinedTable:
            raise IndexRefused("pgvector has no table of the region") from None
        except errors.InsufficientPrivilege:
            raise SettingError(f"index_engine: radir may not make the extension or its tables: {_ADVICE}") from None
        except errors.FeatureNotSupported:
            raise SettingError(f"index_engine: the database has no pgvector: {_ADVICE}") from None
        except DatabaseAway:
            raise
        except StorageFailed as failed:
            raise EngineAway(f"pgvector: {failed}") from failed


def _name(place: PartitionKey) -> str:
    """A plain identifier, whatever the model is called."""
    return "v_" + hashlib.sha256("/".join(place).encode()).hexdigest()[:24]


def _table(place: PartitionKey) -> sql.Identifier:
    return sql.Identifier(SCHEMA, _name(place))


def _exists(connection: Connection, place: PartitionKey) -> bool:
    row = connection.execute("SELECT to_regclass(%s) AS found", [f"{SCHEMA}.{_name(place)}"]).fetchone()
    return row is not None and row["found"] is not None


def _make(connection: Connection, place: PartitionKey, dim: int) -> None:
    """The extension, the schema and the table of a place, where they are not there."""
    if _exists(connection, place):
        return
    connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
    connection.execute("SET LOCAL client_min_messages = warning")
    connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
    connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(SCHEMA)))
    connection.execute(
        sql.SQL("CREATE TABLE IF NOT EXISTS {} (id bigint PRIMARY KEY, v halfvec({}) NOT NULL)").format(
            _table(place), sql.Literal(dim)
        )
    )
    # In line with its row: the vector is what every reader comes for.
    connection.execute(sql.SQL("ALTER TABLE {} ALTER COLUMN v SET STORAGE PLAIN").format(_table(place)))


def _text(vector: F32) -> str:
    """As Postgres reads a halfvec."""
    return "[" + ",".join(f"{number:.6g}" for number in vector.tolist()) + "]"


def _packed(labels: I64, vectors: F32) -> bytes:
    """Rows of a binary COPY: two columns, each behind its length; a halfvec is its dimension, nothing, and halves."""
    count, dim = vectors.shape
    layout = [("columns", ">i2"), ("l1", ">i4"), ("id", ">i8"), ("l2", ">i4"), ("dim", ">i2"), ("zero", ">i2")]
    rows = np.zeros(count, np.dtype([*layout, ("v", ">f2", (dim,))]))
    rows["columns"], rows["l1"], rows["id"] = 2, 8, labels
    rows["l2"], rows["dim"], rows["v"] = 4 + 2 * dim, dim, vectors
    return rows.tobytes()
