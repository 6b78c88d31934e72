"""The vector engine Milvus, on one machine or many: the port of `radir_pacs.index.engine`.

One collection for each model of an installation; the region is its partition key, so that a search reads the share of
one region. Vectors are added by upsert under "region/label": what is added twice stands once.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from radir_pacs.config import Settings
from radir_pacs.errors import EngineAway, IndexRefused, SettingError
from radir_pacs.index.engine import MILVUS
from radir_pacs.types import F32, I64, PartitionKey

if TYPE_CHECKING:
    from pymilvus import MilvusClient

_KEY, _REGION, _LABEL, _VECTOR = "key", "region", "label", "vector"
_BATCH = 1_000  # rows of one message: 0.5 MB at 128 numbers, and a server takes 64 MB at most
_FILL_TIMEOUT_S = 120.0  # of a message that writes or counts
_GRACEFUL_S = 5.0  # how far a search under bounded staleness may lag behind (Milvus: common.gracefulTime)
_LITE = "milvus_lite"  # a single process without replicas that could lag
_NO_COLLECTION, _NOT_LOADED = 100, 101  # Milvus: CollectionNotFound, CollectionNotLoaded
_KEEPALIVE_MS = 600_000  # each call has a time limit; a server may take frequent pings for an attack
_T = TypeVar("_T")


class MilvusEngine:
    """See `Engine` for what each method promises. It connects at its first use, and again when the server is back."""

    name = MILVUS

    def __init__(self, settings: Settings, installation: str) -> None:
        """``installation``: its id names our collections, since a server may serve several. Raises SettingError."""
        if not settings.milvus_url:
            raise SettingError("milvus_url: needed to reach Milvus")
        try:
            import grpc
            import pymilvus
        except ImportError:
            raise SettingError("index_engine: Milvus needs its client: pip install 'radir-pacs[milvus]'") from None
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # it writes a trace of each failure, which we report
        self._library: Any = pymilvus
        self._failures = (pymilvus.exceptions.MilvusException, grpc.RpcError, OSError)
        self._settings = settings
        self._prefix = f"radir_{installation.replace('-', '')[:16]}_"
        self._lock = threading.Lock()
        self._connected: MilvusClient | None = None
        self._graceful_s = _GRACEFUL_S
        self._timeout_s = settings.milvus_timeout_s

    def nearest(self, place: PartitionKey, query: F32, count: int) -> I64:
        def search(client: MilvusClient) -> Any:
            return client.search(
                self._collection(place),
                [query],
                filter=_of(place),
                limit=count,
                output_fields=[_LABEL],
                search_params={"params": {"ef": max(count, 64)}},
                consistency_level="Bounded",
                timeout=self._timeout_s,
            )

        found = self._do(search, place)
        return np.fromiter((hit["entity"][_LABEL] for hit in found[0]), np.int64)

    def add(self, place: PartitionKey, labels: I64, vectors: F32) -> None:
        def upsert(client: MilvusClient) -> None:
            self._make(client, place, vectors.shape[1])
            for part in _batches(len(labels)):
                rows = [
                    {_KEY: _key(place, label), _REGION: place[1], _LABEL: label, _VECTOR: vector}
                    for label, vector in zip(labels[part].tolist(), vectors[part], strict=True)
                ]
                client.upsert(self._collection(place), rows, timeout=_FILL_TIMEOUT_S)

        self._do(upsert, place)

    def remove(self, place: PartitionKey, labels: I64) -> None:
        def delete(client: MilvusClient) -> None:
            if self._stands(client, place):
                for part in _batches(len(labels)):
                    keys = [_key(place, label) for label in labels[part].tolist()]
                    client.delete(self._collection(place), ids=keys, timeout=_FILL_TIMEOUT_S)

        self._do(delete, place)

    def settle(self, place: PartitionKey, dim: int) -> int:
        def count(client: MilvusClient) -> Any:
            self._make(client, place, dim)
            return self._query(client, place, filter=_of(place), output_fields=["count(*)"])

        found = self._do(count, place)
        time.sleep(self._graceful_s)  # by then no replica answers from before
        return int(found[0]["count(*)"])

    def labels(self, place: PartitionKey) -> I64:
        def read(client: MilvusClient) -> list[int]:
            found: list[int] = []
            if not self._stands(client, place):
                return found
            pages = client.query_iterator(
                self._collection(place),
                filter=_of(place),
                output_fields=[_LABEL],
                batch_size=_BATCH,
                consistency_level="Strong",
                timeout=_FILL_TIMEOUT_S,
            )
            try:
                while page := pages.next():
                    found += (row[_LABEL] for row in page)
            finally:
                pages.close()
            return found

        return np.unique(np.array(self._do(read, place), np.int64))

    def holds(self, place: PartitionKey, labels: I64) -> int:
        def count(client: MilvusClient) -> int:
            if not self._stands(client, place):
                return 0
            keys = [_key(place, label) for label in labels.tolist()]
            return sum(
                len(self._query(client, place, ids=keys[part], output_fields=[_LABEL])) for part in _batches(len(keys))
            )

        return self._do(count, place)

    def clear(self, place: PartitionKey) -> None:
        def delete(client: MilvusClient) -> None:
            if self._stands(client, place):
                client.delete(self._collection(place), filter=_of(place), timeout=_FILL_TIMEOUT_S)

        self._do(delete, place)

    def check(self) -> str:
        return f"Milvus {self._do(lambda client: client.get_server_version(timeout=self._timeout_s))}"

    def close(self) -> None:
        with self._lock:
            connected, self._connected = self._connected, None
        if connected is not None:
            with contextlib.suppress(*self._failures):
                connected.close()

    def _do(self, call: Callable[[MilvusClient], _T], place: PartitionKey | None = None) -> _T:
        """What ``call`` does with a connected client; once more where the server was started again and has yet to load
        the collection. Its errors become ours, without the text of a request.
        """
        loads = False
        while True:
            try:
                client = self._client()
                if loads and place is not None:
                    client.load_collection(self._collection(place), timeout=_FILL_TIMEOUT_S)
                return call(client)
            except self._failures as failed:
                code = getattr(failed, "code", None)
                if code == _NO_COLLECTION:
                    raise IndexRefused("Milvus has no collection of the model") from None
                if code == _NOT_LOADED and place is not None and not loads:
                    loads = True
                    continue
                told = f" (code {code})" if isinstance(code, int) else ""
                raise EngineAway(f"Milvus does not answer as it should{told}; ask again later") from None

    def _client(self) -> MilvusClient:
        with self._lock:
            if self._connected is None:
                settings = self._settings
                secure = {"server_pem_path": settings.milvus_ca} if settings.milvus_ca else {}
                client = self._library.MilvusClient(
                    uri=settings.milvus_url,
                    token=settings.milvus_token,
                    db_name=settings.milvus_database,
                    timeout=self._timeout_s,
                    grpc_options={"grpc.keepalive_time_ms": _KEEPALIVE_MS},
                    **secure,
                )
                if _LITE in client.get_server_version(timeout=self._timeout_s):
                    self._graceful_s = 0.0
                self._connected = client
            return self._connected

    def _collection(self, place: PartitionKey) -> str:
        return self._prefix + hashlib.sha256(place[0].encode()).hexdigest()[:16]

    def _query(self, client: MilvusClient, place: PartitionKey, **asked: Any) -> Any:
        return client.query(self._collection(place), consistency_level="Strong", timeout=_FILL_TIMEOUT_S, **asked)

    def _stands(self, client: MilvusClient, place: PartitionKey) -> bool:
        return bool(client.has_collection(self._collection(place), timeout=self._timeout_s))

    def _make(self, client: MilvusClient, place: PartitionKey, dim: int) -> None:
        """The collection of a model, with its index, loaded, unless it stands."""
        if self._stands(client, place):
            return
        kinds = self._library.DataType
        schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field(_KEY, kinds.VARCHAR, max_length=160, is_primary=True)
        schema.add_field(_REGION, kinds.VARCHAR, max_length=100, is_partition_key=True)
        schema.add_field(_LABEL, kinds.INT64)
        schema.add_field(_VECTOR, kinds.FLOAT_VECTOR, dim=dim)
        index = client.prepare_index_params()
        index.add_index(_VECTOR, index_type="HNSW", metric_type="IP", params={"M": 16, "efConstruction": 64})
        client.create_collection(self._collection(place), schema=schema, index_params=index, timeout=_FILL_TIMEOUT_S)


def _batches(count: int) -> Iterator[slice]:
    return (slice(start, start + _BATCH) for start in range(0, count, _BATCH))


def _key(place: PartitionKey, label: int) -> str:
    return f"{place[1]}/{label}"


def _of(place: PartitionKey) -> str:
    """A filter: the rows of a region, whose key is a plain name (`index.generation`)."""
    region = place[1]
    if not region.replace("_", "").replace("-", "").replace(".", "").isalnum():
        raise ValueError(f"{region!r} is not a region's key")
    return f'{_REGION} == "{region}"'
