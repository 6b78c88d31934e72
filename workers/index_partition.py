"""Index job: a partition's tail and its small segments, or ones with many deleted vectors, become one segment.

The key is "model id/region key", so one job, and thus one writer, works on a partition at a time; a writer that lost
its lease finds out when it records its build, and deletes its build. Searching processes need none of this to see new
studies: the exact tail holds them from their commit on. One job builds about a million vectors at most; where more
wait, the relay asks again. Where an outside engine holds the index, it is filled instead (`fill_engine`).
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from radir_pacs.catalogue import Catalogue, ModelRow
from radir_pacs.errors import IndexRefused, LeaseLost, SegmentAltered, SettingError
from radir_pacs.index import Generation, GraphSettings, merge, open_generation, partition_folder, remove_unused
from radir_pacs.index.engine import LOCAL
from radir_pacs.index.engines import Engines
from radir_pacs.index.generation import segment_folder
from radir_pacs.index.manifest import GenerationManifest
from radir_pacs.index.writer import MOST
from radir_pacs.types import Job

from .fill_engine import FillEngine, lacks_much

log = logging.getLogger(__name__)

FORGET_S = 86_400.0  # deleted vectors leave the index files within this time, even where a merge is not worth it yet


def _moment(written: str) -> float:
    return datetime.fromisoformat(written).timestamp()


class IndexPartition:
    """The use case of JobKind.INDEX."""

    def __init__(
        self,
        catalogue: Catalogue,
        home: Path,
        clock_s: Callable[[], float] = time.time,
        most: int = MOST,
        engines: Engines | None = None,
    ) -> None:
        """``engines``: needed where the index may be held outside."""
        self._catalogue = catalogue
        self._home = home
        self._clock_s = clock_s
        self._most = most
        self._engines = engines

    def __call__(self, job: Job) -> None:
        """Ends the job with the new generation published and outdated files removed."""
        model_id, _, region = job.key.partition("/")
        model = self._catalogue.models.get(model_id)
        if model is None:
            self._catalogue.jobs.finish(job, "the model is gone")
            return
        generations = self._catalogue.generations
        engine = generations.engine()
        if engine != LOCAL:
            if self._engines is None:
                raise SettingError(f"index_engine: this process cannot fill {engine}")
            FillEngine(self._catalogue, self._clock_s, self._most)(job, model, region, self._engines.named(engine))
            return
        folder = partition_folder(self._home, model_id, region)
        generation, since = self._published(folder, model, region)
        bound = generations.merge_bound(model_id, region, since, self._most)
        oldest = bound.oldest_gone.isoformat() if bound.oldest_gone else None
        if generation and generation.manifest.oldest_deletion:
            oldest = min(
                oldest or generation.manifest.oldest_deletion, generation.manifest.oldest_deletion, key=_moment
            )
        manifest = self._merged(
            folder,
            model_id=model_id,
            region=region,
            dim=model.dim,
            generation=generation,
            tail=generations.vectors(model_id, region, model.dim, bound, self._most),
            gone=bound.gone,
            built_at=datetime.fromtimestamp(self._clock_s(), UTC),
            oldest_deletion=oldest,
            forget=oldest is not None and abs(self._clock_s() - datetime.fromisoformat(oldest).timestamp()) > FORGET_S,
            graph=replace(GraphSettings(), threads=self._threads()),
            most=self._most,
        )
        try:
            generations.record(
                model_id,
                region,
                name=manifest.name,
                count=manifest.count,
                as_of=bound.until,
                manifest=json.loads(manifest.to_bytes()),
                job=job,
                filling=self._moves_here(model_id, region)
                and lacks_much(self._catalogue, model_id, region, bound.until),
            )
        except LeaseLost:
            shutil.rmtree(folder / manifest.name, ignore_errors=True)  # it would look newer than the published one
            kept = {segment.name for segment in generation.segments} if generation else set()
            for name in {record.name for record in manifest.segments} - kept:
                shutil.rmtree(segment_folder(folder, name), ignore_errors=True)
            raise
        remove_unused(folder, now_s=self._clock_s(), keep=manifest.name)

    def _merged(self, folder: Path, *, generation: Generation | None, **given: Any) -> GenerationManifest:
        """As `merge`; an altered segment is refused with its generation, and the next attempt reads the catalogue."""
        try:
            return merge(folder, generation=generation, **given)
        except SegmentAltered as refusal:
            assert generation is not None
            manifest = generation.manifest
            log.error("generation refused", extra={"generation": generation.name, "reason": str(refusal)})
            self._catalogue.generations.refuse(manifest.model_id, manifest.region, generation.name, reason=str(refusal))
            raise

    def _moves_here(self, model_id: str, region: str) -> bool:
        """Whether an outside engine still answers for the partition."""
        published = self._catalogue.generations.published(model_id, region)
        return published is not None and published.engine != LOCAL

    def _threads(self) -> int:
        """Every core while nobody encodes, else one."""
        return 1 if self._catalogue.generations.encoding_waits() else len(os.sched_getaffinity(0))

    def _published(self, folder: Path, model: ModelRow, region: str) -> tuple[Generation | None, str]:
        """The published generation and its snapshot; none when it is refused, and the catalogue is read in full."""
        published = self._catalogue.generations.published(model.model_id, region)
        if published is not None and published.engine != LOCAL:
            published = self._catalogue.generations.filling(model.model_id, region, LOCAL)
        if published is None:
            return None, "0"
        try:
            generation = open_generation(folder / published.name, model_id=model.model_id, region=region, dim=model.dim)
        except IndexRefused as refusal:
            log.error("generation refused", extra={"generation": published.name, "reason": str(refusal)})
            self._catalogue.generations.refuse(model.model_id, region, published.name, reason=str(refusal))
            return None, "0"
        return generation, published.as_of
