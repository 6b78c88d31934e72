"""The evidence of a run, as one page and one JSON, to be filed with a predetermined change control plan.

Laid out as the FDA's final guidance of December 2024 has it (``GUIDANCE``): description of modifications, modification
protocol, impact assessment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from radir_pacs.catalogue import RetrainingRun
from radir_pacs.encode import Bundle
from radir_pacs.models.run_files import PROMOTION

from ..data.people import KNOWN_PATIENTS
from ..data.studies import F16, StudySet
from ..evaluation.exam import IMAGE_TO_IMAGE, region_name
from ..evaluation.measures import ranked
from ..evaluation.pictures import picture
from ..evaluation.statements_text import agreement, findings
from ..pages import rendered
from .examination import Examination
from .gates import Gate
from .plan import HELD_OUT, Plan

FORMAT = 1
NOTE = "Decision support, not diagnosis."
SHOWN = 3  # cases of each model in a row of pictures
ROWS = 4  # of queries that the challenger answers and the champion does not, and as many the other way round
GUIDANCE = (
    "FDA, Marketing Submission Recommendations for a Predetermined Change Control Plan for Artificial "
    "Intelligence-Enabled Device Software Functions, final guidance, December 2024"
)
Pixels = Callable[[int], F16 | None]  # the network input [1, *shape] of a row; None where it cannot be read


def evidence(
    run: RetrainingRun,
    plan: Plan,
    champion: Bundle,
    challenger: Bundle,
    data: Mapping[str, Any],
    examination: Mapping[str, Any],
    judged: Sequence[Gate],
    time: Mapping[str, Any],
) -> dict[str, Any]:
    """Everything but the pictures, as JSON."""
    changed = {
        "head": "decoder, region head and text encoder; the image encoder stays, weight by weight",
        "full": "all weights",
    }[plan.depth]
    failed = [str(gate) for gate in judged if not gate.passed]
    return {
        "format": FORMAT,
        "note": NOTE,
        "guidance": GUIDANCE,
        "run": run.id,
        "kind": run.kind.value,
        "started_by": run.started_by,
        "started_at": run.created_at,
        "passed": not failed,
        "description_of_modifications": {
            "champion": champion.model_id,
            "challenger": challenger.model_id,
            "depth": plan.depth,
            "what_changes": changed,
            "what_does_not": "network sizes, preprocessing, regions and findings of the champion",
            "training": {key: value for key, value in challenger.training.items() if key != KNOWN_PATIENTS},
        },
        "modification_protocol": {
            "plan": run.plan,  # as it was stored: an upgrade may have added entries, and its hash is of these
            "plan_sha256": run.plan_sha256,
            "held_out": f"{HELD_OUT:.0%} of the patients by a keyed hash, the same in every run, never trained on",
            "data": data,
            "time": time,
            "gates": "fixed in the plan, which was hashed and stored before anything was trained",
        },
        "impact_assessment": {
            "examination": examination,
            "gates": [gate.as_json() for gate in judged],
            "failed": failed,
            "watch": [str(gate) for gate in judged if gate.watch],
            "serving": "not changed by this run; who or which rule promotes the challenger, when and why is filed in "
            f"{PROMOTION} beside this record, from the history of models",
        },
    }


def page(told: Mapping[str, Any], examination: Examination | None, pixels: Pixels | None, *, seed: int) -> str:
    """The same for people, with pictures of queries where the two differ."""
    rows: list[dict[str, Any]] = []
    if examination is not None and pixels is not None:
        rows = list(_rows(examination, pixels, seed))
    return rendered("retraining.html", title=f"Retraining {told['run']}: {told['kind']}", told=told, rows=rows)


def _rows(found: Examination, pixels: Pixels, seed: int) -> Iterator[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    for gained in (True, False):
        pool = [
            (one.key, int(row))
            for one in found.judged
            for row, before, after in zip(one.rows, one.champion, one.challenger, strict=True)
            if before != after and (after > before) == gained and not np.isnan(before)
        ]
        for number in rng.permutation(len(pool))[:ROWS]:
            key, query = pool[number]
            row = _row(found, pixels, key, query, gained=gained)
            if row is not None:
                yield row


def _row(found: Examination, pixels: Pixels, key: str, query: int, *, gained: bool) -> dict[str, Any] | None:
    data = found.exam.studies
    assert data is not None
    shown = _picture(data, pixels, query, key)
    if shown is None:
        return None
    question, _ = found.exam.question(found.exam.sources[0], IMAGE_TO_IMAGE, key)
    relevance = question.relevance[query][None]
    models = []
    for name, vectors in zip(("champion", "challenger"), found.vectors, strict=True):
        scores = (vectors.of(key)[query] @ vectors.of(key).T)[None]
        cases = []
        for case in ranked(scores, relevance, SHOWN)[0]:
            both = agreement(data.said[query], data.said[int(case)], key)
            cases.append(
                {
                    "image": _picture(data, pixels, int(case)),
                    "alike": int(relevance[0, case]) / 100,
                    "shared": "; ".join(both.shared),
                    "there": "; ".join(findings(data.said[int(case)], key)) or "nothing found",
                }
            )
        models.append({"name": name, "cases": cases})
    return {
        "region": region_name(key),
        "gained": gained,
        "image": shown,
        "findings": "; ".join(findings(data.said[query], key)),
        "models": models,
    }


def _picture(data: StudySet, pixels: Pixels, row: int, key: str | None = None) -> str | None:
    image = pixels(row)
    if image is None:
        return None
    alone = replace(data.subset(np.array([row])), images=np.asarray(image, np.float16)[None], encoded=False)
    return picture(alone, 0, key)
