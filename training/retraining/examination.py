"""Champion and challenger on the same held-out patients: regions, groups, collapse, speed and size.

Judged by mined reports, over queries whose region is abnormal. Each figure comes with the paired difference and its
95 % bootstrap interval over patients; that of a region or group with the chance of such a loss anywhere (`chance`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from radir_pacs.encode import Bundle
from radir_pacs.errors import BadInput

from ..data.people import KNOWN_PATIENTS, KnownPatients
from ..data.studies import StudySet
from ..evaluation.collapse import COLLAPSED, mean_cosine
from ..evaluation.embeddings import Embeddings, encoded
from ..evaluation.exam import IMAGE_TO_IMAGE, Exam, region_name
from ..evaluation.measures import F64, I64, KS, lines, score
from ..evaluation.regions import TRIVIAL, RegionCandidate, candidates
from ..evaluation.resample import Bootstrap, Resampled
from .chance import Part, Unjudged, by_chance, least_chance
from .material import Groups, Material
from .plan import GatePlan, Plan
from .snapshot import share_of

TIMED = 5  # rounds, champion and challenger in turn
GROUPS = ("sex", "age", "scanner")


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Recall@k of both on the same queries; ``difference``: challenger minus champion, None without a query."""

    queries: int
    champion: float | None
    challenger: float | None
    random: float | None
    difference: float | None
    interval_95: tuple[float, float] | None

    @classmethod
    def of(cls, champion: Resampled, challenger: Resampled, random: float | None) -> Paired:
        difference = float(challenger.mean[0] - champion.mean[0])
        queries = int(champion.queries[0])
        if not queries or not np.isfinite(difference):
            return cls(queries=queries, champion=None, challenger=None, random=None, difference=None, interval_95=None)
        draws = (challenger.draws - champion.draws)[:, 0]
        low, high = np.nanpercentile(draws, [2.5, 97.5])
        return cls(
            queries=queries,
            champion=round(float(champion.mean[0]), 4),
            challenger=round(float(challenger.mean[0]), 4),
            random=None if random is None else round(random, 4),
            difference=round(difference, 4),
            interval_95=(round(float(low), 4), round(float(high), 4)),
        )


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One region's queries: rows [q] of the exam, hits [q] of each model (NaN: no match to find), expected hits."""

    key: str
    rows: I64
    champion: F64
    challenger: F64
    random: F64


@dataclass(frozen=True, kw_only=True)
class Examination:
    exam: Exam
    judged: tuple[Judged, ...]
    vectors: tuple[Embeddings, Embeddings]  # champion's, challenger's
    told: Mapping[str, Any]  # all figures, as JSON


def examinee(
    material: Material, champion: Bundle, plan: Plan, key: bytes, once_trained_on: Collection[str] = frozenset()
) -> tuple[StudySet, Groups, I64, int]:
    """The held-out studies whose patients the champion was never trained on, their rows, and how many that leaves out.

    ``once_trained_on``: studies that a run was to learn from, whose patient became one who is held out.
    At most ``most_held_out_images``: patients by their keyed hash, so the same ones in every run.
    """
    told = champion.training.get(KNOWN_PATIENTS)
    known = [one for entry in (told if isinstance(told, list) else []) if (one := KnownPatients.from_json(entry))]
    data = material.data
    named = zip(data.names, material.study_uids, strict=True)
    learned = np.array([uid in once_trained_on or any(name in one for one in known) for name, uid in named], np.bool_)
    learned = np.isin(data.patients, data.patients[learned])
    rows = np.flatnonzero(material.held_out & ~learned)
    left_out = int((material.held_out & learned).sum())
    most = plan.data.most_held_out_images
    if len(rows) > most:
        rows = np.sort(np.array(sorted(rows, key=lambda row: share_of(data.names[row], key))[:most]))
    groups = Groups(
        sex=tuple(material.groups.sex[row] for row in rows),
        age=tuple(material.groups.age[row] for row in rows),
        scanner=tuple(material.groups.scanner[row] for row in rows),
    )
    return data.subset(rows), groups, rows, left_out


def examined(
    data: StudySet,
    groups: Groups,
    champion: Bundle,
    challenger: Bundle,
    plan: Plan,
    say: Callable[[float, str], None] = lambda done, note: None,
) -> Examination:
    """Raises BadInput where there is nothing to judge by, and what ``say`` does: it hears the share that is done."""
    say(0.0, "held-out studies are read")
    exam = Exam.of(data)

    def of(who: str, began: float) -> Callable[[int], None]:
        return lambda done: say(began + 0.3 * done / len(data), f"the {who} has encoded {done} of {len(data)} images")

    vectors = encoded(champion, data, of("champion", 0.1)), encoded(challenger, data, of("challenger", 0.4))
    say(0.7, "regions and groups are judged")
    judged = tuple(judged_region(exam, one, *vectors, plan.gates.k) for one in to_judge(exam, plan))
    bootstrap = Bootstrap(exam.patients, plan.recipe.seed)
    regions = {one.key: vars(paired_region(bootstrap, one)) | {"name": region_name(one.key)} for one in judged}
    shown = [(regions[one.key], Part(one.rows, one.challenger - one.champion)) for one in judged]
    shown += (by_group := _groups(bootstrap, judged, groups))
    _judge(shown, exam.patients, plan)
    means = {
        "queries": vars(mean_of_queries(bootstrap, judged)),
        "regions": vars(mean_of_regions(bootstrap, judged)),
    }
    say(0.9, "the time of an image is measured")
    told = {
        "measure": f"Recall@{plan.gates.k}, queries whose region is abnormal by their mined report",
        "images": len(exam),
        "patients": len(np.unique(exam.patients)),
        "overall": means[plan.gates.mean_over],
        "means": means,
        "regions": regions,
        "groups": [figures for figures, _ in by_group],
        "collapse": {"champion": _cosines(vectors[0]), "challenger": _cosines(vectors[1]), "limit": COLLAPSED},
        "latency_ms": _latency(champion, challenger, data),
        "memory_bytes": {"champion": _bytes(champion), "challenger": _bytes(challenger)},
    }
    return Examination(exam=exam, judged=judged, vectors=vectors, told=told)


def to_judge(exam: Exam, plan: Plan) -> list[RegionCandidate]:
    """The regions with enough queries. Raises BadInput where there is none."""
    found = [one for one in candidates(exam) if one.queries.sum() >= plan.gates.least_queries and one.chance <= TRIVIAL]
    if not found:
        raise BadInput(
            f"no region has {plan.gates.least_queries} abnormal held-out queries with a match: there is nothing to "
            "judge a challenger by; wait for more reports, or lower gates.least_queries"
        )
    return found


def judged_region(exam: Exam, of: RegionCandidate, champion: Embeddings, challenger: Embeddings, k: int) -> Judged:
    question, rows = exam.question(exam.sources[0], IMAGE_TO_IMAGE, of.key)
    column = KS.index(k)

    def hits(vectors: Embeddings) -> F64:
        found = vectors.of(of.key)
        scored: F64 = score(question, found @ found.T)[of.queries, 0, column]
        return scored

    return Judged(
        key=of.key,
        rows=rows[of.queries],
        champion=hits(champion),
        challenger=hits(challenger),
        random=lines(question).random[of.queries, 0, column],
    )


def paired_region(bootstrap: Bootstrap, one: Judged) -> Paired:
    champion = bootstrap.resampled(one.champion[:, None], one.rows)
    challenger = bootstrap.resampled(one.challenger[:, None], one.rows)
    return Paired.of(champion, challenger, float(np.nanmean(one.random)))


def mean_of_queries(bootstrap: Bootstrap, judged: Sequence[Judged]) -> Paired:
    """Each query counts once, so a region counts by its queries."""
    rows, champion, challenger, random = _all(judged)
    return Paired.of(
        bootstrap.resampled(champion[:, None], rows),
        bootstrap.resampled(challenger[:, None], rows),
        float(np.nanmean(random)),
    )


def mean_of_regions(bootstrap: Bootstrap, judged: Sequence[Judged]) -> Paired:
    """Each region counts once, however few its queries."""
    champion = Resampled.average([bootstrap.resampled(one.champion[:, None], one.rows) for one in judged])
    challenger = Resampled.average([bootstrap.resampled(one.challenger[:, None], one.rows) for one in judged])
    return Paired.of(champion, challenger, float(np.mean([np.nanmean(one.random) for one in judged])))


def _judge(shown: Sequence[tuple[dict[str, Any], Part]], patients: I64, plan: Plan) -> None:
    """Adds to the figures of each region and group the chance of its loss, or why it is not judged."""
    reasons = [_unjudged(part, patients, plan.gates) for _, part in shown]
    parts = [part for (_, part), reason in zip(shown, reasons, strict=True) if reason is None]
    chances = iter(by_chance(patients, parts, plan.recipe.seed).round(4).tolist())
    for (figures, _), reason in zip(shown, reasons, strict=True):
        chance = next(chances) if reason is None else None
        figures |= {"judged": reason is None, "unjudged": reason, "chance": chance}


def _unjudged(part: Part, patients: I64, rule: GatePlan) -> Unjudged | None:
    """Why no gate may depend on it; None where one does."""
    if len(part.rows) < rule.least_queries:
        return Unjudged.FEW_QUERIES
    if rule.false_refusal is not None and least_chance(patients, part) >= rule.false_refusal:
        return Unjudged.FEW_PATIENTS
    return None


def _groups(bootstrap: Bootstrap, judged: Sequence[Judged], groups: Groups) -> list[tuple[dict[str, Any], Part]]:
    """All queries of all judged regions, by group."""
    rows, champion, challenger, random = _all(judged)
    found: list[tuple[dict[str, Any], Part]] = []
    for by in GROUPS:
        of: Sequence[str | None] = getattr(groups, by)
        for group in sorted({name for name in of if name is not None}):
            mine = np.array([of[row] == group for row in rows])
            paired = Paired.of(
                bootstrap.resampled(champion[mine][:, None], rows[mine]),
                bootstrap.resampled(challenger[mine][:, None], rows[mine]),
                float(np.nanmean(random[mine])) if mine.any() else None,
            )
            figures = {"by": by, "group": group, **vars(paired)}
            found.append((figures, Part(rows[mine], (challenger - champion)[mine])))
    return found


def _all(judged: Sequence[Judged]) -> tuple[I64, F64, F64, F64]:
    """Rows, hits of champion and challenger, and expected hits of all queries of all judged regions, each [q]."""
    return (
        np.concatenate([one.rows for one in judged]),
        np.concatenate([one.champion for one in judged]),
        np.concatenate([one.challenger for one in judged]),
        np.concatenate([one.random for one in judged]),
    )


def _cosines(vectors: Embeddings) -> float:
    """The mean over regions of the mean cosine of two studies; near 1, a model tells nobody apart."""
    known = [vectors.image, *vectors.regions.values()]
    return round(float(np.mean([mean_cosine(found[found.any(axis=1)]) for found in known])), 4)


def _latency(champion: Bundle, challenger: Bundle, data: StudySet) -> dict[str, float]:
    """Processor time of one image, the least of some rounds in turn: that of the machine's other work is left out."""
    part = data.subset(np.arange(min(16, len(data))))
    spent: dict[str, list[float]] = {"champion": [], "challenger": []}
    for _ in range(TIMED):
        for name, bundle in (("champion", champion), ("challenger", challenger)):
            began = time.process_time()
            encoded(bundle, part)
            spent[name].append((time.process_time() - began) / len(part))
    return {name: round(1000 * min(times), 3) for name, times in spent.items()}


def _bytes(bundle: Bundle) -> int:
    tensors = [*bundle.network.parameters(), *bundle.network.buffers()]
    return sum(tensor.nbytes for tensor in tensors if isinstance(tensor, torch.Tensor))
