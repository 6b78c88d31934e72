"""The approximate graph: Malkov and Yashunin, "Hierarchical Navigable Small World graphs" (2018), through hnswlib.

hnswlib trusts what it reads (flipped bytes crash the process), says nothing when a disk is full, and is not safe for
changes beside searches. So a graph here is built once, never changed, and loaded only by `Graph.load`, whose callers
have checked the file's hash. Deletions are the partition's business: `replace_deleted` and tombstones are never used.
Graph labels are row numbers of the generation's vectors.
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import hnswlib
import numpy as np
import numpy.typing as npt

from radir_pacs.types import F32

HNSWLIB_VERSION = importlib.metadata.version("hnswlib")  # its file format carries no version of its own
METRIC = "ip"  # inner product; all vectors are unit, so it is the cosine without normalising again
EF_SEARCH = 128  # candidates kept in a search; also the least that a search returns before filtering
_SEED = 100
_BYTES_EACH = 100  # a lock, a list header and a place in the map of labels, beyond what the file holds


class Graph:
    """A searchable, immutable graph over ``count`` unit vectors. Safe for any number of concurrent searches."""

    def __init__(self, index: hnswlib.Index) -> None:
        self._index = index
        self._index.set_num_threads(1)  # a query is one row; callers bring their own threads
        self._index.set_ef(EF_SEARCH)  # set once: it is shared by all searches, which ask for more through k
        self.count: int = index.get_current_count()
        self.nbytes: int = index.index_file_size() + _BYTES_EACH * self.count

    @classmethod
    def build(cls, vectors: F32, *, m: int, ef_construction: int, threads: int) -> Graph:
        """Index every row of ``vectors`` (float32 [n, dim], unit, n at least 1) under its row number."""
        index = hnswlib.Index(space=METRIC, dim=vectors.shape[1])
        index.init_index(max_elements=len(vectors), M=m, ef_construction=ef_construction, random_seed=_SEED)
        index.add_items(vectors, np.arange(len(vectors)), num_threads=threads)
        return cls(index)

    @classmethod
    def load(cls, verified_path: Path, *, dim: int, count: int) -> Graph:
        """Read a file whose hash the caller has just verified. Anything else may crash this process."""
        index = hnswlib.Index(space=METRIC, dim=dim)
        index.load_index(str(verified_path), max_elements=count)
        return cls(index)

    def save(self, path: Path) -> int:
        """Write to ``path``; returns the size the file must have, since hnswlib is silent on a full disk."""
        self._index.save_index(str(path))
        size: int = self._index.index_file_size()
        return size

    def search(self, query: F32, k: int) -> npt.NDArray[np.intp]:
        """About the ``k`` rows nearest to ``query``, nearest first; none where the graph reaches fewer than k."""
        k = min(k, self.count)
        if k < 1:
            return np.empty(0, np.intp)
        try:
            rows, _ = self._index.knn_query(query, k=k)
        except RuntimeError:  # "Cannot return the results in a contiguous 2D array": parts of the graph are cut off
            return np.empty(0, np.intp)
        return np.asarray(rows[0], np.intp)
