"""How well the model that serves did with the studies of a week: agreement, drift, regions that it answers itself.

Watching, not deciding: a figure that passes a threshold is a notice for people, and never begins a training.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np

from radir_pacs import anatomy
from radir_pacs.catalogue import Catalogue, ModelRow, QualityRow, ScannedVectors
from radir_pacs.config import Settings
from radir_pacs.errors import RadirError
from radir_pacs.models import Mean
from radir_pacs.query.explain import findings_of
from radir_pacs.query.search import Searcher
from radir_pacs.query.shadow import FIRST, agreement
from radir_pacs.reports import Polarity
from radir_pacs.similar_cases import Query
from radir_pacs.types import F32

SAMPLE = 300  # studies of a week that are asked about; a question takes milliseconds, a mean hardly gains by more
REGIONS = 3  # of a study, those that its report finds something at
VECTORS = 5_000  # of a week, and of what they are compared with
LEAST = 20  # studies of a figure that is judged or of a scanner, in the week and before it
DRAWS = 500
ReportVectors = Callable[[Sequence[str]], F32]  # unit vectors [n, dim] of report texts; None for a network without


class QualityNotice(StrEnum):
    OWN_REPORT_FELL = "OWN_REPORT_FELL"
    FIRST_TEN_FELL = "FIRST_TEN_FELL"
    PARENTS_ROSE = "PARENTS_ROSE"
    DRIFT = "DRIFT"


_WORDS = {
    QualityNotice.OWN_REPORT_FELL: "images agree less with their own reports than in earlier weeks",
    QualityNotice.FIRST_TEN_FELL: "reports of the first ten cases agree less with the query's than in earlier weeks",
    QualityNotice.PARENTS_ROSE: "more regions are answered by one around them than in earlier weeks",
    QualityNotice.DRIFT: "vectors of a scanner drift away from those of the training",
}


def worded(notice: Mapping[str, Any]) -> str:
    """A notice in words."""
    of = f" ({notice['scanner']})" if notice.get("scanner") else ""
    return f"{_WORDS[QualityNotice(notice['code'])]}{of}: {notice['value']:.3f}, {notice['before']:.3f} before"


class WeekOfModel:
    """What is measured of one week, of the model that serves.

    ``report_vectors``: of the model's text encoder; None for a network without one. ``progress``: share done.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        searcher: Searcher,
        model: ModelRow,
        week: date,
        report_vectors: ReportVectors | None,
        progress: Callable[[float], None] = lambda done: None,
    ) -> None:
        self._catalogue, self._searcher, self._model = catalogue, searcher, model
        self._since = datetime.combine(week, time(), tzinfo=UTC)
        self._until = self._since + timedelta(days=7)
        self._report_vectors, self._progress = report_vectors, progress

    def figures(self) -> dict[str, Any]:
        """As JSON. Means come with their number and a 95 % interval; None where there is nothing to measure."""
        uids = self._catalogue.quality.reported(self._model.model_id, self._since, self._until, SAMPLE)
        asked = [self._asked(uid, number / len(uids)) for number, uid in enumerate(uids)]
        drift, trained = self._drift()
        return {
            "studies": len(uids),
            "own_report": _told(self._own_report(uids)),
            "first_ten": _told([_mean(alike) for _, alike in asked if alike]),
            "by_parents": _told([_mean(by_parent) for by_parent, _ in asked if by_parent]),
            "drift": drift,
            "drift_against": "the studies of its training" if trained else "the first studies that it encoded",
        }

    def _asked(self, study_uid: str, done: float) -> tuple[list[float], list[float]]:
        """Of each region with a finding: whether one around it answered; how alike the first ten reports are, if told.

        Regions of one study go together, so a study counts once, by their mean.
        """
        self._progress(done)
        by_parent, alike = [], []
        own = self._said([study_uid]).get(study_uid, ())
        keys = sorted({key for finding in own if finding.polarity is Polarity.PRESENT for key in finding.regions})
        for key in keys[:REGIONS]:
            try:
                answer = self._searcher.unseen(Query(study_uid=study_uid, region=key, limit=FIRST))
            except RadirError:  # deleted meanwhile, or a region that no image of the study shows
                continue
            if answer.model_id != self._model.model_id:
                continue
            cases = [case.study.study_uid for case in answer.cases]
            said = self._said(cases)
            region = answer.region_answered.key
            agreed = agreement(own, [said[uid] for uid in cases if uid in said], region)
            by_parent.append(float(region != answer.region_asked.key))
            alike += [agreed] if agreed is not None else []
        return by_parent, alike

    def _said(self, study_uids: Sequence[str]) -> Mapping[str, Any]:
        bodies = {
            uid: tuple(row.findings for row in self._catalogue.reports.of_study(uid) if row.findings is not None)
            for uid in study_uids
        }
        return findings_of({uid: found for uid, found in bodies.items() if found})

    def _own_report(self, study_uids: Sequence[str]) -> list[float]:
        """For each study, the share of the others' reports that fit its image less than its own: 0.5 is chance."""
        if self._report_vectors is None:
            return []
        images, texts = [], []
        reports = self._catalogue.quality.reports(study_uids)
        for uid in study_uids:
            encoding = self._catalogue.encodings.get(uid, self._model.model_id)
            if encoding is not None and uid in reports and anatomy.ROOT in encoding.regions:
                images.append(encoding.vectors[encoding.regions.index(anatomy.ROOT)])
                texts.append(reports[uid])
        if len(images) < LEAST:
            return []
        scores = np.stack(images) @ self._report_vectors(texts).T
        own = scores.diagonal()[:, None]
        below = (scores < own) + 0.5 * (scores == own)
        return [float(value) for value in (below.sum(axis=1) - 0.5) / (len(images) - 1)]

    def _drift(self) -> tuple[list[dict[str, Any]], bool]:
        quality, model_id = self._catalogue.quality, self._model.model_id
        now = quality.vectors(model_id, anatomy.ROOT, self._since, self._until, VECTORS)
        before = quality.training(model_id, anatomy.ROOT, self._since, VECTORS)
        told = []
        for scanner in sorted({name for name in now.scanners if name is not None}):
            ours, theirs = _of(now, scanner), _of(before, scanner)
            if min(len(ours), len(theirs)) >= LEAST:
                value, low, high = drift(theirs, ours)
                counts = {"scanner": scanner, "studies": len(ours), "before": len(theirs)}
                told.append(counts | {"value": round(value, 4), "low": round(low, 4), "high": round(high, 4)})
        return told, before.trained


def _of(found: ScannedVectors, scanner: str) -> F32:
    return found.vectors[[number for number, name in enumerate(found.scanners) if name == scanner]]


def drift(before: F32, now: F32, seed: int = 0) -> tuple[float, float, float]:
    """The squared distance of the means of two sets of unit vectors, without bias: 0 where nothing drifts, at most 4.

    With its 95 % bootstrap interval. It is the maximum mean discrepancy with a linear kernel (Gretton et al., JMLR 13,
    2012); pairs of a study with itself are left out, also where a draw has it twice.
    """
    rng = np.random.default_rng(seed)

    def drawn(vectors: F32) -> tuple[np.ndarray, np.ndarray]:
        count = len(vectors)
        weights = np.concatenate([np.ones((1, count)), rng.multinomial(count, np.full(count, 1 / count), DRAWS)])
        total = weights @ vectors
        squares = weights**2
        alike = (total**2).sum(1) - squares @ (vectors**2).sum(1)
        return total / count, alike / (count**2 - squares.sum(1))

    (mean_before, alike_before), (mean_now, alike_now) = drawn(before), drawn(now)
    found = alike_before + alike_now - 2 * (mean_before * mean_now).sum(1)
    low, high = np.percentile(found[1:], [2.5, 97.5])
    return float(found[0]), float(low), float(high)


def notices(figures: Mapping[str, Any], earlier: Sequence[QualityRow], settings: Settings) -> list[dict[str, Any]]:
    """What is worse than in the model's earlier weeks, or further from its training, by more than the settings allow.

    Only where the whole interval of the difference says so, and there are enough studies on both sides.
    """
    found: list[dict[str, Any]] = []
    for name, code, sign in (
        ("own_report", QualityNotice.OWN_REPORT_FELL, 1),
        ("first_ten", QualityNotice.FIRST_TEN_FELL, 1),
        ("by_parents", QualityNotice.PARENTS_ROSE, -1),
    ):
        now, before = _pooled([figures[name]]), _pooled([row.figures[name] for row in earlier])
        if now is None or before is None:
            continue
        worse = sign * (before.mean - now.mean)
        if worse > settings.quality_drop and worse > math.hypot(now.margin, before.margin):
            found.append({"code": code.value, "value": now.mean, "before": round(before.mean, 4)})
    for one in figures["drift"]:
        if one["low"] > settings.quality_drift:
            about = {"code": QualityNotice.DRIFT.value, "scanner": one["scanner"]}
            found.append(about | {"value": one["value"], "before": 0.0})
    return found


class _Pooled(NamedTuple):
    """A mean and half the width of its 95 % interval."""

    mean: float
    margin: float


def _pooled(weeks: Sequence[Mapping[str, Any] | None]) -> _Pooled | None:
    """Of the studies of several weeks, which are independent; None for fewer than LEAST."""
    told = [week for week in weeks if week is not None and week["low"] is not None]
    count = sum(week["count"] for week in told)
    if count < LEAST:
        return None
    margin = math.hypot(*(week["count"] * (week["high"] - week["low"]) / 2 for week in told)) / count
    return _Pooled(sum(week["count"] * week["mean"] for week in told) / count, margin)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _told(values: Sequence[float]) -> dict[str, Any] | None:
    if not values:
        return None
    return {name: None if math.isnan(value) else round(value, 4) for name, value in asdict(Mean.of(values)).items()}
