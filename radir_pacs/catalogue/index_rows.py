"""What questions and the index read from the catalogue: vectors, attributes of cases, and published builds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy.typing as npt

from radir_pacs.types import F32, I64, CatalogueStudy, Encoding, ImageKind, PartitionKey, SliceStack


@dataclass(frozen=True, kw_only=True)
class EncodingOwner:
    """The study whose encoding an index label stands for."""

    study: CatalogueStudy
    series_uid: str
    sop_uid: str
    slices: SliceStack | None = None


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What a partition has to apply: first add, then drop what is gone; both may repeat earlier changes.

    ids: int64 [n], ascending; vectors: float32 [n, dim], row i for ids[i]; gone: int64, ascending.
    xid: where the next read continues. It is a transaction snapshot's xmin, so rows that commit late are never missed.
    horizon: a read that continued from there, or from before, may lack what was pruned, and is worth nothing.
    """

    ids: I64
    vectors: F32
    gone: I64
    xid: str
    horizon: str = "0"


@dataclass(frozen=True, kw_only=True)
class CaseChanges:
    """What the table of a model's cases has to take in: first add or renew, then drop what is gone; may repeat.

    rows: structured [n] with the fields of `CASE_FIELDS`; gone: int64, ascending; xid and horizon as in `Changes`.
    """

    rows: npt.NDArray[Any]
    gone: I64
    xid: str
    horizon: str = "0"


CASE_FIELDS: Mapping[str, str] = {
    "id": "i8",
    "day": "i4",  # study date, days since 1970; NO_DAY where there is none
    "age": "f4",  # patient's age in years; NaN where it is unknown
    "has_report": "?",
    "withheld": "i2",  # radir_pacs.scopes.Withheld
    "sex": "i8",  # this and the following: a 64-bit hash of the text, 0 where there is none
    "modalities": "i8",  # of all of the study, joined by a backslash
    "body_part": "i8",
    "scanner": "i8",  # Manufacturer and Manufacturer's Model Name, joined by a backslash
    "sites": "i8",  # labels of all that sent to the study, joined by a backslash
    "departments": "i8",  # those that its instances name, joined by a backslash
}
NO_DAY = -(2**31)


@dataclass(frozen=True, kw_only=True)
class Answering:
    """A study's encoding under a model that answers now; ``label`` is its id, under which the index holds it."""

    kind: ImageKind
    label: int
    encoding: Encoding
    intended_use: str | None  # as the model's maker states it
    coverage: float = 1.0  # share of the studies that the model has encoded


@dataclass(frozen=True, kw_only=True)
class Question:
    """What the catalogue knows of a study that is asked about, and what changed since the readings that it was told.

    excluded: ascending int64 labels that are never answered. cases: news by model. partitions: news by (model, region).
    published: the names of the builds that answer now, of the partitions that were named. newest: at least the highest
    label. said: what mining wrote of the study's reports, one JSON value for each, oldest first.
    """

    study: CatalogueStudy
    answering: tuple[Answering, ...]
    excluded: I64
    newest: int
    cases: Mapping[str, CaseChanges]
    partitions: Mapping[PartitionKey, Changes]
    published: Mapping[PartitionKey, str]
    said: tuple[Any, ...] = ()


@dataclass(frozen=True, kw_only=True)
class GenerationRow:
    """The published build of a partition; ``changes(…, as_of)`` returns what it does not hold."""

    model_id: str
    region: str
    name: str
    count: int
    as_of: str
    manifest: Mapping[str, Any]
    published_at: datetime
    engine: str = "local"


@dataclass(frozen=True, kw_only=True)
class ServedPartition:
    """A partition of a model that is kept: ``published`` names the generation that answers, ``count`` its live vectors.

    ``segments`` are as in the generation's manifest: name, count, deleted.
    """

    model_id: str
    region: str
    published: str | None
    count: int
    as_of: str
    segments: Sequence[Mapping[str, Any]] | None
    engine: str = "local"


@dataclass(frozen=True, kw_only=True)
class Moving:
    """A partition that has yet to move: the engine that answers, its vectors, and how many the new one has so far."""

    model_id: str
    region: str
    engine: str
    count: int
    filled: int


@dataclass(frozen=True, kw_only=True)
class MergeBound:
    """What a merge takes in: encodings with ``since <= xid < until``, without ``gone`` (int64, ascending).

    oldest_gone: when the first of those went.
    """

    since: str
    until: str
    gone: I64
    oldest_gone: datetime | None
