"""The port to a vector engine outside our files: it names candidates, and nothing that it says is believed unchecked.

An engine holds copies of vectors under their labels and answers which are near. Which of them may be returned, how well
each fits to the last bit, and what the engine does not have yet, is decided here from the catalogue: `index.outside`.
So an engine may round vectors, lag behind or come back with an old state, and no answer is wrong for it.
"""

from __future__ import annotations

import re
from typing import Final, Protocol

from radir_pacs.types import F32, I64, PartitionKey

LOCAL: Final = "local"  # our own files, which are no engine of this port
PGVECTOR: Final = "pgvector"
MILVUS: Final = "milvus"
MOST_CANDIDATES: Final = 16_384  # of one search; Milvus names no more
_OUTSIDE_NAME = re.compile(rf"(\d{{8,}})-({PGVECTOR}|{MILVUS})")


class Engine(Protocol):
    """Safe for many threads. Every method raises EngineAway when the engine does not answer."""

    @property
    def name(self) -> str:
        """As in the setting index_engine."""

    def nearest(self, place: PartitionKey, query: F32, count: int) -> I64:
        """About the ``count`` labels (at most MOST_CANDIDATES) most like ``query`` (float32 [dim], unit), best first.

        Raises IndexRefused when it holds nothing of that place: somebody emptied it.
        """

    def add(self, place: PartitionKey, labels: I64, vectors: F32) -> None:
        """Hold ``vectors`` (float32 [n, dim], unit) under ``labels``; what it holds already stays as it is.

        Durable on return. A vector never changes under its label.
        """

    def remove(self, place: PartitionKey, labels: I64) -> None:
        """Hold ``labels`` no more; some may not be there."""

    def settle(self, place: PartitionKey, dim: int) -> int:
        """What was added and removed is what every later search sees. Returns how many vectors it holds.

        dim: length of the vectors, for a place that holds none.
        """

    def labels(self, place: PartitionKey) -> I64:
        """All that it holds, ascending."""

    def holds(self, place: PartitionKey, labels: I64) -> int:
        """How many of ``labels`` it holds."""

    def clear(self, place: PartitionKey) -> None:
        """Hold nothing of the place."""

    def check(self) -> str:
        """Its version, in words. Raises SettingError, with what to do, where it cannot be used as it is set up."""

    def close(self) -> None:
        """Give connections back."""


def outside_name(number: int, engine: str) -> str:
    """The name of a generation that an outside engine holds."""
    return f"{number:08d}-{engine}"


def engine_of(generation: str) -> str:
    """The engine that holds a generation, by its name."""
    found = _OUTSIDE_NAME.fullmatch(generation)
    return found[2] if found else LOCAL
