"""What is true of a study at a region: findings of known severity, rolled up the anatomy, and how alike studies are.

The place of a finding comes from a phantom here; mined reports give the same table. A finding at a region counts for
the region and all above it. A region that the data never describes takes the labels of the nearest one above that
they do, so that a question about it is answered rather than guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from radir_pacs import anatomy
from radir_pacs.types import LEFT, RIGHT, ImageKind, Region

from .phantoms import CATALOGUE, Finding

U8 = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
CONCEPTS = tuple(sorted(CATALOGUE))
PLACES = tuple(sorted({place for kind in CATALOGUE.values() for place in kind.regions}))
LEVEL_WEIGHTS = (0.6, 0.2, 0.2)  # of being there at all, being moderate, being severe


def severity_table(studies: Iterable[Sequence[Finding]]) -> U8:
    """Severity 0 to 3 of each concept at each place: uint8 [studies, len(PLACES), len(CONCEPTS)]."""
    rows = []
    for findings in studies:
        row = np.zeros((len(PLACES), len(CONCEPTS)), np.uint8)
        for finding in findings:
            cell = PLACES.index(finding.region), CONCEPTS.index(finding.concept)
            row[cell] = max(int(row[cell]), finding.severity)
        rows.append(row)
    return np.stack(rows)


def model_regions(kind: ImageKind) -> tuple[Region, ...]:
    """The regions a network for ``kind`` answers for: the trained ones, the places of findings, and all above them."""
    wanted = {region.key for region in anatomy.trained(kind)} | set(PLACES)
    wanted |= {above.key for key in wanted for above in anatomy.ancestors(key)}
    return tuple(region for region in anatomy.regions(kind) if region.key in wanted)


@dataclass(frozen=True)
class Truth:
    """Labels of studies at regions.

    severity: uint8 [studies, regions, concepts], the worst at or below the region. sided: the same of the patient's
    right, then of the left, [studies, regions, 2 * concepts]. possible: bool [regions, concepts], what may be found
    there at all. described: bool [regions], whether findings are placed at or below the region itself.
    """

    severity: U8
    sided: U8
    possible: Mask
    described: Mask

    @classmethod
    def of(cls, table: U8, regions: Sequence[Region]) -> Truth:
        """From a ``severity_table``."""
        below = _places_below(regions)
        described: Mask = np.asarray(below.any(axis=1))
        row_of = {region.key: row for row, region in enumerate(regions)}
        for row, region in enumerate(regions):
            if not described[row]:
                above = (row_of[found.key] for found in anatomy.ancestors(region.key))
                below[row] = next(below[other] for other in above if described[other])
        sides = [anatomy.region(place).laterality for place in PLACES]
        right, left = (np.array([side == wanted for side in sides]) for wanted in (RIGHT, LEFT))
        sided = [_worst(table, below & right), _worst(table, below & left)]
        return cls(
            severity=_worst(table, below),
            sided=np.concatenate(sided, axis=2),
            possible=(below[:, :, None] & _PLACED[None]).any(axis=1),
            described=described,
        )

    @property
    def abnormal(self) -> Mask:
        """[studies, regions]: whether anything is wrong there."""
        found: Mask = np.asarray(self.severity.any(axis=2))
        return found


_PLACED = np.array([[place in CATALOGUE[concept].regions for concept in CONCEPTS] for place in PLACES])


def _places_below(regions: Sequence[Region]) -> Mask:
    below = np.zeros((len(regions), len(PLACES)), np.bool_)
    for row, region in enumerate(regions):
        keys = {region.key, *(found.key for found in anatomy.descendants(region.key))}
        below[row] = [place in keys for place in PLACES]
    return below


def _worst(table: U8, below: Mask) -> U8:
    """The highest severity over the places [regions, places] that count for a region: [studies, regions, concepts]."""
    worst = np.zeros((len(table), len(below), table.shape[2]), np.uint8)
    for row, places in enumerate(below):
        if places.any():
            worst[:, row] = table[:, places].max(axis=1)
    return worst


def graded(severity: Tensor, sided: Tensor) -> Tensor:
    """Features float [..., f] whose inner product is the weight two studies share: one number a level of severity."""
    levels = torch.cat([severity, sided], dim=-1)[..., None] >= torch.arange(1, 4, device=severity.device)
    weights = torch.tensor(LEVEL_WEIGHTS, device=severity.device).sqrt()
    return (levels * weights).flatten(-2)


def similarity(a: Tensor, b: Tensor) -> Tensor:
    """How alike studies are: weight in common over weight in all (Ruzicka), from ``graded`` features.

    [..., n, f] and [..., m, f] to [..., n, m] in [0, 1]. Two normal regions are alike, a normal and an abnormal one
    not at all; the same finding on the other side shares its concept only.
    """
    common = a @ b.transpose(-1, -2)
    total = a.square().sum(-1)[..., :, None] + b.square().sum(-1)[..., None, :] - common
    return torch.where(total < 1e-6, 1.0, common / total.clamp(min=1e-6))
