"""What readers judged of pairs of studies: relevance beside that of the reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .statements import U8, UNDEFINED
from .studies import I64

NEUTRAL = 50  # round(100 s) of a pair whose reports do not tell


@dataclass(frozen=True)
class Pair:
    """Two rows of a study set; ``up``: the share of the readers who judged the pair that said yes."""

    query: int
    case: int
    region: str
    up: float


@dataclass(frozen=True)
class Judgements:
    """``weight``: of the readers beside the reports, 0 to 1. ``together``: the share of a batch that is drawn so that
    judged pairs meet in it; by chance two studies of a large archive never do."""

    pairs: tuple[Pair, ...]
    weight: float
    together: float = 0.125
    _of_row: Mapping[int, list[Pair]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        of_row: dict[int, list[Pair]] = {}
        for pair in self.pairs:
            of_row.setdefault(pair.query, []).append(pair)
            of_row.setdefault(pair.case, []).append(pair)
        object.__setattr__(self, "_of_row", of_row)

    def subset(self, rows: I64) -> Judgements:
        """For the set that has these rows only, in this order: the pairs of which both are in it."""
        place = {int(row): number for number, row in enumerate(rows)}
        kept = [
            Pair(place[pair.query], place[pair.case], pair.region, pair.up)
            for pair in self.pairs
            if pair.query in place and pair.case in place
        ]
        return Judgements(tuple(kept), self.weight, self.together)

    def meet(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """``rows`` of a batch, the last of them replaced by studies that were judged with one of the first."""
        wanted = int(len(rows) * self.together)
        chosen = rows.clone()
        first = [int(row) for row in rows[: len(rows) - wanted]]
        judged = [row for row in first if row in self._of_row]
        there = set(first)
        for place in range(len(rows) - wanted, len(rows)):
            if not judged:
                break
            row = judged[int(torch.randint(len(judged), (1,), generator=generator))]
            pairs = self._of_row[row]
            pair = pairs[int(torch.randint(len(pairs), (1,), generator=generator))]
            other = pair.case if pair.query == row else pair.query
            if other not in there:
                there.add(other)
                chosen[place] = other
        return chosen

    def applied(self, relevance: U8, rows: I64, regions: Sequence[str]) -> U8:
        """A batch's relevance [regions, batch, batch] with the readers' in it."""
        places: dict[int, list[int]] = {}
        for number, row in enumerate(rows):
            places.setdefault(int(row), []).append(number)
        told = relevance.copy()
        for row in places:
            for pair in self._of_row.get(row, ()):
                if row != pair.query or pair.case not in places:
                    continue
                for region in (number for number, key in enumerate(regions) if key == pair.region):
                    for one in places[pair.query]:
                        for other in places[pair.case]:
                            value = self._value(int(relevance[region, one, other]), pair.up)
                            told[region, one, other] = told[region, other, one] = value
        return told

    def _value(self, report: int, up: float) -> int:
        base = NEUTRAL if report == UNDEFINED else report
        return round(base + self.weight * (100 * up - base))

    def told(self) -> list[tuple[int, int, str, float]]:
        """What identifies them in a training."""
        return [(pair.query, pair.case, pair.region, pair.up) for pair in self.pairs]
