"""Losses on region vectors, on image and report vectors, and on findings per region.

Relevance is uint8 round(100 s), UNDEFINED where a report says nothing; vectors are unit vectors.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ..data.statements import MODERATE, PRESENT, SEVERE, UNDEFINED

TEMPERATURE = 0.1
LEAST_SIMILARITY = 0.3  # a pair below it is not a positive
SHARPNESS = 4.0  # weight of a positive is its similarity to this power
SAME = 0.9  # what counts as a hit in evaluation (method of arXiv 2503.04653)
AP_TEMPERATURE = 0.05
RARE_WEIGHT = 5.0  # weight of a present finding relative to an absent one: about one in twenty is present
FALSE_NEGATIVE = 0.75  # images and reports of other studies above this similarity do not count as negatives
TRIPLET_POSITIVE, TRIPLET_GAP, TRIPLET_TEMPERATURE, MARGIN = 0.75, 0.25, 0.07, 0.1
PERCENT = 100.0  # the published code compares relevance with its thresholds without dividing by it


def graded_contrast(vectors: Tensor, relevance: Tensor, abnormal: Tensor, seen: Tensor) -> Tensor:
    """Supervised contrastive loss with graded positives, per region.

    vectors [batch, regions, dim]; relevance [regions, batch, batch]; abnormal and seen [batch, regions]. Normal
    anchors are many and easy, so abnormal and normal anchors carry half the weight each.
    """
    logits, usable, similarity = _pairs(vectors, relevance, seen)
    logits = logits / TEMPERATURE
    log_share = logits - logits.masked_fill(~usable, float("-inf")).logsumexp(2, keepdim=True)
    positive = usable & (similarity > LEAST_SIMILARITY)
    weight = torch.where(positive, similarity, 0.0) ** SHARPNESS
    total = weight.sum(2)
    loss = -torch.where(positive, weight * log_share, 0.0).sum(2) / total.clamp(min=1e-6)
    return _halved(loss, total > 0, abnormal.T, logits)


def smooth_ap(vectors: Tensor, relevance: Tensor, abnormal: Tensor, seen: Tensor) -> Tensor:
    """1 - smoothed average precision of the pairs with similarity above SAME (Brown et al., ECCV 2020)."""
    logits, usable, similarity = _pairs(vectors, relevance, seen)
    positive = usable & (similarity > SAME)
    ahead = torch.sigmoid((logits[:, :, None, :] - logits[:, :, :, None]) / AP_TEMPERATURE)  # [r, anchor, item, other]
    others = ahead * (1 - torch.eye(logits.shape[1], device=logits.device))
    rank = 1 + (others * usable[:, :, None, :]).sum(3)
    rank_among = 1 + (others * positive[:, :, None, :]).sum(3)
    count = positive.sum(2)
    precision = torch.where(positive, rank_among / rank, 0.0).sum(2) / count.clamp(min=1)
    return _halved(1 - precision, count > 0, abnormal.T, logits)


def conditional_triplets(vectors: Tensor, relevance: Tensor, seen: Tensor) -> Tensor:
    """The conditional triplet loss of RadIR, weighted by the gap in relevance, without its floor.

    For each anchor's pairs (j, k) with s_ij > .75 and s_ij - s_ik > .25: log(1 + exp(gap (cos_ik - cos_ij) / .07)).
    """
    triplets = _triplets(*_pairs(vectors, relevance, seen))
    return triplets.mean(functional.softplus(triplets.gap * triplets.wrong / TRIPLET_TEMPERATURE))


def faulty_triplets(vectors: Tensor, relevance: Tensor, seen: Tensor) -> Tensor:
    """The same as in its authors' code: integers of 0-100 compared with .75 and .25 make nearly every pair valid, and
    clipping at zero inside the logarithm keeps the loss from falling below log 2."""
    triplets = _triplets(*_pairs(vectors, relevance, seen), PERCENT)
    wrong = (MARGIN + triplets.wrong).clamp(min=0)
    return triplets.mean(functional.softplus(triplets.gap * wrong / TRIPLET_TEMPERATURE))


def image_triplets(vectors: Tensor, relevance: Tensor, scale: float = 1.0) -> Tensor:
    """Whole images [batch, dim] ranked by whole reports [batch, batch], margin .1 (RadIR's first stage).

    A ``scale`` of 100 is that of its authors' code: nearly every pair counts, even those a hundredth apart.
    """
    seen = torch.ones(len(vectors), 1, dtype=torch.bool, device=vectors.device)
    triplets = _triplets(*_pairs(vectors[:, None], relevance[None], seen), scale)
    return triplets.mean((MARGIN + triplets.wrong).clamp(min=0))


class _Triplets(NamedTuple):
    """For every anchor i and pair (j, k), [regions, i, j, k]: cos_ik - cos_ij, s_ij - s_ik, and whether it counts."""

    wrong: Tensor
    gap: Tensor
    valid: Tensor

    def mean(self, loss: Tensor) -> Tensor:
        return torch.where(self.valid, loss, 0.0).sum() / self.valid.sum().clamp(min=1)


def _triplets(logits: Tensor, usable: Tensor, similarity: Tensor, scale: float = 1.0) -> _Triplets:
    """``scale``: that of the similarities when they are compared with the thresholds."""
    gap = similarity[:, :, :, None] - similarity[:, :, None, :]
    valid = usable[:, :, :, None] & usable[:, :, None, :] & (scale * gap > TRIPLET_GAP)
    valid &= (scale * similarity > TRIPLET_POSITIVE)[:, :, :, None]
    return _Triplets(logits[:, :, None, :] - logits[:, :, :, None], gap, valid)


def image_report(images: Tensor, reports: Tensor, relevance: Tensor) -> Tensor:
    """InfoNCE in both directions between images and reports [batch, dim]; other studies with the same statements are
    left out."""
    if not len(images):
        return images.sum() + reports.sum()
    logits = images @ reports.T / TEMPERATURE
    own = torch.eye(len(images), dtype=torch.bool, device=images.device)
    alike = (relevance >= 100 * FALSE_NEGATIVE) & (relevance != UNDEFINED) & ~own
    logits = logits.masked_fill(alike, float("-inf"))
    target = torch.arange(len(images), device=images.device)
    return (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)) / 2


def findings_loss(logits: Tensor, grades: Tensor, possible: Tensor, seen: Tensor) -> Tensor:
    """Mean binary cross-entropy of each finding being present, at least moderate, and severe; present findings are rare
    and weigh RARE_WEIGHT times as much.

    logits [batch, regions, concepts, 3]; grades [batch, regions, concepts] as in ``statements``; possible [regions,
    concepts]; seen [batch, regions]. Where the severity is not stated, only presence counts.
    """
    target = torch.stack([grades >= PRESENT, grades >= MODERATE, grades >= SEVERE], dim=-1).to(logits.dtype)
    asked = (possible[None] & seen[:, :, None])[..., None].expand_as(target).clone()
    asked[..., 1:] &= (grades != PRESENT)[..., None]
    return cross_entropy(logits[asked], target[asked], RARE_WEIGHT)


def described_loss(logits: Tensor, described: Tensor, seen: Tensor) -> Tensor:
    """Binary cross-entropy of whether the report mentions each region; all [batch, regions]."""
    return cross_entropy(logits[seen], described[seen].to(logits.dtype))


def cross_entropy(logits: Tensor, target: Tensor, positive: float = 1.0) -> Tensor:
    """Mean binary cross-entropy with weight ``positive`` on the positives; 0 where nothing counts."""
    if not logits.numel():
        return logits.sum()
    weight = torch.tensor(positive, device=logits.device)
    return functional.binary_cross_entropy_with_logits(logits, target, pos_weight=weight)


def _pairs(vectors: Tensor, relevance: Tensor, seen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Cosines, which pairs can be compared, and their similarity, each [regions, batch, batch]."""
    by_region = vectors.transpose(0, 1)
    in_view = seen.T
    alone = torch.eye(len(vectors), dtype=torch.bool, device=vectors.device)
    usable = in_view[:, :, None] & in_view[:, None, :] & ~alone & (relevance != UNDEFINED)
    return by_region @ by_region.transpose(1, 2), usable, relevance.float() / 100


def _halved(loss: Tensor, anchors: Tensor, abnormal: Tensor, logits: Tensor) -> Tensor:
    halves = [anchors & abnormal, anchors & ~abnormal]
    means = [loss[half].mean() for half in halves if bool(half.any())]
    return torch.stack(means).mean() if means else logits.sum() * 0
