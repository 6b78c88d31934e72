"""Index job where an outside engine holds the vectors: it gets what the feed brought since its last generation.

Adding twice adds once, and nobody believes what an engine has before the generation is recorded. So an attempt may be
killed anywhere, and the next one goes on from the generation that stands; at a first one, from what the engine has.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np

from radir_pacs import metrics
from radir_pacs.catalogue import Catalogue, ModelRow
from radir_pacs.errors import IndexRefused, LeaseLost
from radir_pacs.index.engine import Engine, outside_name
from radir_pacs.index.label_set import NO_LABELS, contains
from radir_pacs.index.writer import LONGEST_TAIL
from radir_pacs.types import I64, Job, JobKind, JobState, PartitionKey

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
        try:
            self._fill(job, model, region, engine)
        except LeaseLost:
            self._catalogue.jobs.enqueue(JobKind.INDEX, job.key)  # it may have added what its successor had seen go
            raise

    def _fill(self, job: Job, model: ModelRow, region: str, engine: Engine) -> None:
        catalogue, model_id = self._catalogue, model.model_id
        generations, place = catalogue.generations, (model_id, region)
        published = generations.published(model_id, region)
        ours = published is not None and published.engine == engine.name
        standing = published if ours else generations.filling(model_id, region, engine.name)
        if standing is None:
            self._require_held(job)
            engine.clear(place)
            generations.begin_filling(
                model_id,
                region,
                name=outside_name(generations.next_number(model_id, region), engine.name),
                manifest=self._manifest(engine),
                job=job,
                engine=engine.name,
            )
        since = standing.as_of if standing else "0"
        there = engine.labels(place) if standing and since == "0" else NO_LABELS
        bound = generations.merge_bound(model_id, region, since, self._most)
        for labels, vectors in generations.vectors(model_id, region, model.dim, bound, _PIECE):
            new = ~contains(there, labels)
            if new.any():
                engine.add(place, labels[new], vectors[new])
            metrics.ENGINE_CHANGES.labels(engine.name, "added").inc(int(new.sum()))
        engine.remove(place, bound.gone)
        metrics.ENGINE_CHANGES.labels(engine.name, "removed").inc(len(bound.gone))
        count = self._settled(job, engine, model, region, bound.until)
        generations.record(
            model_id,
            region,
            name=outside_name(generations.next_number(model_id, region), engine.name),
            count=count,
            as_of=bound.until,
            manifest=self._manifest(engine),
            job=job,
            engine=engine.name,
            filling=published is not None and not ours and lacks_much(catalogue, model_id, region, bound.until),
        )

    def _manifest(self, engine: Engine) -> dict[str, str]:
        return {"engine": engine.name, "built_at": datetime.fromtimestamp(self._clock_s(), UTC).isoformat()}

    def _require_held(self, job: Job) -> None:
        """Before anything is removed by what this attempt knows: another one may have published since."""
        held = self._catalogue.jobs.get(job.id)
        if held is None or held.token != job.token or held.state != JobState.RUNNING:
            raise LeaseLost(f"job {job.id} is another's by now")

    def _settled(self, job: Job, engine: Engine, model: ModelRow, region: str, until: str) -> int:
        """How many vectors it holds of those that it should: all of them, and others only if they went just now."""
        place = (model.model_id, region)
        for _ in range(_ATTEMPTS):
            count = engine.settle(place, model.dim)
            expected = self._catalogue.encodings.labels_until(*place, until)
            if count == len(expected) or not self._mended(job, engine, place, expected):
                return len(expected)
        lacking = np.setdiff1d(expected, engine.labels(place))
        if len(lacking):
            raise IndexRefused(f"{engine.name} lacks {len(lacking)} of {len(expected)} vectors of {region} given to it")
        return len(expected)

    def _mended(self, job: Job, engine: Engine, place: PartitionKey, expected: I64) -> bool:
        """An attempt that lost its lease may have added what was deleted since; somebody may have deleted rows.

        What the catalogue has beyond ``expected`` stays: a later attempt may have added it. False: nothing was amiss.
        """
        there = engine.labels(place)
        missing = np.setdiff1d(expected, there)
        strange = self._gone(place, np.setdiff1d(there, expected))
        if not len(strange) and not len(missing):
            return False
        log.warning("engine mended", extra={"engine": engine.name, "strange": len(strange), "missing": len(missing)})
        if len(strange):
            self._require_held(job)
            engine.remove(place, strange)
        for start in range(0, len(missing), _PIECE):
            labels, vectors = self._catalogue.encodings.vectors_of(*place, missing[start : start + _PIECE])
            if len(labels):
                engine.add(place, labels, vectors)
        return True

    def _gone(self, place: PartitionKey, labels: I64) -> I64:
        """Those that the catalogue does not have."""
        pieces = [labels[start : start + _PIECE] for start in range(0, len(labels), _PIECE)]
        gone = [np.setdiff1d(piece, self._catalogue.encodings.vectors_of(*place, piece)[0]) for piece in pieces]
        return np.concatenate([np.empty(0, np.int64), *gone])


def lacks_much(catalogue: Catalogue, model_id: str, region: str, until: str) -> bool:
    """Whether what was committed since ``until`` is more than a tail should be."""
    n_tail, _ = catalogue.generations.tail(model_id, region, until, catalogue.generations.snapshot_xmin())
    return n_tail >= LONGEST_TAIL
