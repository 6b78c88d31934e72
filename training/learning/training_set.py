"""A study set ready to train on: tensors, labels and relevance for the regions of the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from radir_pacs import anatomy
from radir_pacs.encode.report_text import REPORT_TOKENS, body
from radir_pacs.encode.tokenizer import TextTokenizer
from radir_pacs.types import Region

from ..data.judgements import Judgements
from ..data.statements import ABSENT, Labels, Relevance, Said, stand_ins
from ..data.studies import StudySet


@dataclass(frozen=True, kw_only=True)
class Batch:
    """images [b, 1, *shape]; views [b]; seen, described and abnormal bool [b, regions]; grades uint8 [b, regions,
    concepts]; relevance uint8 [regions, b, b]; reports int64 [b, tokens]; rows [b], where in the set, on the CPU.

    told and written bool [b]: whether there is any statement about the image, and whether it has a report; without
    them, nothing is denied and nothing is learned.
    """

    images: Tensor
    views: Tensor
    seen: Tensor
    described: Tensor
    abnormal: Tensor
    grades: Tensor
    relevance: Tensor
    reports: Tensor
    told: Tensor
    written: Tensor
    rows: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def to(self, device: torch.device) -> Batch:
        moved = {field.name: getattr(self, field.name).to(device) for field in fields(self)}
        return Batch(**{**moved, "rows": self.rows})


class TrainingSet:
    """``regions`` and ``concepts`` are the network's rows and columns. Without ``hierarchy`` a region gets only
    its own statements."""

    def __init__(
        self,
        data: StudySet,
        regions: Sequence[Region],
        concepts: Sequence[str],
        tokenizer: TextTokenizer,
        *,
        hierarchy: bool = True,
        judgements: Judgements | None = None,
    ) -> None:
        said = data.said if hierarchy else tuple(_itself(study) for study in data.said)
        self.data, self.regions, self.concepts = data, tuple(regions), tuple(concepts)
        self.judgements = judgements
        self.labels = Labels.of(said, regions, concepts)
        self.relevance = Relevance.of(said, stand_ins(said, regions))
        self.whole = next(i for i, region in enumerate(regions) if region.key == anatomy.ROOT)
        self.seen = data.seen(regions)
        self.possible = torch.from_numpy(self.labels.possible)
        reports = tokenizer.batch([body(text) for text in data.reports], limit=REPORT_TOKENS)
        self.reports = torch.tensor(reports)
        self.told = torch.tensor([any(study.values()) for study in data.said])
        self.written = torch.tensor([bool(text.strip()) for text in data.reports])

    def __len__(self) -> int:
        return len(self.data)

    def batch(self, rows: Tensor) -> Batch:
        chosen = rows.numpy()
        reports = self.reports[rows]
        longest = int((reports != 0).sum(1).max())
        relevance = self.relevance.batch(chosen)
        if self.judgements is not None:
            relevance = self.judgements.applied(relevance, chosen, [region.key for region in self.regions])
        return Batch(
            images=torch.from_numpy(self.data.images[chosen]).float(),
            views=torch.from_numpy(self.data.views[chosen]),
            seen=torch.from_numpy(self.seen[chosen]),
            described=torch.from_numpy(self.labels.described[chosen]),
            abnormal=torch.from_numpy(self.relevance.abnormal[chosen]),
            grades=torch.from_numpy(self.labels.grades[chosen]),
            relevance=torch.from_numpy(relevance),
            reports=reports[:, :longest],
            told=self.told[rows],
            written=self.written[rows],
            rows=rows,
        )

    def phrases(self) -> tuple[list[str], Tensor]:
        """Every "finding in the region" that some report affirms, and its (region, concept) numbers [phrases, 2]."""
        cells = np.argwhere(self.labels.grades.any(axis=0) != ABSENT)
        texts = [phrase(self.concepts[concept], self.regions[region].name) for region, concept in cells]
        return texts, torch.from_numpy(cells)


def phrase(concept: str, region_name: str) -> str:
    """The words of a query for a finding at a region."""
    return f"{concept.replace('_', ' ')} in the {region_name.lower()}"


def _itself(said: Said) -> Said:
    return {key: own for key, items in said.items() if (own := tuple(item for item in items if item.region == key))}
