"""Index job: a partition's generation and all that changed since become its next generation.

The key is "model id/region key", so one job, and thus one writer, works on a partition at a time; a writer that lost
its lease finds out when it records its build, and takes the build away. Readers need none of this to see new studies:
the exact tail holds them from their commit on.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from radir_pacs.catalogue import Catalogue, ModelRow
from radir_pacs.errors import IndexRefused, LeaseLost
from radir_pacs.index import build, collect, open_generation, partition_folder
from radir_pacs.types import F32, I64, Job

log = logging.getLogger(__name__)


class IndexPartition:
    """The use case of JobKind.INDEX."""

    def __init__(self, catalogue: Catalogue, home: Path, clock_s: Callable[[], float] = time.time) -> None:
        self._catalogue = catalogue
        self._home = home
        self._clock_s = clock_s

    def __call__(self, job: Job) -> None:
        """Ends the job with the new generation published and outdated files removed."""
        model_id, _, region = job.key.partition("/")
        model = self._catalogue.models.get(model_id)
        if model is None:
            self._catalogue.jobs.finish(job, "the model is gone")
            return
        folder = partition_folder(self._home, model_id, region)
        labels, vectors, as_of = self._gather(folder, model, region)
        manifest = build(
            folder,
            model_id=model_id,
            region=region,
            labels=labels,
            vectors=vectors,
            built_at=datetime.fromtimestamp(self._clock_s(), UTC),
        )
        try:
            self._catalogue.generations.record(
                model_id,
                region,
                name=manifest.name,
                count=manifest.count,
                as_of=as_of,
                manifest=json.loads(manifest.to_bytes()),
                job=job,
            )
        except LeaseLost:
            shutil.rmtree(folder / manifest.name, ignore_errors=True)  # it would look newer than the published one
            raise
        collect(folder, now_s=self._clock_s())

    def _gather(self, folder: Path, model: ModelRow, region: str) -> tuple[I64, F32, str]:
        """(labels, vectors, snapshot) of the partition as it is now; labels ascend."""
        labels, vectors, since = self._published(folder, model, region)
        changes = self._catalogue.encodings.changes(model.model_id, region, since)
        stays = ~np.isin(labels, np.concatenate([changes.gone, changes.ids]))
        comes = ~np.isin(changes.ids, changes.gone)
        labels = np.concatenate([labels[stays], changes.ids[comes]])
        vectors = np.concatenate([vectors[stays], changes.vectors[comes]])
        order = np.argsort(labels)
        return labels[order], vectors[order], changes.xid

    def _published(self, folder: Path, model: ModelRow, region: str) -> tuple[I64, F32, str]:
        """What the published generation holds; nothing when it is refused, and the catalogue is then read in full."""
        nothing = np.empty(0, np.int64), np.empty((0, model.dim), np.float32), "0"
        published = self._catalogue.generations.published(model.model_id, region)
        if published is None:
            return nothing
        try:
            generation = open_generation(folder / published.name, model_id=model.model_id, region=region, dim=model.dim)
        except IndexRefused as refusal:
            log.error("generation refused", extra={"generation": published.name, "reason": str(refusal)})
            self._catalogue.generations.refuse(model.model_id, region, published.name, reason=str(refusal))
            return nothing
        return generation.labels, generation.vectors, published.as_of
