"""The gates of a plan: what a challenger must pass before it may be shown beside the champion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from .chance import Unjudged
from .plan import Plan


class GateCode(StrEnum):
    OVERALL = "OVERALL"
    REGION = "REGION"
    GROUP = "GROUP"
    COLLAPSE = "COLLAPSE"
    LATENCY = "LATENCY"
    MEMORY = "MEMORY"
    GOLDEN = "GOLDEN"


_WHY = {
    Unjudged.FEW_QUERIES: "too few queries",
    Unjudged.FEW_PATIENTS: "the two models differ for too few patients to tell a loss from chance",
}


@dataclass(frozen=True, kw_only=True)
class Gate:
    """``value`` is what was measured, ``limit`` what the plan allows, ``of`` the region or group, or what the mean is
    taken over.

    ``chance`` of a region or group: how probable such a loss anywhere is for a challenger that is as good; ``limit``
    is the least chance that the plan allows. One that is judged without a chance is judged by its interval. ``watch``
    of one that passed: its whole interval lies below zero, so a person should look at it before a promotion.
    """

    code: GateCode
    passed: bool
    value: float | None
    limit: float
    of: str = ""
    interval_95: tuple[float, float] | None = None
    judged: bool = True
    unjudged: Unjudged | None = None
    chance: float | None = None

    @property
    def watch(self) -> bool:
        """Whether a region or group passed although, looked at by itself, it is clearly worse."""
        part = self.code in (GateCode.REGION, GateCode.GROUP)
        return part and self.passed and self.judged and self.interval_95 is not None and self.interval_95[1] < 0

    def __str__(self) -> str:
        def number(value: float | None) -> str:
            return "–" if value is None else f"{value:.3f}"

        interval = ""
        if self.interval_95 is not None:
            interval = f", 95 % interval {self.interval_95[0]:+.3f} to {self.interval_95[1]:+.3f}"
        match self.code:
            case GateCode.OVERALL:
                what = f"mean of all {self.of or 'regions'}: {number(self.value)}{interval}"
                return f"{what}; must lie above {self.limit:.3f}"
            case GateCode.REGION | GateCode.GROUP:
                return f"{self.of}: {number(self.value)}{interval}{self._rule()}"
            case GateCode.COLLAPSE:
                return f"mean cosine within a region {number(self.value)}; at most {self.limit:.3f}"
            case GateCode.LATENCY:
                return f"processor time of an image {number(self.value)} times the champion's; at most {self.limit:.2f}"
            case GateCode.MEMORY:
                return f"weights {number(self.value)} times the champion's; at most {self.limit:.2f}"
            case GateCode.GOLDEN:
                return "the bundle answers its golden image as it did when it was trained"

    def _rule(self) -> str:
        """What a region or group is judged by."""
        if not self.judged:
            return f"; not judged: {_WHY[self.unjudged or Unjudged.FEW_QUERIES]}"
        if self.chance is None:
            return f"; must not lie below {self.limit:.3f}"
        if self.value is None or self.value >= 0:
            return ""
        chance, least = 100 * self.chance, 100 * self.limit
        return f"; by chance at any region or group: {chance:.1f} %; refused below {least:.1f} %"

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"text": str(self), "watch": self.watch}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Gate:
        """What ``as_json`` wrote."""
        interval = told["interval_95"]
        unjudged = told.get("unjudged")
        values = {key: value for key, value in told.items() if key not in ("text", "watch")}
        values |= {"code": GateCode(told["code"]), "interval_95": interval and tuple(interval)}
        return cls(**(values | {"unjudged": unjudged and Unjudged(unjudged)}))


def gates(plan: Plan, told: Mapping[str, Any], *, golden: bool) -> list[Gate]:
    """All gates, in the order of the plan; ``told``: of an ``Examination``."""
    return [
        *_figures(plan, told),
        *_machine(plan, told),
        Gate(code=GateCode.GOLDEN, passed=golden, value=None, limit=0.0),
    ]


def _figures(plan: Plan, told: Mapping[str, Any]) -> Iterator[Gate]:
    rule, overall = plan.gates, told["overall"]
    limit = rule.least_gain if rule.overall == "better" else -rule.most_loss
    interval = overall["interval_95"]
    yield Gate(
        code=GateCode.OVERALL,
        passed=interval is not None and interval[0] > limit,
        value=overall["difference"],
        limit=limit,
        of=rule.mean_over if "means" in told else "regions",
        interval_95=interval and tuple(interval),
    )
    for region in told["regions"].values():
        yield _not_worse(GateCode.REGION, region["name"], region, rule.false_refusal)
    for group in told["groups"]:
        yield _not_worse(GateCode.GROUP, f"{group['by']} {group['group']}", group, rule.false_refusal)


def _not_worse(code: GateCode, of: str, figures: Mapping[str, Any], limit: float | None) -> Gate:
    """A run that was planned or examined before there were chances is judged by the intervals, as it was then."""
    interval, difference, unjudged = figures["interval_95"], figures["difference"], figures.get("unjudged")
    if limit is None or "chance" not in figures:
        judged, chance, limit = figures.get("judged", True), None, 0.0
        passed = not judged or interval is None or interval[1] >= 0
    else:  # a part without a chance is not judged
        chance = figures["chance"]
        judged = chance is not None
        passed = not judged or difference is None or difference >= 0 or chance >= limit
    return Gate(
        code=code,
        passed=passed,
        value=difference,
        limit=limit,
        of=of,
        interval_95=interval and tuple(interval),
        judged=judged,
        unjudged=unjudged and Unjudged(unjudged),
        chance=chance,
    )


def _machine(plan: Plan, told: Mapping[str, Any]) -> Iterator[Gate]:
    rule, collapse = plan.gates, told["collapse"]
    cosine = collapse["challenger"]
    yield Gate(code=GateCode.COLLAPSE, passed=cosine <= collapse["limit"], value=cosine, limit=collapse["limit"])
    for code, name, most in (
        (GateCode.LATENCY, "latency_ms", rule.most_latency),
        (GateCode.MEMORY, "memory_bytes", rule.most_memory),
    ):
        ratio = told[name]["challenger"] / max(told[name]["champion"], 1e-9)
        yield Gate(code=code, passed=ratio <= most, value=round(ratio, 3), limit=most)
