"""Index job where an outside engine holds the vectors: it gets what the feed brought since its last generation.

Adding twice adds once, and nobody believes what an engine has before the generation is recorded. So an attempt may be
killed anywhere, and the next one goes on from the generation that stands.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np

from radir_pacs import metrics
from radir_pacs.catalogue import Catalogue, ModelRow
from radir_pacs.errors import IndexRefused
from radir_pacs.index.engine import Engine, outside_name
from radir_pacs.index.writer import LONGEST_TAIL
from radir_pacs.types import I64, Job

log = logging.getLogger(__name__)

_PIECE = 8_192  # vectors handed over at a time
_ATTEMPTS = 3  # at making what the engine holds what it should


class FillEngine:
    def __init__(self, catalogue: Catalogue, clock_s: Callable[[], float], most: int) -> None:
        self._catalogue, self._clock_s, self._most = catalogue, clock_s, most

    def __call__(self, job: Job, model: ModelRow, region: str, engine: Engine) -> None:
        """Ends the job with a new generation, published unless another engine still has far more of the partition.

        Raises EngineAway, SettingError, LeaseLost, and IndexRefused where the engine does not keep what it is given.
        """
        catalogue, model_id = self._catalogue, model.model_id
        generations, place = catalogue.generations, (model_id, region)
        published = generations.published(model_id, region)
        ours = published is not None and published.engine == engine.name
        standing = published if ours else generations.filling(model_id, region, engine.name)
        if standing is None:
            engine.clear(place)
        bound = generations.merge_bound(model_id, region, standing.as_of if standing else "0", self._most)
        for labels, vectors in generations.vectors(model_id, region, model.dim, bound, _PIECE):
            engine.add(place, labels, vectors)
            metrics.ENGINE_CHANGES.labels(engine.name, "added").inc(len(labels))
        engine.remove(place, bound.gone)
        metrics.ENGINE_CHANGES.labels(engine.name, "removed").inc(len(bound.gone))
        count = self._settled(engine, model, region, bound.until)
        generations.record(
            model_id,
            region,
            name=outside_name(generations.next_number(model_id, region), engine.name),
            count=count,
            as_of=bound.until,
            manifest={"engine": engine.name, "built_at": datetime.fromtimestamp(self._clock_s(), UTC).isoformat()},
            job=job,
            engine=engine.name,
            filling=published is not None and not ours and lacks_much(catalogue, model_id, region, bound.until),
        )

    def _settled(self, engine: Engine, model: ModelRow, region: str, until: str) -> int:
        """How many vectors it holds of those that it should: all of them, and others only if they went just now."""
        place = (model.model_id, region)
        for _ in range(_ATTEMPTS):
            count = engine.settle(place, model.dim)
            expected = self._catalogue.encodings.labels_until(*place, until)
            if count == len(expected):
                return count
            self._mend(engine, place, engine.labels(place), expected)
        lacking = np.setdiff1d(expected, engine.labels(place))
        if len(lacking):
            raise IndexRefused(f"{engine.name} lacks {len(lacking)} of {len(expected)} vectors of {region} given to it")
        return len(expected)

    def _mend(self, engine: Engine, place: tuple[str, str], there: I64, expected: I64) -> None:
        """An attempt that lost its lease may have added what was deleted since; somebody may have deleted rows."""
        strange, missing = np.setdiff1d(there, expected), np.setdiff1d(expected, there)
        log.warning("engine mended", extra={"engine": engine.name, "strange": len(strange), "missing": len(missing)})
        engine.remove(place, strange)
        for start in range(0, len(missing), _PIECE):
            labels, vectors = self._catalogue.encodings.vectors_of(*place, missing[start : start + _PIECE])
            if len(labels):
                engine.add(place, labels, vectors)


def lacks_much(catalogue: Catalogue, model_id: str, region: str, until: str) -> bool:
    """Whether what was committed since ``until`` is more than a tail should be."""
    n_tail, _ = catalogue.generations.tail(model_id, region, until, catalogue.generations.snapshot_xmin())
    return n_tail >= LONGEST_TAIL
