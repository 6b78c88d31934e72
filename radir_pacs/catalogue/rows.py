"""The catalogue's own arguments and answers, beyond the nouns of radir_pacs.types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from radir_pacs.reasons import ReasonCode
from radir_pacs.scopes import Scope
from radir_pacs.similar_cases import Feedback
from radir_pacs.types import (
    HeaderNote,
    JobKind,
    JobState,
    StudyState,
)


class Stored(StrEnum):
    """What storing an instance did."""

    STORED = "STORED"
    SAME = "SAME"  # it was there already with the same content: nothing changed (P2)
    CORRECTED = "CORRECTED"  # its header took the place of the one before
    ASIDE = "ASIDE"  # the header before still counts; the file is kept


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """An instance that was not taken, and why; ``source`` is the calling AE title, or the route."""

    sop_uid: str | None
    reason: str
    reason_code: ReasonCode
    dimse_status: int | None
    source: str
    at: datetime


@dataclass(frozen=True, kw_only=True)
class Correction:
    """The record of an instance that came again with another header. ``changed``: keywords, never values.

    other_sha256: the file that does not count: the replaced one or, with ``aside``, the later one.
    """

    sop_uid: str
    other_sha256: str
    aside: bool
    changed: tuple[str, ...]
    source: str
    at: datetime


@dataclass(frozen=True, kw_only=True)
class NotedInstance:
    """An instance that was stored although its file was odd."""

    sop_uid: str
    notes: tuple[HeaderNote, ...]
    source: str
    at: datetime


@dataclass(frozen=True, kw_only=True)
class DamagedInstance:
    """An instance whose file is not what was stored."""

    study_uid: str
    sop_uid: str
    found_at: datetime


@dataclass(frozen=True, kw_only=True)
class FailedJob:
    """A job other than an encode job, whose failure its study shows, that failed at its last attempt."""

    kind: JobKind
    key: str
    error: str
    reason_code: ReasonCode
    at: datetime


@dataclass(frozen=True, kw_only=True)
class Retried:
    """What is tried again: studies by UID, and how many other jobs."""

    studies: tuple[str, ...]
    jobs: int


@dataclass(frozen=True, kw_only=True)
class JobProgress:
    """How a job is going: the `ReasonCode` of its last failure, and a ``message`` that words it, or its result."""

    id: int
    kind: JobKind
    key: str
    state: JobState
    attempt: int
    max_attempts: int
    reason_code: str | None
    message: str | None
    changed_at: datetime


@dataclass(frozen=True, kw_only=True)
class Commitment:
    """A request for storage commitment. ``instances``: (SOP class UID, SOP instance UID), as requested.

    ``failed``: those that are not kept, with the failure reason; None until the files have been checked.
    """

    id: int
    transaction_uid: str
    requestor: str
    instances: tuple[tuple[str, str], ...]
    is_reported: bool
    asked_at: datetime
    failed: tuple[tuple[str, str, int], ...] | None


@dataclass(frozen=True, kw_only=True)
class HeldInstance:
    """What the catalogue holds under a SOP Instance UID.

    is_damaged: as found when its file was last read. is_away: its file made room for others.
    """

    sop_class_uid: str
    content_sha256: str
    size_bytes: int
    is_damaged: bool
    is_away: bool


@dataclass(frozen=True, kw_only=True)
class StoredInstance:
    """An instance as the catalogue knows it. ``attributes``: DICOM JSON model of the header (PS3.18 F)."""

    study_uid: str
    series_uid: str
    sop_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    instance_number: int | None
    rows_px: int | None
    columns_px: int | None
    frames: int
    content_sha256: str
    size_bytes: int
    attributes: Mapping[str, Any]
    source: str
    received_at: datetime


@dataclass(frozen=True, kw_only=True)
class CatalogueSeries:
    """A series with its number of instances."""

    study_uid: str
    series_uid: str
    modality: str | None
    series_number: int | None
    series_description: str | None
    body_part: str | None
    instance_count: int


@dataclass(frozen=True, kw_only=True)
class ViewerContext:
    """What a sidebar's token opens: a study, for the reader whom the PACS named, if it did; and which similar cases."""

    token_sha256: str
    study_uid: str
    reader: str | None
    scope: Scope = field(default_factory=Scope)


@dataclass(frozen=True, kw_only=True)
class ReportRow:
    """A report of a study. ``body`` and ``findings`` are about a patient: for answers only, never for logs."""

    id: int
    study_uid: str
    sop_uid: str | None
    source: str
    body: str
    findings: Any  # as mining wrote them; None: not mined yet
    parser: str | None
    received_at: datetime
    unread_language: str | None = None  # the text's language (ISO 639-1), where mining does not read it


@dataclass(frozen=True, kw_only=True)
class MinedRow:
    """What mining read from a report's text alone, as JSON; ``adds``: it is an addendum."""

    id: int
    mined: Any
    adds: bool


class Received(StrEnum):
    """What a version of a report did."""

    NEW = "NEW"
    REPLACED = "REPLACED"  # it took the place of what its source had given before
    SAME = "SAME"  # it is here
    LATE = "LATE"  # a later version holds, or a complete one
    WITHDRAWN = "WITHDRAWN"  # nothing of its report holds any more
    WAITING = "WAITING"  # its study is not here


@dataclass(frozen=True, kw_only=True)
class ReportedStudy:
    """A study and its newest report. ``patient_key`` and ``body`` are about a patient: never for logs."""

    study_uid: str
    patient_key: str  # empty: unknown
    modalities: tuple[str, ...]
    body: str


@dataclass(frozen=True, kw_only=True)
class FeedbackRow(Feedback):
    """A current judgement, with its time."""

    at: datetime


@dataclass(frozen=True, kw_only=True)
class FeedbackCount:
    """Readers' judgements of cases at one region."""

    region: str
    up: int
    down: int
    newest: datetime


SILENT_S = 15.0  # a process sends a heartbeat every two seconds


@dataclass(frozen=True, kw_only=True)
class ProcessRow:
    """A process whose last heartbeat was ``silent_s`` seconds ago."""

    name: str
    pid: int
    state: str
    detail: str
    version: str  # of the program
    started_at: datetime
    silent_s: float


@dataclass(frozen=True, kw_only=True)
class JobCount:
    """Jobs of one kind and state; ``oldest_s``: age of the oldest one still open."""

    kind: JobKind
    state: JobState
    count: int
    oldest_s: float | None


@dataclass(frozen=True, kw_only=True)
class Overview:
    """What `radir status` shows."""

    processes: tuple[ProcessRow, ...]
    studies: Mapping[StudyState, int]
    jobs: tuple[JobCount, ...]
    encodings: Mapping[str, int]  # by model id
    unread_reports: Mapping[str, int]  # by language (ISO 639-1): they have no findings
    refusals_last_day: int
    oldest_open_job_s: float | None
    waiting_reports: int = 0  # versions of reports without a study
    jobs_of_later_release: int = 0  # open ones, of kinds that this release does not know
    messages: Mapping[str, int] = field(default_factory=dict)  # HL7, by `Outcome`

    @property
    def oldest_by_kind(self) -> Mapping[JobKind, float]:
        """Ages of the oldest open job of each kind, in seconds; kinds without one are missing."""
        oldest: dict[JobKind, float] = {}
        for job in self.jobs:
            if job.oldest_s is not None:
                oldest[job.kind] = max(job.oldest_s, oldest.get(job.kind, 0.0))
        return oldest
