"""Picture rows: a query, the model's first five, and what they share. Queries are drawn at random, not picked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from radir_pacs.anatomy import ROOT

from ..data.statements import UNDEFINED
from .embeddings import Embeddings
from .exam import IMAGE_TO_IMAGE, Exam
from .measures import ranked

SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class PictureRow:
    """``cases``: (row of the image, cosine, S) of the first five, best first. ``query``: its own row."""

    region: str
    query: int
    cases: tuple[tuple[int, float, float], ...]


def picture_rows(
    exam: Exam, vectors: Embeddings, regions: tuple[str, ...], *, seed: int, each: int = 2
) -> Iterator[PictureRow]:
    """``each`` abnormal queries of every region (ROOT: the whole image), drawn at random by ``seed``."""
    rng = np.random.default_rng(seed)
    source = exam.sources[0]
    for key in regions:
        question, _ = exam.question(source, IMAGE_TO_IMAGE, key)
        abnormal = source.abnormal(key)
        able = question.size > 0 if key == ROOT else question.sought > 0
        asked = np.flatnonzero(able if abnormal is None else able & abnormal)
        for query in rng.permutation(asked)[:each]:
            relevance = question.relevance[query][None]
            scores = (vectors.of(key)[query] @ vectors.of(key).T)[None]
            order = [int(row) for row in ranked(scores, relevance, SHOWN)[0] if relevance[0, row] != UNDEFINED]
            yield PictureRow(
                region=key,
                query=int(query),
                cases=tuple((row, float(scores[0, row]), int(relevance[0, row]) / 100) for row in order),
            )
