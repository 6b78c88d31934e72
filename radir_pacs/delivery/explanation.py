"""Why a case is similar, as qualitative evaluations of its TID 1410 group (PS3.16).

An evaluation's value is a statement of our private scheme, "moderate pleural effusion, right pleura": what the report
of the similar case says, in the words of the ontology and never in those of the report. Its parts are below it, coded
in SNOMED CT or RadLex where these have a code. All concept names are ours, since the standard ones ("Finding") would
state a finding of the patient whose report this is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from highdicom.sr import ContentSequence
from highdicom.sr.enum import RelationshipTypeValues
from highdicom.sr.templates import QualitativeEvaluation
from highdicom.sr.value_types import CodeContentItem

from radir_pacs import anatomy
from radir_pacs.delivery import codes
from radir_pacs.delivery.finding_site import finding_sites
from radir_pacs.dicom.limits import ReadLimits
from radir_pacs.errors import UnknownRegion
from radir_pacs.reports import Polarity
from radir_pacs.reports.lexicon import load
from radir_pacs.similar_cases import FindingNote, SimilarCase
from radir_pacs.types import Code

MAX_OF_A_CASE = 20
# Data elements and items, as the header reader counts them; contract tests check a report of many cases against it.
_DOCUMENT_ELEMENTS = 400
_GROUP_ELEMENTS = 245
_EVALUATION_ELEMENTS = 80
MAX_MEANING_CHARS = 64  # Code Meaning is LO (PS3.5 6.2)
_BETWEEN = ":"


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """The evaluations of one case, and how many did not fit into the report."""

    evaluations: tuple[QualitativeEvaluation, ...]
    left_out: int


def explanations(cases: Sequence[SimilarCase]) -> list[Explanation]:
    """What the report of each case shares with the query's and where it contradicts it, alternating.

    The structured report stays within the limits of a header reader: cases share that room, and the first ranks get
    the remainder. A note without a concept and region of the ontology is left out: its words could be anybody's.
    """
    room = max(0, ReadLimits().elements - _DOCUMENT_ELEMENTS - _GROUP_ELEMENTS * len(cases)) // _EVALUATION_ELEMENTS
    share, remainder = divmod(room, len(cases) or 1)
    return [_explanation(case, min(share + (n < remainder), MAX_OF_A_CASE)) for n, case in enumerate(cases)]


def _explanation(case: SimilarCase, most: int) -> Explanation:
    sides = (
        [(name, note) for note in dict.fromkeys(notes) if is_known(note)]
        for name, notes in ((codes.SHARED_FINDING, case.shared), (codes.CONTRADICTING_FINDING, case.contradicting))
    )
    in_turn = [named for pair in zip_longest(*sides) for named in pair if named is not None]
    return Explanation(
        evaluations=tuple(evaluation(name, note) for name, note in in_turn[:most]),
        left_out=max(0, len(in_turn) - most),
    )


def evaluation(name: Code, note: FindingNote) -> QualitativeEvaluation:
    """One statement named ``name``, with concept, severity and place below it. The note must be a known one."""
    made = QualitativeEvaluation(name=codes.concept(name), value=codes.concept(statement(note)))
    made[0].ContentSequence = ContentSequence([*_parts(note)])
    return made


def is_known(note: FindingNote) -> bool:
    """Whether every word of the note is one of the ontology's."""
    try:
        anatomy.region(note.region)
    except UnknownRegion:
        return False
    return (
        note.concept in load().concepts
        and note.polarity in set(Polarity)
        and (note.severity is None or note.severity in codes.SEVERITIES)
    )


def statement(note: FindingNote) -> Code:
    """The note as one code, which `note_of` can read; severity is left out where the meaning would be too long."""
    parts = (note.polarity, note.concept, note.region, *([note.severity] if note.severity else []))
    meaning = f"{note.words}, {anatomy.region(note.region).name}"
    graded = f"{note.severity} {meaning}" if note.severity else meaning
    return codes.own(_BETWEEN.join(parts), graded if len(graded) <= MAX_MEANING_CHARS else meaning)


def note_of(value: str) -> FindingNote | None:
    """The note whose `statement` has this code value; None for anything else."""
    parts = value.split(_BETWEEN)
    if len(parts) not in (3, 4):
        return None
    note = FindingNote(
        polarity=parts[0],
        concept=parts[1],
        region=parts[2],
        severity=parts[3] if len(parts) == 4 else None,
    )
    return note if is_known(note) else None


def _parts(note: FindingNote) -> Iterator[CodeContentItem]:
    name = codes.FINDING_DENIED if note.polarity == Polarity.ABSENT else codes.FINDING_AFFIRMED
    yield _property(name, _concept_code(note))
    if note.severity:
        yield _property(codes.SEVERITY, codes.SEVERITIES[note.severity])
    yield from finding_sites(anatomy.region(note.region))


def _property(name: Code, value: Code) -> CodeContentItem:
    return CodeContentItem(
        name=codes.concept(name),
        value=codes.concept(value),
        relationship_type=RelationshipTypeValues.HAS_PROPERTIES,
    )


def _concept_code(note: FindingNote) -> Code:
    """The concept in the scheme that the lexicon names ("SCT 60046008", "RID 28530"), else in ours."""
    key = note.concept
    scheme, _, number = (load().concepts[key].code or "").partition(" ")
    meaning = key.replace("_", " ").capitalize()
    match scheme:
        case "SCT":
            return Code(value=number, scheme="SCT", meaning=meaning)
        case "RID":
            return Code(value=f"RID{number}", scheme="RADLEX", meaning=meaning)
        case _:
            return codes.own(key, meaning)
