"""Losses of the region vectors: graded supervised contrast within a region, and the severity of findings there."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

TEMPERATURE = 0.1
LEAST_SIMILARITY = 0.3  # below, a pair is no positive
SHARPNESS = 4.0  # weight of a positive is its similarity to this power


def graded_contrast(vectors: Tensor, similarity: Tensor, abnormal: Tensor, seen: Tensor) -> Tensor:
    """Supervised contrastive loss with graded positives, each region by itself.

    vectors [batch, regions, dim], unit; similarity [regions, batch, batch] in [0, 1]; abnormal and seen
    [batch, regions]. Normal anchors are many and easy: abnormal and normal ones carry half the weight each.
    """
    by_region = vectors.transpose(0, 1)
    logits = by_region @ by_region.transpose(1, 2) / TEMPERATURE
    in_view = seen.T
    alone = torch.eye(len(vectors), dtype=torch.bool, device=vectors.device)
    usable = in_view[:, :, None] & in_view[:, None, :] & ~alone
    log_share = logits - logits.masked_fill(~usable, float("-inf")).logsumexp(2, keepdim=True)
    positive = usable & (similarity > LEAST_SIMILARITY)
    weight = torch.where(positive, similarity, 0.0) ** SHARPNESS
    total = weight.sum(2)
    loss = -torch.where(positive, weight * log_share, 0.0).sum(2) / total.clamp(min=1e-6)
    anchors = total > 0
    halves = [anchors & abnormal.T, anchors & ~abnormal.T]
    means = [loss[half].mean() for half in halves if bool(half.any())]
    return torch.stack(means).mean() if means else logits.sum() * 0


def severity_loss(logits: Tensor, severity: Tensor, possible: Tensor, seen: Tensor) -> Tensor:
    """Mean binary cross-entropy of severity >= 1, 2, 3 over the findings that can be at a region.

    logits [batch, regions, concepts, 3]; severity [batch, regions, concepts]; possible [regions, concepts]; seen
    [batch, regions].
    """
    target = (severity[..., None] >= torch.arange(1, 4, device=severity.device)).to(logits.dtype)
    asked = (possible[None] & seen[:, :, None])[..., None].expand_as(target)
    return functional.binary_cross_entropy_with_logits(logits[asked], target[asked])
