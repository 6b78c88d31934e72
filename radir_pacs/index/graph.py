"""The approximate graph: Malkov and Yashunin, "Hierarchical Navigable Small World graphs" (2018), through faiss.

A graph is built once and never changed. Its file holds the links alone and is mapped, as is the file of vectors that
it is given: processes that open the same segment share both, and opening reads almost nothing. faiss trusts what it
reads, so `Graph.load` is for files whose hashes were checked. A graph's labels are row numbers of its vectors.
"""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import numpy.typing as npt

from radir_pacs.errors import IndexRefused
from radir_pacs.types import F32

LIBRARY = "faiss"
LIBRARY_VERSION: str = faiss.__version__
METRIC = "ip"  # inner product; all vectors are unit, so it is the cosine without normalising again
EF_SEARCH = 192  # candidates kept in a search; also the least that a search returns before filtering
_MAPPED = faiss.IO_FLAG_MMAP_IFC | faiss.IO_FLAG_SKIP_STORAGE
_PRIVATE_BYTES_EACH = 12  # levels and offsets, which faiss copies


class Graph:
    """A searchable, immutable graph over unit ``vectors``. Safe for any number of concurrent searches."""

    def __init__(self, index: faiss.IndexHNSWFlat, vectors: F32, nbytes: int) -> None:
        self._index = index
        self._vectors = vectors  # what the graph reads must outlive it
        self.count: int = index.ntotal
        self.nbytes = nbytes

    @classmethod
    def build(cls, vectors: F32, *, m: int, ef_construction: int, threads: int) -> Graph:
        """Index every row of ``vectors`` (float32 [n, dim], unit, n at least 1) under its row number."""
        index = faiss.IndexHNSWFlat(vectors.shape[1], m, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = ef_construction
        before = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(threads)
        try:
            index.add(np.ascontiguousarray(vectors))
        finally:
            faiss.omp_set_num_threads(before)
        return cls(index, vectors, 0)

    @classmethod
    def load(cls, checked_path: Path, vectors: F32) -> Graph:
        """Map a file whose hash was checked; ``vectors`` are those it was built from. Raises IndexRefused."""
        try:
            index = faiss.read_index(str(checked_path), _MAPPED)
        except RuntimeError as error:
            raise IndexRefused("faiss cannot load the graph") from error
        count, dim = vectors.shape
        if type(index) is not faiss.IndexHNSWFlat or (index.ntotal, index.d) != (count, dim):
            raise IndexRefused("the graph is of other vectors")
        if index.metric_type != faiss.METRIC_INNER_PRODUCT or not 0 <= index.hnsw.entry_point < count:
            raise IndexRefused("the graph has another metric, or no beginning")
        storage = faiss.IndexFlatIP(dim)
        view = faiss.MaybeOwnedVectorUInt8.create_view  # a view may have an owner of its memory: the map of the links
        storage.codes = view(
            faiss.swig_ptr(vectors.view(np.uint8).reshape(-1)), vectors.nbytes, index.hnsw.neighbors.owner
        )
        storage.ntotal = count
        index.storage, index.own_fields = storage, False
        index.referenced_objects = [storage]  # as faiss's own wrappers keep what they use
        return cls(index, vectors, checked_path.stat().st_size + _PRIVATE_BYTES_EACH * count)

    def to_bytes(self) -> npt.NDArray[np.uint8]:
        """The file's content: the links without the vectors."""
        writer = faiss.VectorIOWriter()
        faiss.write_index(self._index, writer, faiss.IO_FLAG_SKIP_STORAGE)
        content: npt.NDArray[np.uint8] = faiss.vector_to_array(writer.data)
        return content

    def check_links(self) -> None:
        """Raises IndexRefused unless every link leads to a vector: faiss follows them without looking."""
        links = self._index.hnsw.neighbors
        found = faiss.rev_swig_ptr(links.data(), links.size())
        if found.size and (int(found.min()) < -1 or int(found.max()) >= self.count):
            raise IndexRefused("the graph has links that lead nowhere")

    def search(self, query: F32, k: int) -> npt.NDArray[np.intp]:
        """About the ``k`` rows nearest to ``query``, nearest first; fewer where the graph reaches fewer."""
        k = min(k, self.count)
        if k < 1:
            return np.empty(0, np.intp)
        parameters = faiss.SearchParametersHNSW(efSearch=max(k, EF_SEARCH))
        rows = self._index.search(query[None], k, params=parameters)[1][0]
        return np.asarray(rows[rows >= 0], np.intp)
