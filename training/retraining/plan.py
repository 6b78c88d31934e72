"""The plan of a retraining: what data, what recipe, which gates.

Hashed and stored before anything is trained, so that no gate is chosen by its result.
"""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import date
from pathlib import Path
from typing import Any, Literal

from radir_pacs.errors import BadInput

Depth = Literal["head", "full"]
MeanOver = Literal["queries", "regions"]
DEPTHS: tuple[Depth, ...] = ("head", "full")
HELD_OUT = 0.2  # of the patients; no plan may change it: who is held out once must never be trained on


@dataclass(frozen=True, kw_only=True)
class Data:
    """``since`` and ``until``: study dates, both included. With less than ``least_…`` nothing is trained."""

    since: date | None = None
    until: date | None = None
    least_studies: int = 200
    least_patients: int = 100
    least_held_out_patients: int = 30
    most_held_out_images: int = 4000  # the same ones in every run; more hardly narrow an interval


@dataclass(frozen=True, kw_only=True)
class RecipePlan:
    """As of `radir_training.learning.recipe`; what is not here is as it is there."""

    epochs: int = 20
    batch: int = 64
    learning_rate: float = 3e-4
    seed: int = 0
    most_hours: float = 12.0  # a longer training is refused before it begins


@dataclass(frozen=True, kw_only=True)
class GatePlan:
    """overall: "better": the 95 % interval of the difference lies above ``least_gain``; "no worse": above
    -``most_loss``. mean_over: what the difference is the mean of: all abnormal queries, or the regions, as in a plan
    that was stored before there was such an entry. A region or group is judged from ``least_queries`` abnormal
    queries. One that lost fails where chance would show such a loss anywhere with less than ``false_refusal``; so this
    share of challengers that are as good as their champion everywhere is refused. None, in a plan that was stored
    before there was such an entry: it fails where its whole 95 % interval lies below zero. latency and memory: the
    challenger's over the champion's."""

    overall: Literal["better", "no worse"] = "better"
    least_gain: float = 0.0
    most_loss: float = 0.02
    mean_over: MeanOver = "queries"
    k: int = 5
    least_queries: int = 20
    false_refusal: float | None = 0.2
    most_latency: float = 1.25
    most_memory: float = 1.25


@dataclass(frozen=True, kw_only=True)
class ThumbPlan:
    """Readers' judgements of similar cases, as relevance beside that of the reports."""

    use: bool = True
    weight: float = 0.5  # of the readers where they and the reports differ; 1: the reports do not count for such a pair
    together: float = 0.125  # share of each batch that is drawn so that judged pairs meet


@dataclass(frozen=True, kw_only=True)
class Plan:
    depth: Depth = "head"
    pictures: bool = True  # of queries in the evidence; they show patients
    shadow: bool = True  # a challenger that passes goes into shadow; False: it is registered and nothing more
    data: Data = field(default_factory=Data)
    recipe: RecipePlan = field(default_factory=RecipePlan)
    thumbs: ThumbPlan = field(default_factory=ThumbPlan)
    gates: GatePlan = field(default_factory=GatePlan)

    def as_json(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(json.dumps(asdict(self), default=str))
        return told

    @property
    def sha256(self) -> str:
        return sha256_of(self.as_json())

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Plan:
        """Raises BadInput naming the entry that is wrong."""
        parts = {"data": Data, "recipe": RecipePlan, "thumbs": ThumbPlan, "gates": GatePlan}
        values: dict[str, Any] = {}
        for name, value in told.items():
            if name in parts:
                if not isinstance(value, Mapping):
                    raise BadInput(f"plan: {name} is a table")
                values[name] = _filled(parts[name], value, f"{name}.")
            else:
                values[name] = value
        plan = _filled(cls, values, "")
        assert isinstance(plan, Plan)
        _check(plan)
        return plan

    @classmethod
    def stored(cls, told: Mapping[str, Any]) -> Plan:
        """As ``from_json``, of a run's plan: an earlier version may have stored it, and its gates stay what they were.

        Raises BadInput.
        """
        plan, gates = cls.from_json(told), told.get("gates", {})
        once: dict[str, Any] = {"false_refusal": None, "mean_over": "regions"}
        return replace(plan, gates=replace(plan.gates, **{key: was for key, was in once.items() if key not in gates}))

    @classmethod
    def read(cls, path: Path | None, depth: Depth | None = None) -> Plan:
        """The plan of a TOML file, or the defaults; ``depth`` in place of its own. Raises BadInput."""
        told: Mapping[str, Any] = {}
        if path is not None:
            try:
                told = tomllib.loads(path.read_text(encoding="utf-8"))
            except FileNotFoundError:
                raise BadInput(f"there is no plan {path}") from None
            except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
                raise BadInput(f"plan {path.name} cannot be read: {error}") from None
        plan = cls.from_json(told)
        return replace(plan, depth=depth) if depth else plan


def sha256_of(told: Mapping[str, Any]) -> str:
    """Of a plan as JSON, as it is stored."""
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _filled(of: type[Any], told: Mapping[str, Any], place: str) -> Any:
    known = {entry.name: entry for entry in fields(of)}
    default = of()
    values: dict[str, Any] = {}
    for name, value in told.items():
        if name not in known:
            raise BadInput(f"plan: there is no {place}{name}; there are {', '.join(known)}")
        values[name] = _typed(value, getattr(default, name), str(known[name].type), f"{place}{name}")
    return of(**values)


def _typed(value: Any, default: Any, kind: str, name: str) -> Any:
    if kind == "date | None":
        if value is None or isinstance(value, date):
            return value
        try:
            return date.fromisoformat(str(value))
        except ValueError:
            raise BadInput(f"plan: {name} is a date, such as 2026-01-31") from None
    if isinstance(default, bool) or not isinstance(default, int | float):
        if not isinstance(value, type(default)):
            raise BadInput(f"plan: {name} cannot be {value!r}")
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise BadInput(f"plan: {name} is a number")
    if isinstance(default, int) and value != int(value):
        raise BadInput(f"plan: {name} is a whole number")
    return type(default)(value)


def _check(plan: Plan) -> None:
    recipe, gates, data = plan.recipe, plan.gates, plan.data
    rules = {
        f"depth is one of {', '.join(DEPTHS)}": plan.depth in DEPTHS,
        "recipe.epochs is between 1 and 1000": 1 <= recipe.epochs <= 1000,
        "recipe.batch is between 2 and 4096": 2 <= recipe.batch <= 4096,
        "recipe.learning_rate is between 0 and 1": 0 < recipe.learning_rate < 1,
        "recipe.most_hours is positive": recipe.most_hours > 0,
        "thumbs.weight and thumbs.together are between 0 and 1": 0 <= plan.thumbs.weight <= 1
        and 0 <= plan.thumbs.together < 1,
        "gates.overall is 'better' or 'no worse'": gates.overall in ("better", "no worse"),
        "gates.mean_over is 'queries' or 'regions'": gates.mean_over in ("queries", "regions"),
        "gates.k is one of 1, 3, 5, 10, 20": gates.k in (1, 3, 5, 10, 20),
        "gates.least_gain and gates.most_loss are between 0 and 1": 0 <= gates.least_gain < 1
        and 0 <= gates.most_loss < 1,
        "gates.least_queries is at least 5": gates.least_queries >= 5,
        "gates.false_refusal is between 0 and 1": gates.false_refusal is not None and 0 < gates.false_refusal < 1,
        "gates.most_latency and gates.most_memory are at least 1": min(gates.most_latency, gates.most_memory) >= 1,
        "data.least_studies, least_patients and least_held_out_patients are positive": min(
            data.least_studies, data.least_patients, data.least_held_out_patients
        )
        >= 1,
        "data.most_held_out_images is at least 100": data.most_held_out_images >= 100,
        "data.since comes before data.until": not (data.since and data.until and data.since > data.until),
    }
    for rule, holds in rules.items():
        if not holds:
            raise BadInput(f"plan: {rule}")
