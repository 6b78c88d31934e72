"""Every model's figures in an exam: per direction, region and source of relevance, all queries and abnormal ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from radir_pacs.anatomy import ROOT

from .embeddings import Embeddings
from .exam import IMAGE_TO_IMAGE, IMAGE_TO_REPORT, Exam
from .measures import F32, F64, lines, score
from .resample import Bootstrap, Resampled

ALL, ABNORMAL = QUERIES = ("all", "abnormal")


class CellKey(NamedTuple):
    """The place of a figure."""

    source: str
    queries: str
    direction: str
    region: str


@dataclass(frozen=True)
class Cell:
    """The figures [measures, ks] of one place: those of a random order, a perfect order, and each model."""

    random: Resampled
    oracle: F64
    models: Mapping[str, Resampled]


@dataclass(frozen=True)
class Results:
    """``by_chance``: models without a text tower, whose figures between images and reports are the random line."""

    cells: Mapping[CellKey, Cell]
    by_chance: frozenset[str] = frozenset()

    def mean(self, source: str, queries: str, direction: str, regions: Sequence[str]) -> Cell:
        """The plain mean over regions."""
        cells = [self.cells[CellKey(source, queries, direction, region)] for region in regions]
        return Cell(
            Resampled.average([cell.random for cell in cells]),
            _mean([cell.oracle for cell in cells]),
            {name: Resampled.average([cell.models[name] for cell in cells]) for name in cells[0].models},
        )


def examine(
    exam: Exam,
    models: Mapping[str, Embeddings | None],
    asked: Sequence[tuple[str, str]],
    *,
    seed: int,
    progress: Callable[[int], None] = lambda done: None,
) -> Results:
    """Evaluate all models, None being a random order, on (direction, region) pairs; ``progress`` gets the pairs
    done."""
    bootstrap = Bootstrap(exam.patients, seed)
    cells: dict[CellKey, Cell] = {}
    for done, (direction, key) in enumerate(asked, start=1):
        cells |= _cells(exam, direction, key, models, bootstrap)
        progress(done)
    mute = (name for name, vectors in models.items() if vectors is None or vectors.pair(ROOT) is None)
    return Results(cells, frozenset(mute))


def _cells(
    exam: Exam, direction: str, key: str, models: Mapping[str, Embeddings | None], bootstrap: Bootstrap
) -> dict[CellKey, Cell]:
    """One direction and region; the judges share each model's scores."""
    questions = [exam.question(source, direction, key) for source in exam.sources]
    expected = [lines(question) for question, _ in questions]
    values: list[dict[str, F64]] = [{} for _ in questions]
    for name, vectors in models.items():
        pair = _vectors(exam, vectors, direction, key)
        if pair is None:
            for mine, line in zip(values, expected, strict=True):
                mine[name] = line.random
        else:
            scores = pair[0] @ pair[1].T
            for mine, (question, _) in zip(values, questions, strict=True):
                mine[name] = score(question, scores)
    cells = {}
    for source, (_, rows), line, mine in zip(exam.sources, questions, expected, values, strict=True):
        abnormal = source.abnormal(key)
        sets = {ALL: np.ones(len(rows), np.bool_)} | ({} if abnormal is None else {ABNORMAL: abnormal[rows]})
        for queries, mask in sets.items():
            cells[CellKey(source.name, queries, direction, key)] = Cell(
                bootstrap.resampled(line.random[mask], rows[mask]),
                _mean(line.oracle[mask]),
                {name: bootstrap.resampled(found[mask], rows[mask]) for name, found in mine.items()},
            )
    return cells


def _vectors(exam: Exam, vectors: Embeddings | None, direction: str, key: str) -> tuple[F32, F32] | None:
    """(vectors of the queries, of the gallery), or None for a random order."""
    if vectors is None:
        return None
    if direction == IMAGE_TO_IMAGE:
        return vectors.of(key), vectors.of(key)
    pair = vectors.pair(key)
    if pair is None:
        return None
    images, reports = pair[0], pair[1][exam.texts]
    return (images, reports) if direction == IMAGE_TO_REPORT else (reports, images)


def _mean(values: F64 | Sequence[F64]) -> F64:
    """The mean over the first axis, of defined values."""
    stack = np.asarray(values)
    known = ~np.isnan(stack)
    count = known.sum(axis=0)
    return np.asarray(np.where(count > 0, np.where(known, stack, 0).sum(axis=0) / np.maximum(1, count), np.nan))
