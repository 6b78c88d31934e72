"""What models are evaluated on: studies of one kind, their patients and reports, and the sources of relevance."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from radir_pacs import anatomy
from radir_pacs.anatomy import ROOT
from radir_pacs.errors import BadInput
from radir_pacs.types import ImageKind

from ..data.statements import UNDEFINED, Mask, model_regions
from ..data.studies import StudySet
from .measures import I64, Question
from .relevance_source import MINED, TRUE, RelevanceSource, StatementRelevance

IMAGE_TO_IMAGE, IMAGE_TO_REPORT, REPORT_TO_IMAGE = DIRECTIONS = ("image-image", "image-report", "report-image")


@dataclass(frozen=True, kw_only=True)
class Exam:
    """``keys``: the regions of the queries, including the root. ``seen``: regions that not every image shows, with a
    mask [n] of the images that do. ``studies``: the images, where there are any."""

    kind: ImageKind
    patients: I64
    reports: tuple[str, ...]
    sources: tuple[RelevanceSource, ...]
    keys: tuple[str, ...]
    seen: dict[str, Mask] = field(default_factory=dict)
    studies: StudySet | None = None

    @classmethod
    def of(cls, data: StudySet) -> Exam:
        """An exam on ``data``; judged by the truth as well as the reports where it is known. Raises BadInput."""
        if len(np.unique(data.patients)) < 2:
            raise BadInput("one patient cannot be compared with others")
        if not any(data.said):
            raise BadInput("no report has a statement that was understood: there is nothing to judge by")
        regions = model_regions(data.kind, data.said)
        keys = tuple(region.key for region in regions)
        sources: list[RelevanceSource] = [StatementRelevance(MINED, data.said, keys)]
        if data.true is not None:
            sources.append(StatementRelevance(TRUE, data.true, keys))
        seen = data.seen(regions)
        hidden = {key: seen[:, i] for i, key in enumerate(keys) if not seen[:, i].all()}
        return cls(
            kind=data.kind,
            patients=data.patients,
            reports=data.reports,
            sources=tuple(sources),
            keys=keys,
            seen=hidden,
            studies=data,
        )

    def __len__(self) -> int:
        return len(self.patients)

    @cached_property
    def texts(self) -> I64:
        """Rows of the gallery of reports: the first image of each distinct text."""
        first: dict[str, int] = {}
        for row, text in enumerate(self.reports):
            if text.strip():
                first.setdefault(text, row)
        return np.array(list(first.values()), np.int64)

    @cached_property
    def _apart(self) -> Mask:
        """[n, n]: whether the patients differ."""
        apart: Mask = self.patients[:, None] != self.patients[None]
        return apart

    @cached_property
    def _own(self) -> Mask:
        """[n, texts]: whether the report is this image's own, or has the same text."""
        number = {self.reports[row]: i for i, row in enumerate(self.texts)}
        mine = np.array([[number.get(text, -1)] for text in self.reports], np.int64)
        own: Mask = mine == np.arange(len(self.texts))[None]
        return own

    def question(self, source: RelevanceSource, direction: str, key: str) -> tuple[Question, I64]:
        """What is asked, and the rows of the patients [queries] of those who ask.

        Images of the query's patient are in no gallery. In the gallery of whole reports (and of images, for a whole
        report) the own one is, being what is sought; under a region it is left out, and others that agree are sought.
        """
        relevance = source.pairs(key)
        if key in self.seen:
            relevance[~self.seen[key]] = UNDEFINED
            relevance[:, ~self.seen[key]] = UNDEFINED
        whole = key == ROOT and direction != IMAGE_TO_IMAGE
        if not whole:
            relevance[~self._apart] = UNDEFINED
        everyone = np.arange(len(self))
        if direction == IMAGE_TO_IMAGE:
            return Question.by_relevance(relevance), everyone
        relevance = relevance[:, self.texts]
        relevance[[not text.strip() for text in self.reports]] = UNDEFINED  # an image without a report is not a query
        own = self._own
        if whole:  # the image's own report counts even where no statement was understood
            relevance[own] = 100
            relevance[(relevance == UNDEFINED) & own.any(axis=1, keepdims=True)] = 0
        question = Question(relevance, own) if whole else Question.by_relevance(relevance)
        if direction == IMAGE_TO_REPORT:
            return question, everyone
        return Question(question.relevance.T.copy(), question.matches.T.copy()), self.texts


def region_name(key: str) -> str:
    """The name for people; other data sets have regions that we do not have."""
    known = {region.key: region.name for region in anatomy.regions()}
    return known.get(key, key)
