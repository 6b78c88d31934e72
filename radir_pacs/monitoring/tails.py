"""How much each partition's next merge would take in: counted once, and from then on only what is new.

A transaction's number is below the snapshot's once it has ended. So what lies between two snapshots is final, and is
added exactly once; a partition is counted anew only when another generation answers for it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from radir_pacs.catalogue import Catalogue, ServedPartition
from radir_pacs.types import PartitionKey


@dataclass
class Tail:
    """Vectors in a partition's tail, and encodings of its model gone since ``as_of``."""

    as_of: str
    n_tail: int = 0
    n_gone: int = 0


class Tails:
    """Counts of one process. Vectors that were deleted while they were in a tail stay counted until the next merge."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._generations = catalogue.generations
        self._counted: dict[PartitionKey, Tail] = {}
        self._until: dict[str, str] = {}

    def survey(self) -> Iterator[tuple[ServedPartition, Tail]]:
        """Every partition of the serving models with its counts as they are now."""
        until = self._generations.snapshot_xmin()
        served = self._generations.served()
        by_model: dict[str, list[ServedPartition]] = defaultdict(list)
        for partition in served:
            by_model[partition.model_id].append(partition)
        for model_id, partitions in by_model.items():
            self._count(model_id, partitions, until)
        known = {(partition.model_id, partition.region) for partition in served}
        self._counted = {key: tail for key, tail in self._counted.items() if key in known}
        self._until = dict.fromkeys(by_model, until)
        for partition in served:
            yield partition, self._counted[partition.model_id, partition.region]

    def _count(self, model_id: str, partitions: list[ServedPartition], until: str) -> None:
        since = self._until.get(model_id)
        added, gone = self._generations.tails(model_id, since, until) if since not in (None, until) else ({}, 0)
        anew: dict[str, list[str]] = defaultdict(list)  # regions by generation's snapshot
        for partition in partitions:
            tail = self._counted.get((model_id, partition.region))
            if tail is None or since is None or tail.as_of != partition.as_of:
                anew[partition.as_of].append(partition.region)
            else:
                tail.n_tail += added.get(partition.region, 0)
                tail.n_gone += gone
        for as_of, regions in anew.items():
            for region, (n_tail, n_gone) in self._tails(model_id, as_of, regions, until).items():
                self._counted[model_id, region] = Tail(as_of=as_of, n_tail=n_tail, n_gone=n_gone)

    def _tails(self, model_id: str, as_of: str, regions: list[str], until: str) -> dict[str, tuple[int, int]]:
        """Those without a build, as all are after a restore, in one count: each would read every encoding there is."""
        if len(regions) == 1:
            return {regions[0]: self._generations.tail(model_id, regions[0], as_of, until)}
        counts, gone = self._generations.tails(model_id, as_of, until)
        return {region: (counts.get(region, 0), gone) for region in regions}
