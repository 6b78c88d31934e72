"""Models and retraining: what the catalogue answers of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from radir_pacs.reasons import ReasonCode
from radir_pacs.types import (
    ImageKind,
    ModelChange,
    ModelState,
    StepState,
)


@dataclass(frozen=True, kw_only=True)
class ModelRow:
    """A model. ``bundle_sha256``: of the manifest of the copy in ``models/<model_id>``; None: there is none.

    kept_until: a retired model encodes new studies until then. coverage: of the one that serves, the share of studies
    that it has encoded, as last counted.
    """

    model_id: str
    kind: ImageKind
    dim: int
    manifest: Mapping[str, Any]
    state: ModelState
    bundle_sha256: str | None
    kept_until: datetime | None
    coverage: float


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Studies that a model has encoded, of those that it or another that is kept has."""

    encoded: int
    total: int

    @property
    def share(self) -> float:
        """From 0 to 1; 1 for an empty archive."""
        return self.encoded / self.total if self.total else 1.0


@dataclass(frozen=True, kw_only=True)
class ModelProgress:
    """How a model's encoding of the archive goes: jobs that wait or run, studies that failed for good, the pace."""

    coverage: Coverage
    waiting: int
    failed: int
    per_minute: float | None

    @property
    def left_s(self) -> float | None:
        """Seconds until it has encoded all that it can; None where nothing tells."""
        left = self.coverage.total - self.coverage.encoded - self.failed
        if left <= 0:
            return 0.0
        return 60 * left / self.per_minute if self.per_minute else None


@dataclass(frozen=True, kw_only=True)
class ShadowAnswer:
    """How the first cases of the model in shadow differ from those that were shown; as the table ``shadow_answer``."""

    region: str
    serving: str
    shadow: str
    compared: int
    shared: int
    serving_agreement: float | None
    shadow_agreement: float | None
    serving_ms: float
    shadow_ms: float


@dataclass(frozen=True, kw_only=True)
class ModelEvent:
    """A line of the history of models; fields as in the table ``model_event``."""

    id: int
    at: datetime
    model_id: str
    kind: ImageKind
    change: ModelChange
    replaces: str | None
    who: str
    reason: str
    evidence: str
    coverage: float | None


@dataclass(frozen=True, kw_only=True)
class KeptCount:
    """Image tokens under one encoder."""

    studies: int
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class RetrainingRun:
    """``passed``: all gates; None while they are not judged. ``held``: a process is at it. ``asked``: the relay begins
    it, and resumes it."""

    id: int
    kind: ImageKind
    depth: str
    state: str
    plan: Mapping[str, Any]
    plan_sha256: str
    champion: str
    challenger: str | None
    passed: bool | None
    started_by: str
    reason: str | None
    reason_code: ReasonCode | None
    cancel_asked: bool
    asked: bool
    worker: str | None
    held: bool
    created_at: datetime
    changed_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class RetrainingStep:
    """``progress``: the share that is done. ``artefacts``: files of the run's folder and their SHA-256."""

    number: int
    name: str
    state: StepState
    progress: float
    note: str
    attempts: int
    artefacts: Mapping[str, str]
    started_at: datetime | None
    ended_at: datetime | None

    @property
    def took_s(self) -> float | None:
        """From its last beginning to its end."""
        if self.started_at is None or self.ended_at is None:
            return None
        return (self.ended_at - self.started_at).total_seconds()


@dataclass(frozen=True, kw_only=True)
class SnapshotStudy:
    """A study as a run saw it."""

    study_uid: str
    revision: int
    report_sha256: str
    held_out: bool


@dataclass(frozen=True, kw_only=True)
class JudgedPair:
    """What readers judged of a case at a region: how many said that it is alike, and how many not."""

    query_study_uid: str
    case_study_uid: str
    region: str
    up: int
    down: int


@dataclass(frozen=True, kw_only=True)
class StudyToTrain:
    """A study with its report. ``patient_key``, ``body`` and what follows are about a patient: never for logs."""

    study_uid: str
    revision: int
    patient_key: str  # empty: unknown
    modalities: tuple[str, ...]
    body: str
    patient_sex: str | None
    patient_age_years: float | None
    study_date: date | None
    scanner: str | None
