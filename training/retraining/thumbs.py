"""Readers' judgements in a run: what is trained on, and how well each model ranks what readers judged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from radir_pacs.catalogue import JudgedPair
from radir_pacs.encode import Bundle

from ..data.judgements import Judgements, Pair
from ..data.statements import UNDEFINED, Relevance
from ..data.studies import StudySet
from ..evaluation.embeddings import encoded
from ..evaluation.measures import F64, I64
from .material import Material
from .plan import ThumbPlan

MOST_PAIRS = 2000  # that are encoded for the examination
DRAWS = 500


def judgements(found: Sequence[JudgedPair], material: Material, plan: ThumbPlan) -> Judgements:
    """Pairs of rows of the material; none where the plan leaves them out.

    Whether two studies are alike does not depend on which was asked about: verdicts of both ways are one pair's.
    """
    row = {uid: number for number, uid in enumerate(material.study_uids)}
    said: dict[tuple[int, int, str], tuple[int, int]] = {}
    for one in found:
        if plan.use and one.query_study_uid in row and one.case_study_uid in row:
            query, case = row[one.query_study_uid], row[one.case_study_uid]
            way = (case, query, one.region) if (case, query, one.region) in said else (query, case, one.region)
            up, down = said.get(way, (0, 0))
            said[way] = up + one.up, down + one.down
    pairs = (Pair(*way, up / (up + down)) for way, (up, down) in said.items())
    return Judgements(tuple(pairs), plan.weight, plan.together)


def trained_on(all_of_them: Judgements, material: Material) -> Judgements:
    """Those of which no study is held out, as pairs of rows of what is trained on."""
    return all_of_them.subset(np.flatnonzero(~material.held_out))


def described(found: Sequence[JudgedPair], material: Material, plan: ThumbPlan) -> dict[str, Any]:
    """What readers said, and what of it is trained on, in numbers."""
    used = trained_on(judgements(found, material, plan), material)
    data = material.data.subset(~material.held_out)
    changes = [abs(used.weight * (100 * pair.up - report)) for pair, report in _reports(used, data)]
    return {
        "judged_pairs": len(found),
        "up": sum(one.up for one in found),
        "down": sum(one.down for one in found),
        "used": plan.use,
        "weight": plan.weight,
        "trained_on_pairs": len(used.pairs),
        "mean_change_of_relevance": round(float(np.mean(changes)) / 100, 3) if changes else None,
    }


def _reports(used: Judgements, data: StudySet) -> list[tuple[Pair, int]]:
    """Each pair with what its reports say, round(100 s), where they tell."""
    keys = sorted({pair.region for pair in used.pairs})
    relevance = Relevance.of(data.said, keys)
    found = []
    for pair in used.pairs:
        report = relevance.pairs(keys.index(pair.region), np.array([pair.query]), np.array([pair.case]))[0, 0]
        if report != UNDEFINED:
            found.append((pair, int(report)))
    return found


def ranked_by_readers(
    found: Sequence[JudgedPair], material: Material, examined: I64, champion: Bundle, challenger: Bundle, seed: int
) -> dict[str, Any]:
    """How often each model finds a case that readers called alike more like its query than one that they did not.

    Over judged pairs of which a study is ``examined`` (rows of held-out patients whom the champion does not know), so
    that nobody trained on the judgement, within each region: the area under the curve, with the paired difference and
    its 95 % bootstrap interval over the queries' patients. Of more than MOST_PAIRS some are drawn, by the seed.
    """
    everybody = judgements(found, material, ThumbPlan(use=True)).pairs
    apart = np.isin(np.arange(len(material.study_uids)), examined)
    pairs = [one for one in everybody if (apart[one.query] or apart[one.case]) and one.up != 0.5]
    if len(pairs) > MOST_PAIRS:
        drawn = np.random.default_rng(seed).choice(len(pairs), MOST_PAIRS, replace=False)
        pairs = [pairs[number] for number in sorted(drawn)]
    ups = np.array([pair.up > 0.5 for pair in pairs], bool)
    told: dict[str, Any] = {"pairs": len(pairs), "up": int(ups.sum()), "down": int((~ups).sum())}
    none = {"champion": None, "challenger": None, "difference": None, "interval_95": None}
    if not ups.any() or ups.all():
        return told | none
    rows = np.unique([row for pair in pairs for row in (pair.query, pair.case)])
    data, place = material.data.subset(rows), {int(row): number for number, row in enumerate(rows)}
    regions = np.array([pair.region for pair in pairs])
    scores = []
    for bundle in (champion, challenger):
        vectors = encoded(bundle, data)
        scores.append(
            np.array([float(vectors.of(p.region)[place[p.query]] @ vectors.of(p.region)[place[p.case]]) for p in pairs])
        )
    whose = material.data.patients[[pair.query for pair in pairs]]
    draws = _weights(whose, seed)
    before, after = (_areas(one, ups, regions, draws) for one in scores)
    if not np.isfinite(before[0]):
        return told | none  # no region has both
    difference = after - before
    low, high = np.nanpercentile(difference[1:], [2.5, 97.5])
    return told | {
        "champion": round(float(before[0]), 4),
        "challenger": round(float(after[0]), 4),
        "difference": round(float(difference[0]), 4),
        "interval_95": (round(float(low), 4), round(float(high), 4)),
    }


def _weights(patients: I64, seed: int) -> F64:
    """How often each pair is drawn, [1 + draws, pairs]: once, then as its patient."""
    people, person = np.unique(patients, return_inverse=True)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(people), np.full(len(people), 1 / len(people)), size=DRAWS)
    return np.concatenate([np.ones((1, len(patients))), drawn[:, person]]).astype(np.float64)


def _areas(scores: F64, ups: np.ndarray, regions: np.ndarray, weights: F64) -> F64:
    """The area of each draw; NaN where it has no two pairs to compare."""
    wins, total = np.zeros(len(weights)), np.zeros(len(weights))
    for region in np.unique(regions):
        up, down = np.flatnonzero(ups & (regions == region)), np.flatnonzero(~ups & (regions == region))
        above = scores[up][:, None] - scores[down][None, :]
        won = (above > 0) + 0.5 * (above == 0)
        wins += np.einsum("du,uv,dv->d", weights[:, up], won, weights[:, down], optimize=True)
        total += weights[:, up].sum(1) * weights[:, down].sum(1)
    with np.errstate(invalid="ignore"):
        return np.asarray(wins / total, np.float64)
