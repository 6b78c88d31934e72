"""The nouns of the lexicon: what a phrase may mean, what a concept is, how a word affects the reading."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from radir_pacs.reports.findings import Change, FindingKind, Laterality, Severity

ROOT = "abnormality"
MEASUREMENT = "measurement"  # the size of a place, not a finding
ANYWHERE = "*"


class Cue:
    """How a word affects the reading of the findings around it: bits in plain integers, since they are tested often."""

    NEGATES_NEXT = 1 << 0
    NEGATES_LAST = 1 << 1
    APART = 1 << 2  # looks like a negation and is not one
    PROBABLE_NEXT = 1 << 3
    POSSIBLE_NEXT = 1 << 4
    PROBABLE_LAST = 1 << 5
    POSSIBLE_LAST = 1 << 6
    HISTORY_NEXT = 1 << 7
    HISTORY_LAST = 1 << 8
    QUESTION = 1 << 9
    BREAK = 1 << 10
    SOFT_BREAK = 1 << 11
    THERE = 1 << 12
    COPULA = 1 << 13
    PREPOSITION = 1 << 14
    CONJUNCTION = 1 << 15
    ALTERNATIVE = 1 << 16  # "or", "nor"
    COMMA = 1 << 17
    PRONOUN = 1 << 18
    ARTICLE = 1 << 19
    CLOSES = 1 << 21  # "pneumothorax: absent": denies what is before it, where nothing follows in the clause
    PROJECTION = 1 << 20  # "overlying the rib": where the shadow falls, not where the finding is


@dataclass(slots=True)
class Entry:
    """What a phrase may mean: it can be an attribute in one context and a concept or a severity in another."""

    concept: str | None = None
    device: bool = False  # the concept is a device, which no "normal" denies
    inner: str | None = None  # the place that a concept's phrase names itself: "rib fracture"
    attribute: str | None = None
    place: str | None = None
    side: Laterality | None = None
    severity: Severity | None = None
    change: Change | None = None
    cue: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Concept:
    """A node of the finding ontology."""

    key: str
    kind: FindingKind
    is_a: tuple[str, ...]
    at: str
    within: frozenset[str]  # region keys, closed downwards; empty: anywhere
    elsewhere: Mapping[str, str]  # region key, closed downwards -> the concept it is there; "": none
    reads: Mapping[str, str]  # place key -> region: what a vague place means for this concept
    absorbs: frozenset[str]  # attributes that add no further finding to it ("calcified granuloma")
    code: str | None
    terms: tuple[str, ...]
    formed: tuple[tuple[str, str], ...]  # (attribute, place)


class PhraseNode(dict[str, "PhraseNode"]):
    """A step of the phrase tree; ``entry`` is set where a phrase ends."""

    __slots__ = ("entry",)

    def __init__(self) -> None:
        super().__init__()
        self.entry: Entry | None = None
