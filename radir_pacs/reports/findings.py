"""The nouns of report mining: what a sentence of a report says about a place in the body."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from radir_pacs.types import ImageKind

Span = tuple[int, int]  # half-open character offsets into the report text


class FindingKind(StrEnum):
    ABNORMALITY = "abnormality"
    DISEASE = "disease"
    DEVICE = "device"
    NORMAL = "normal"  # "lungs are clear": the root concept, absent, at a place
    MEASUREMENT = "measurement"


class Polarity(StrEnum):
    PRESENT = "present"
    ABSENT = "absent"


class Certainty(StrEnum):
    CERTAIN = "certain"
    PROBABLE = "probable"
    POSSIBLE = "possible"
    HISTORICAL = "historical"  # only in the history, or seen on an earlier study and not said to persist
    HYPOTHETICAL = "hypothetical"  # a question or a recommendation: "evaluate for", the indication


class Laterality(StrEnum):
    LEFT = "left"
    RIGHT = "right"
    BILATERAL = "bilateral"


class Severity(StrEnum):
    MINIMAL = "minimal"
    MILD = "mild"
    MODERATE = "moderate"
    SEVERE = "severe"

    @property
    def rank(self) -> int:
        """0 (minimal) to 3 (severe)."""
        return _RANKS[self]


_RANKS = {severity: rank for rank, severity in enumerate(Severity)}


class Change(StrEnum):
    NEW = "new"
    WORSE = "worse"
    STABLE = "stable"
    BETTER = "better"
    RESOLVED = "resolved"


_PRESENT, _MEASUREMENT = Polarity.PRESENT, FindingKind.MEASUREMENT  # an attribute of an Enum is slow to look up
_NOT_NOW = (Certainty.HISTORICAL, Certainty.HYPOTHETICAL)


class Finding(NamedTuple):
    """One statement; a tuple, since one is made some 25 times a report, and a frozen dataclass takes six times as long.

    ``regions`` are keys of ``radir_pacs.anatomy``; spans index ``MinedReport.text``.

    A normal statement has kind NORMAL, the root concept "abnormality" and polarity ABSENT. ``images``: where the
    finding is seen, "series/image" or "image" alone, as the report counts them. ``prior``: what the change is against,
    in the report's words ("03/12/2021"); None where the report names nothing that can be told from another.
    """

    concept: str
    kind: FindingKind
    polarity: Polarity
    certainty: Certainty
    regions: tuple[str, ...]
    laterality: Laterality | None = None
    severity: Severity | None = None
    size_mm: float | None = None
    change: Change | None = None
    images: tuple[str, ...] = ()
    prior: str | None = None
    span: Span = (0, 0)
    sentence: Span = (0, 0)
    section: str = "report"

    @property
    def asserted(self) -> bool:
        """Said to be present now, even if with doubt; a measurement alone does not say that."""
        return self.polarity is _PRESENT and self.kind is not _MEASUREMENT and self.certainty not in _NOT_NOW


@dataclass(frozen=True, kw_only=True, slots=True)
class MinedReport:
    """A report's text, without markup, and what was read from it, in text order.

    ``language`` is an ISO 639-1 code; findings are read only of texts in the lexicon's language.
    """

    text: str
    kind: ImageKind | None
    findings: tuple[Finding, ...]
    language: str = "en"
