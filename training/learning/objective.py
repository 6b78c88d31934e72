"""The losses of one batch under a recipe."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from radir_pacs.encode.network import RadirNetwork
from radir_pacs.encode.tokenizer import TextTokenizer
from radir_pacs.types import ImageKind, Region

from ..data.statements import ABSENT
from . import losses
from .batch_sharding import BatchSharding
from .precision import autocast
from .recipe import Loss, Recipe
from .training_set import Batch, TrainingSet

SYNONYM_SHARE = 0.15  # share of steps in which a region is named by one of its synonyms
TRIPLET_REGIONS = 12  # drawn per step: all triplets of all regions would fill the memory
ON_VECTORS: tuple[Loss, ...] = (
    "contrast",
    "whole",
    "smooth_ap",
    "triplet",
    "faulty_triplet",
    "image_triplet",
    "faulty_image_triplet",
)


@dataclass(frozen=True)
class Measured:
    """Losses by name, unweighted, and the batch's vectors [batch, regions, dim]."""

    by_name: dict[Loss, Tensor]
    vectors: Tensor


class Objective:
    """Computes the losses of a recipe; random draws (names, phrases, regions) come from the generator passed in."""

    def __init__(
        self,
        recipe: Recipe,
        training_set: TrainingSet,
        tokenizer: TextTokenizer,
        kind: ImageKind,
        sharding: BatchSharding | None = None,
    ) -> None:
        self.recipe, self.kind, self.whole = recipe, kind, training_set.whole
        self.encoded = training_set.data.encoded
        self.sharding = sharding or BatchSharding()
        self.possible = training_set.possible
        self.names = Names(tokenizer, training_set.regions)
        texts, self.phrase_cells = training_set.phrases()
        self.phrase_ids = torch.tensor(tokenizer.batch(texts)) if texts else torch.empty(0, 1, dtype=torch.int64)
        self.regions = torch.arange(len(training_set.regions))

    def __call__(self, network: RadirNetwork, batch: Batch, step: int, generator: torch.Generator) -> Measured:
        recipe, wanted, device = self.recipe, self.recipe.losses, batch.images.device
        with autocast(device, wanted=recipe.half_precision):
            regions = self.regions if recipe.conditional else self.regions[self.whole : self.whole + 1]
            asked = network.text(self.names.drawn(generator)[regions].to(device))
            phrases = self._phrases(generator) if "asked" in wanted and recipe.conditional else None
            if phrases is not None:
                asked = torch.cat([asked, network.text(self.phrase_ids[phrases].to(device))])

            def look(images: Tensor, views: Tensor) -> Tensor:
                tokens = images if self.encoded else network.image_tokens(images, views, self.kind)
                return network.decode(tokens, asked)

            features = self.sharding(look, batch.images, batch.views)
            out = network.answer(features[:, : len(regions)], regions.to(device))
            found: dict[Loss, Tensor] = {}
            if "report" in wanted and step % recipe.report_every == 0:
                chest = out.vectors[:, self.whole if recipe.conditional else 0]
                reports, own = self.sharding(network.own_report_vectors, batch.reports), batch.written
                found["report"] = losses.image_report(
                    chest[own], reports[own], batch.relevance[self.whole][own][:, own]
                )
            if phrases is not None:
                found["asked"] = self._asked(network.presence(features[:, len(regions) :]).float(), batch, phrases)
        vectors = out.vectors.float()
        if "findings" in wanted:
            possible, seen = self.possible[regions].to(device), batch.seen[:, regions] & batch.told[:, None]
            grades = batch.grades[:, regions]
            found["findings"] = losses.findings_loss(out.severity.float(), grades, possible, seen)
        if "described" in wanted:
            described = batch.described[:, regions]
            seen = batch.seen[:, regions] & batch.told[:, None]
            found["described"] = losses.described_loss(out.described.float(), described, seen)
        self._on_vectors(found, vectors, regions, batch, generator)
        return Measured(found, vectors)

    def _on_vectors(
        self, found: dict[Loss, Tensor], vectors: Tensor, regions: Tensor, batch: Batch, generator: torch.Generator
    ) -> None:
        wanted = self.recipe.losses
        relevance, seen, abnormal = batch.relevance[regions], batch.seen[:, regions], batch.abnormal[:, regions]
        if "contrast" in wanted:
            found["contrast"] = losses.graded_contrast(vectors, relevance, abnormal, seen)
        whole = self.whole if self.recipe.conditional else 0
        if "whole" in wanted:
            one = slice(whole, whole + 1)
            found["whole"] = losses.graded_contrast(vectors[:, one], relevance[one], abnormal[:, one], seen[:, one])
        chest, likeness = vectors[:, whole], batch.relevance[self.whole]
        if "image_triplet" in wanted:
            found["image_triplet"] = losses.image_triplets(chest, likeness)
        if "faulty_image_triplet" in wanted:
            found["faulty_image_triplet"] = losses.image_triplets(chest, likeness, losses.PERCENT)
        few = torch.randperm(len(regions), generator=generator)[:TRIPLET_REGIONS]
        if "smooth_ap" in wanted:
            found["smooth_ap"] = losses.smooth_ap(vectors[:, few], relevance[few], abnormal[:, few], seen[:, few])
        if "triplet" in wanted:
            found["triplet"] = losses.conditional_triplets(vectors[:, few], relevance[few], seen[:, few])
        if "faulty_triplet" in wanted:
            found["faulty_triplet"] = losses.faulty_triplets(vectors[:, few], relevance[few], seen[:, few])

    def _phrases(self, generator: torch.Generator) -> Tensor | None:
        """None: in few reports no phrase recurs."""
        if not len(self.phrase_ids):
            return None
        return torch.randint(len(self.phrase_ids), (self.recipe.phrases,), generator=generator)

    def _asked(self, logits: Tensor, batch: Batch, phrases: Tensor) -> Tensor:
        """Cross-entropy of whether what each phrase describes is present, logits [batch, phrases]."""
        region, concept = self.phrase_cells[phrases].T
        target = (batch.grades[:, region, concept] != ABSENT).to(logits.dtype)
        seen = batch.seen[:, region] & batch.told[:, None]
        return losses.cross_entropy(logits[seen], target[seen])


class Names:
    """Token ids of all names of the regions, and a draw among them."""

    def __init__(self, tokenizer: TextTokenizer, regions: tuple[Region, ...]) -> None:
        texts = [(region.name, *(s for s in region.synonyms if len(s) > 3)) for region in regions]
        self.ids = torch.tensor(tokenizer.batch([text for own in texts for text in own]))
        counts = torch.tensor([len(own) for own in texts])
        self.first = counts.cumsum(0) - counts
        self.synonyms = counts - 1

    @property
    def own(self) -> Tensor:
        """Each region's own name [regions, tokens]."""
        return self.ids[self.first]

    def drawn(self, generator: torch.Generator) -> Tensor:
        """One name per region: mostly its own, sometimes a synonym [regions, tokens]."""
        draw = torch.rand(len(self.first), generator=generator)
        other = 1 + (torch.rand(len(self.first), generator=generator) * self.synonyms).long()
        use = (draw < SYNONYM_SHARE) & (self.synonyms > 0)
        return self.ids[self.first + torch.where(use, other, 0)]
