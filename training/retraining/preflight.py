"""Before anything is trained: is there enough of everything, and how long will it take. Refusals state both numbers."""

from __future__ import annotations

import math
import shutil
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch

from radir_pacs.encode import Bundle
from radir_pacs.encode.network import RadirNetwork
from radir_pacs.encode.tokens import token_bytes
from radir_pacs.printable import counted

from ..learning.memory import COPIES, free_bytes
from ..learning.precision import autocast
from ..learning.train import CPU
from .plan import Plan
from .snapshot import Counts

PIXELS_S = 0.5  # that reading and encoding one study takes on a core, about
BESIDES = 2.0  # what losses, optimizer, and the look at held-out images after each epoch take as well
PHRASES, PHRASE_WORDS, REPORT_WORDS = 8, 8, 64  # of a step, of a phrase, of a report, about
LEAST_STEPS, LEAST_S = 3, 1.0  # that are timed, after one that only warms up
# Half of the 95 % interval of the gain in Recall@5, mean of queries, times the square root of the number of held-out
# patients, at depth full; a head changes less, and its interval is narrower (docs/results/retraining.md). A gain as
# large as half of the interval passes the gate on the whole every second time.
HALF_INTERVAL = 0.6


class RefusalCode(StrEnum):
    STUDIES = "STUDIES"
    PATIENTS = "PATIENTS"
    HELD_OUT = "HELD_OUT"
    DISK = "DISK"
    MEMORY = "MEMORY"
    TIME = "TIME"


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """``found`` and ``wanted`` in the unit of the code: counts, bytes, hours."""

    code: RefusalCode
    found: float
    wanted: float

    def __str__(self) -> str:
        gb = 1e9
        match self.code:
            case RefusalCode.STUDIES:
                studies = counted(round(self.found), "study has", "studies have")
                return f"{studies} a report, and the plan asks for {self.wanted:.0f}"
            case RefusalCode.PATIENTS:
                return f"they are of {counted(round(self.found), 'patient')}, and the plan asks for {self.wanted:.0f}"
            case RefusalCode.HELD_OUT:
                patients = counted(round(self.found), "patient is", "patients are")
                return f"{patients} held out, and the plan asks for {self.wanted:.0f}"
            case RefusalCode.DISK:
                return f"{self.found / gb:.2f} GB of disk are free, and the run needs {self.wanted / gb:.2f}"
            case RefusalCode.MEMORY:
                return f"{self.found / gb:.2f} GB of memory are free, and the run needs {self.wanted / gb:.2f}"
            case RefusalCode.TIME:
                return f"the run would take {self.wanted:.1f} hours, and the plan allows {self.found:.1f}"


@dataclass(frozen=True, kw_only=True)
class Preflight:
    counts: Counts
    missing_tokens: int
    memory_bytes: int
    disk_bytes: int
    estimated_s: float
    hours: float
    visible_gain: float | None  # `visible_gain`
    refusals: tuple[Refusal, ...]

    def as_json(self) -> dict[str, Any]:
        refusals = [asdict(one) | {"text": str(one)} for one in self.refusals]
        return asdict(self) | {"refusals": refusals}


def preflight(
    plan: Plan, bundle: Bundle, counts: Counts, missing_tokens: int, home: Path, device: torch.device = CPU
) -> Preflight:
    """What the run takes, and why it is not begun, where it is not."""
    trained = counts.studies - counts.held_out_studies
    steps = plan.recipe.epochs * max(1, trained // plan.recipe.batch)
    image_bytes = token_bytes(bundle)
    if plan.depth == "full":
        image_bytes = 2 * int(torch.tensor(bundle.preprocessing.shape).prod())
    weights = sum(parameter.nbytes for parameter in bundle.network.parameters())
    memory = 3 * image_bytes * counts.studies + 2 * COPIES * weights + (1 << 29)
    disk = 8 * weights + (image_bytes * counts.studies if plan.depth == "full" else image_bytes * missing_tokens)
    hours = (steps * step_s(plan, bundle) + PIXELS_S * missing_tokens) / 3600
    free_disk = shutil.disk_usage(home).free
    checks: Sequence[tuple[bool, Refusal]] = (
        (
            counts.studies < plan.data.least_studies,
            Refusal(code=RefusalCode.STUDIES, found=counts.studies, wanted=plan.data.least_studies),
        ),
        (
            counts.patients < plan.data.least_patients,
            Refusal(code=RefusalCode.PATIENTS, found=counts.patients, wanted=plan.data.least_patients),
        ),
        (
            counts.held_out_patients < plan.data.least_held_out_patients,
            Refusal(
                code=RefusalCode.HELD_OUT, found=counts.held_out_patients, wanted=plan.data.least_held_out_patients
            ),
        ),
        (free_disk < disk, Refusal(code=RefusalCode.DISK, found=free_disk, wanted=disk)),
        (free_bytes(device) < memory, Refusal(code=RefusalCode.MEMORY, found=free_bytes(device), wanted=memory)),
        (
            hours > plan.recipe.most_hours,
            Refusal(code=RefusalCode.TIME, found=plan.recipe.most_hours, wanted=hours),
        ),
    )
    refusals = tuple(refusal for refused, refusal in checks if refused)
    return Preflight(
        counts=counts,
        missing_tokens=missing_tokens,
        memory_bytes=memory,
        disk_bytes=disk,
        estimated_s=round(3600 * hours, 1),
        hours=round(hours, 3),
        visible_gain=visible_gain(plan, counts.held_out_patients),
        refusals=refusals,
    )


def visible_gain(plan: Plan, held_out_patients: int) -> float | None:
    """In Recall@5, that passes the gate on the whole about every second time; None where that gate asks for no gain, or
    for one in another figure. A smaller gain is more rarely told from chance, however long is trained."""
    rule, patients = plan.gates, min(held_out_patients, plan.data.most_held_out_images)
    if (rule.overall, rule.mean_over, rule.k) != ("better", "queries", 5) or not patients:
        return None
    return round(rule.least_gain + HALF_INTERVAL / math.sqrt(patients), 3)


def step_s(plan: Plan, bundle: Bundle) -> float:
    """Seconds of one step here: forward, and back to what is trained, on numbers that mean nothing; the median of
    about a second of them, as a busy machine spoils some."""
    network = bundle.network
    assert isinstance(network, RadirNetwork)
    config, batch = network.config, min(plan.recipe.batch, 32)
    phrases = torch.ones(len(bundle.regions) + PHRASES, PHRASE_WORDS, dtype=torch.int64)
    reports = torch.ones(batch, REPORT_WORDS, dtype=torch.int64)
    view = torch.zeros(batch, dtype=torch.int64)
    parameters = tuple(network.parameters())
    learned = [parameter.requires_grad for parameter in parameters]
    spent: list[float] = []
    try:
        for parameter in parameters:
            parameter.requires_grad_(True)
        while len(spent) < LEAST_STEPS + 1 or sum(spent[1:]) < LEAST_S:
            began = time.perf_counter()
            with autocast(CPU, wanted=True):
                if plan.depth == "full":
                    images = torch.zeros(batch, 1, *bundle.preprocessing.shape)
                    tokens = network.image_tokens(images, view, bundle.kind)
                else:
                    tokens = torch.zeros(batch, token_bytes(bundle) // (2 * config.width), config.width)
                answered = network.decode(tokens, network.text(phrases))
                written = network.own_report_vectors(reports)
            loss = answered.float().square().sum() + written.float().square().sum()
            torch.autograd.grad(loss, parameters, allow_unused=True)
            spent.append(time.perf_counter() - began)
    finally:
        for parameter, was in zip(parameters, learned, strict=True):
            parameter.requires_grad_(was)
    return BESIDES * statistics.median(spent[1:]) * plan.recipe.batch / batch
