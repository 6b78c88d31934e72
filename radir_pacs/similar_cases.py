"""The similar-case query and its answer: what may be asked, what each case says, and what a reader judges of it."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from enum import StrEnum

from radir_pacs.scopes import Scope
from radir_pacs.types import CatalogueStudy, ImageRef, Region

WORDS_CHARACTERS = 200  # of a question in words


@dataclass(frozen=True, kw_only=True)
class Match:
    """One matching key: the path of tags to it (8 upper-case hex digits each), its VR and its value as requested.

    Several ``values`` are alternatives (UID list matching, extended here to code strings).
    """

    path: tuple[str, ...]
    vr: str
    values: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Filters:
    """Which cases may be returned. Empty fields filter nothing. Dates inclusive; ages in years."""

    modalities: frozenset[str] = frozenset()
    study_date_from: date | None = None
    study_date_to: date | None = None
    sexes: frozenset[str] = frozenset()
    age_from: float | None = None
    age_to: float | None = None
    body_part: str | None = None
    with_report: bool = False
    same_scanner: bool = False  # as the query study: Manufacturer and Manufacturer's Model Name
    finding: str | None = None  # a concept that the report affirms in the region that is searched
    keys: tuple[Match, ...] = ()  # other matching keys of a QIDO-RS search for studies
    fuzzy: bool = False  # names among them match by sound, as QIDO-RS's fuzzymatching does
    exclude_same_patient: bool = True
    exclude_studies: frozenset[str] = frozenset()
    scope: Scope = field(default_factory=Scope)  # of whoever asks

    @functools.cached_property
    def restrict(self) -> bool:
        """Whether a case can fail them by what it is; ``finding`` and the two exclusions aside."""
        rest = replace(self, finding=None, exclude_same_patient=True, exclude_studies=frozenset(), fuzzy=False)
        return rest != _NO_FILTERS


_NO_FILTERS = Filters()


@dataclass(frozen=True, kw_only=True)
class WeightedRegion:
    """A region key and how much it counts among several."""

    key: str
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not 1e-3 <= self.weight <= 1e3:  # refuses NaN as well
            raise ValueError("a weight is from 0.001 to 1000")


class WordsOf(StrEnum):
    """What a question in words names: a place whose look is compared, or a finding (in a place) that is looked for."""

    REGION = "region"
    FINDING = "finding"


@dataclass(frozen=True, kw_only=True)
class Words:
    """A question in words that no model needs to have been trained on.

    Raises ValueError for none or too many, and for what is no text: it is told back in a header and on terminals.
    """

    text: str
    of: WordsOf = WordsOf.REGION

    def __post_init__(self) -> None:
        if not self.text.strip() or len(self.text) > WORDS_CHARACTERS or not self.text.isprintable():
            raise ValueError(f"a question in words has 1 to {WORDS_CHARACTERS} printable characters")


@dataclass(frozen=True, kw_only=True)
class PageMark:
    """Where a page of an answer ended: the next one begins behind it, whatever came or went meanwhile.

    newest: no label above it is answered; it is at least the highest that there was at the first page. score and label
    are those of the last case, ``seen`` the number of cases up to it. regions: keys of those that answered.
    """

    model_id: str
    regions: tuple[str, ...]
    newest: int
    score: float
    label: int
    seen: int


@dataclass(frozen=True, kw_only=True)
class Query:
    """Cases like ``study_uid`` in ``region`` (a region key), or in it and ``also`` others, by weight.

    A page is counted off by ``offset``, among the cases that there are now, or begins behind a mark (``after``), among
    those that there were at the first page.

    ``words``: the cases most alike in the region are ordered by them (`query.words`); one region, no mark.
    """

    study_uid: str
    region: str
    weight: float = 1.0
    also: tuple[WeightedRegion, ...] = ()
    limit: int = 10
    offset: int = 0
    after: PageMark | None = None
    filters: Filters = field(default_factory=Filters)
    words: Words | None = None

    def __post_init__(self) -> None:
        if self.words is not None and (self.also or self.after):
            raise ValueError("in words one region is asked about, and a page is counted off by offset")
        if self.limit < 1 or self.offset < 0 or (self.offset and self.after):
            raise ValueError("limit is at least 1, offset at least 0, and none beside after")

    def within(self, scope: Scope) -> Query:
        """The same question of somebody who may see no more than the scope."""
        return replace(self, filters=replace(self.filters, scope=scope)) if scope.restricts else self

    @property
    def regions(self) -> tuple[WeightedRegion, ...]:
        """All regions that are asked for."""
        return WeightedRegion(key=self.region, weight=self.weight), *self.also


@dataclass(frozen=True, kw_only=True)
class FindingNote:
    """A finding of a report at a region, as it explains a similar case; ``concept`` is a key of the lexicon."""

    concept: str
    region: str
    polarity: str
    severity: str | None = None

    @property
    def words(self) -> str:
        """The concept for people: "no pleural effusion"."""
        return ("no " if self.polarity == "absent" else "") + self.concept.replace("_", " ")


@dataclass(frozen=True, kw_only=True)
class SimilarCase:
    """One answer row. ``score`` is the cosine of the two region vectors, in [-1, 1]; rank counts from 1.

    Of a question in words it is the cosine of the two answers to them, or how much the case says that the finding is
    there, from 0 to 1.

    ``sop_uid`` and ``frame`` name the picture that shows the region that was answered. ``by_region``: the cosine
    in each of the answer's regions, whose weighted mean is the score.
    """

    rank: int
    score: float
    study: CatalogueStudy
    series_uid: str
    sop_uid: str
    frame: int = 1
    shared: tuple[FindingNote, ...] = ()
    contradicting: tuple[FindingNote, ...] = ()
    by_region: tuple[float, ...] = ()


class NoticeCode(StrEnum):
    """What the reader of an answer has to know, with the values that a ``Notice`` carries for it."""

    TOO_FEW_CASES = "too_few_cases"  # asked, answered: keys of regions
    NOT_A_REGION_OF_THE_MODEL = "not_a_region_of_the_model"  # asked, answered: keys of regions
    FEW_CANDIDATES = "few_candidates"  # count; region: a key
    PARTLY_ENCODED = "partly_encoded"  # model; percent of the studies that it has encoded
    INTENDED_USE = "intended_use"  # model; text: what its maker says
    IMAGE = "image"  # note: an ImageNoteCode on the query's image; its values
    FILTER_IGNORED = "filter_ignored"  # keyword: a DICOM keyword
    FINDING_FILTERS = "finding_filters"  # finding: a concept; region: a key
    FINDING_DENIED = "finding_denied"  # finding: a concept; region: a key
    WORDS_OF_A_REGION = "words_of_a_region"  # words; count of cases ordered; region: a key; figures of `query.words`
    WORDS_OF_A_FINDING = "words_of_a_finding"  # as above
    WITHOUT_TOKENS = "without_tokens"  # count of cases that cannot be asked in words


@dataclass(frozen=True, kw_only=True)
class Notice:
    """A remark on an answer. It holds keys, not words: it is worded where somebody reads it, in their language."""

    code: NoticeCode
    values: Mapping[str, str | float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Offer:
    """A question near one that nothing answers, and how many cases would answer it."""

    region: str
    finding: str | None
    candidates: int


@dataclass(frozen=True, kw_only=True)
class AnsweredRegion:
    """A region that was asked for, the one whose partition answered, and how much it counted."""

    asked: Region
    answered: Region
    weight: float


@dataclass(frozen=True, kw_only=True)
class SimilarCaseList:
    """A whole answer: what was asked, who answered, as of when (P5).

    ``region_asked`` and ``region_answered`` are of the first region, ``regions`` all of them. ``following`` is where
    the next page begins, None behind the last case.

    ``query_sop_uid`` names the picture of the query study that shows the region that was answered. ``query_images``:
    of a CT all such slices, that one first; empty for a radiograph.
    """

    query: Query
    region_asked: Region
    region_answered: Region
    model_id: str
    generation: str | None  # None: the partition has only a tail
    as_of: datetime
    exact: bool
    cases: tuple[SimilarCase, ...]
    more: int = 0  # further results beyond this page, as far as known
    notices: tuple[Notice, ...] = ()
    query_series_uid: str = ""
    query_sop_uid: str = ""
    query_images: tuple[ImageRef, ...] = ()
    regions: tuple[AnsweredRegion, ...] = ()
    following: PageMark | None = None


_MOST_RANK = 2**31 - 1  # as the database keeps it


@dataclass(frozen=True, kw_only=True)
class Feedback:
    """A reader's judgement of one similar case. ``verdict`` is UP, DOWN or empty, which withdraws it.

    ``reader`` is a random name that one browser keeps, never a person's.
    """

    query_study_uid: str
    case_study_uid: str
    region: str
    model_id: str
    generation: str | None
    rank: int
    score: float
    verdict: str
    reason: str = ""
    reader: str = ""

    def __post_init__(self) -> None:
        if self.verdict not in ("UP", "DOWN", ""):
            raise ValueError("a verdict is UP, DOWN or empty")
        if not 1 <= self.rank <= _MOST_RANK or not -1.001 <= self.score <= 1.001:
            raise ValueError("a rank is at least 1 and a score from -1 to 1")
