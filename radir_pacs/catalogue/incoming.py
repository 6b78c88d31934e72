"""What comes in beside images: versions of reports, patients that merge, orders that name a study, messages."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum

from radir_pacs.reasons import ReasonCode


class ReportStatus(StrEnum):
    """What a version of a report is to the others of its document."""

    PRELIMINARY = "PRELIMINARY"  # gives way to any that is complete, whenever it comes
    FINAL = "FINAL"
    AMENDED = "AMENDED"  # corrected or amended: as FINAL
    ADDENDUM = "ADDENDUM"  # adds to the version before
    CANCELLED = "CANCELLED"  # nothing of the report holds
    IN_ERROR = "IN_ERROR"  # it was never true


WITHDRAWN = frozenset({ReportStatus.CANCELLED, ReportStatus.IN_ERROR})


@dataclass(frozen=True, kw_only=True)
class ReportVersion:
    """One version of a report as it came, its text free of markup.

    document: what its sender calls the report in all its versions; empty: the sender has one report per study. part:
    where a document may be about several studies, which of them this is, in any words that stay the same; parts: all
    that it has now. A complete version withdraws the document from the studies of other parts.
    study_uid, or numbers (accession and order numbers, the surest first) with patient_keys (``issuer\\id``), name its
    study; without patient keys the number alone does. version_at None: now. sent_at breaks ties, then the order in
    which versions come.
    """

    source: str
    document: str
    status: ReportStatus
    body: str
    sender: str = ""
    version_at: datetime | None = None
    sent_at: datetime | None = None
    part: str = ""
    parts: tuple[str, ...] = ()
    replaces: tuple[str, ...] = ()
    study_uid: str | None = None
    numbers: tuple[str, ...] = ()
    patient_keys: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Demographics:
    """What a message says of a patient; None changes nothing. For answers only, never for logs."""

    name: str | None = None
    sex: str | None = None
    birth_date: date | None = None


@dataclass(frozen=True, kw_only=True)
class PatientMerge:
    """Each first key became the second one; ``undone``: it did not, after all."""

    pairs: tuple[tuple[str, str], ...]
    says: Demographics = Demographics()
    undone: bool = False


@dataclass(frozen=True, kw_only=True)
class PatientUpdate:
    """What the patients of these keys are called now."""

    keys: tuple[str, ...]
    says: Demographics


@dataclass(frozen=True, kw_only=True)
class OrderLink:
    """Numbers of an order and the study that was made, or will be, for it; ``ended``: it was cancelled."""

    numbers: tuple[str, ...]
    study_uid: str
    ended: bool = False


Deed = ReportVersion | PatientMerge | PatientUpdate | OrderLink


class Outcome(StrEnum):
    """What became of a message."""

    STORED = "STORED"
    WAITING = "WAITING"  # a report in it waits for its study
    DONE = "DONE"  # there was nothing to store
    KEPT = "KEPT"  # it could not be used, or not all of it


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How a message is answered (HL7 2.9 chapter 2: MSA-1, ERR-3, ERR-2); the reason names no patient."""

    answer: str = "AA"
    reason: str = ""
    reason_code: ReasonCode | None = None
    error_code: str = ""
    error_at: str = ""


@dataclass(frozen=True, kw_only=True)
class Message:
    """A message that arrived, by its sender's names for it. ``body``: as received."""

    sender: str
    control_id: str
    kind: str
    body: bytes


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What was answered, now or when the same message came before (``again``)."""

    outcome: Outcome
    verdict: Verdict
    again: bool = False


@dataclass(frozen=True, kw_only=True)
class KeptMessage:
    """A message that could not be used, for the administrator. Its body is about patients: never for logs."""

    id: int
    sender: str
    control_id: str
    kind: str
    reason: str
    reason_code: ReasonCode
    times: int
    at: datetime


@dataclass(frozen=True, kw_only=True)
class WaitingReport:
    """A report without its study."""

    id: int
    source: str
    sender: str
    status: ReportStatus
    named_study_uid: str | None
    received_at: datetime
