"""What an administrator looks at: hours, problems, partitions, the life of a study. Nothing here names a patient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from radir_pacs.reasons import ReasonCode

HOURS = 24


class Flow(StrEnum):
    """What is counted by the hour."""

    ARRIVED = "ARRIVED"  # studies that were complete
    ENCODED = "ENCODED"  # studies read by the model that serves, or found unfit
    REENCODED = "REENCODED"  # read by a model beside it
    REPORTS = "REPORTS"  # mined
    FAILED = "FAILED"  # jobs of any kind, for good


Throughput = Mapping[Flow, tuple[int, ...]]  # of each of the last HOURS hours, the oldest first


class ProblemOf(StrEnum):
    STUDY = "STUDY"
    REFUSAL = "REFUSAL"
    JOB = "JOB"


@dataclass(frozen=True, kw_only=True)
class ProblemCount:
    """Studies set aside, instances refused or jobs that failed, by reason. ``where``: a state, or a kind of job."""

    of: ProblemOf
    where: str
    reason_code: ReasonCode
    count: int
    newest: datetime


@dataclass(frozen=True, kw_only=True)
class IndexSize:
    """The index of a model that is kept.

    tail: studies that no generation of its largest partition holds yet; exact search finds them.
    oldest_at: when the oldest generation was built; None before the first.
    """

    model_id: str
    partitions: int
    vectors: int
    tail: int
    oldest_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class PartitionSize:
    """One region under one model. ``vectors``: in its generation; ``tail``: beside it."""

    region: str
    vectors: int
    tail: int
    published_at: datetime | None


class Happening(StrEnum):
    """What can happen to a study."""

    RECEIVED = "RECEIVED"  # images, by sender
    CORRECTED = "CORRECTED"  # images came again with another header
    DAMAGED = "DAMAGED"  # a file was found damaged
    REPORTED = "REPORTED"
    QUEUED = "QUEUED"  # a job was asked for
    JOB = "JOB"  # how that job stands
    ENCODED = "ENCODED"
    STATE = "STATE"  # its state now, since then


@dataclass(frozen=True, kw_only=True)
class StudyEvent:
    """``subject``: a sender, a model, a kind of job or a state. ``detail``: the state of a job or report.

    count: images, regions or attempts. said: the reason in words, which names no patient.
    """

    at: datetime
    what: Happening
    subject: str
    detail: str
    count: int
    reason_code: ReasonCode | None
    said: str | None
