"""What the answers of a model in shadow tell, beside those that were shown: means with intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from radir_pacs.catalogue import ShadowAnswer

Z = 1.96  # of a normal distribution: 95 % within


@dataclass(frozen=True, kw_only=True)
class Mean:
    """A mean of ``count`` values and its 95 % interval, by the normal approximation; NaN for none, or for one value."""

    count: int
    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Mean:
        found = list(values)
        count = len(found)
        mean = sum(found) / count if count else math.nan
        spread = math.sqrt(sum((value - mean) ** 2 for value in found) / (count - 1)) if count > 1 else math.nan
        margin = Z * spread / math.sqrt(count) if count else math.nan
        return cls(count=count, mean=mean, low=mean - margin, high=mean + margin)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Questions that both models answered.

    overlap: share of the first ten cases that both gave. agreement_gain: how much better the reports of the first ten
    of the model in shadow agree with the query's report, where both tell; above 0 it is better. The milliseconds are
    those of whole answers.
    """

    model_id: str
    serving: str
    overlap: Mean
    serving_agreement: Mean
    shadow_agreement: Mean
    agreement_gain: Mean
    serving_ms: Mean
    shadow_ms: Mean


def compared(answers: Iterable[ShadowAnswer]) -> tuple[Comparison, ...]:
    """One comparison for each model that served meanwhile."""
    by_pair: dict[tuple[str, str], list[ShadowAnswer]] = {}
    for answer in answers:
        by_pair.setdefault((answer.shadow, answer.serving), []).append(answer)
    return tuple(_of(shadow, serving, found) for (shadow, serving), found in by_pair.items())


def _of(shadow: str, serving: str, answers: list[ShadowAnswer]) -> Comparison:
    told = [
        (one.serving_agreement, one.shadow_agreement)
        for one in answers
        if one.serving_agreement is not None and one.shadow_agreement is not None
    ]
    return Comparison(
        model_id=shadow,
        serving=serving,
        overlap=Mean.of(one.shared / one.compared for one in answers if one.compared),
        serving_agreement=Mean.of(ours for ours, _ in told),
        shadow_agreement=Mean.of(theirs for _, theirs in told),
        agreement_gain=Mean.of(theirs - ours for ours, theirs in told),
        serving_ms=Mean.of(one.serving_ms for one in answers),
        shadow_ms=Mean.of(one.shadow_ms for one in answers),
    )
