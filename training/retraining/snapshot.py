"""What a run trains on and is examined on: studies with their reports as they stand, and who is held out.

A patient is held out by a keyed hash: with the installation's key the same ones in every run, so that no challenger,
nor the champion it becomes, was ever trained on a patient that judges it. A study that was held out once stays so with
all that is of its patient by now, whatever merges and corrections made of the patient's name.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from radir_pacs.catalogue import SnapshotStudy, StudyToTrain
from radir_pacs.reports.kind import kind_of
from radir_pacs.types import ImageKind

from .plan import HELD_OUT

_PURPOSE = b"held out\0"


def is_held_out(name: str, key: bytes) -> bool:
    """``name``: of the patient, as ``patient_name`` gives it."""
    return share_of(name, key) < HELD_OUT


def share_of(name: str, key: bytes) -> float:
    """A number in [0, 1) that nobody can tell without the key."""
    digest = hmac.new(key, _PURPOSE + name.encode("utf-8", "surrogatepass"), hashlib.sha256).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def patient_name(study: StudyToTrain) -> str:
    """Who is one patient; a study without a patient id is a patient of its own."""
    return study.patient_key or f"study {study.study_uid}"


def report_hash(body: str) -> str:
    return hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest()


def of_kind(studies: Iterable[StudyToTrain], kind: ImageKind) -> Iterator[StudyToTrain]:
    return (study for study in studies if kind_of(study.modalities) is kind and study.body.strip())


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Of a snapshot; ``sha256`` names all its studies and reports."""

    studies: int
    patients: int
    held_out_studies: int
    held_out_patients: int
    sha256: str


def taken(
    studies: Sequence[StudyToTrain], key: bytes, once_held_out: Collection[str]
) -> tuple[list[SnapshotStudy], Counts]:
    """The snapshot of these studies; ``once_held_out``: those that were in an earlier run."""
    rows, digest = [], hashlib.sha256()
    stays = {patient_name(study) for study in studies if study.study_uid in once_held_out}
    people: dict[bool, set[str]] = {True: set(), False: set()}
    for study in studies:
        name = patient_name(study)
        row = SnapshotStudy(
            study_uid=study.study_uid,
            revision=study.revision,
            report_sha256=report_hash(study.body),
            held_out=name in stays or is_held_out(name, key),
        )
        rows.append(row)
        people[row.held_out].add(name)
        digest.update(f"{row.study_uid} {row.revision} {row.report_sha256} {row.held_out}\n".encode())
    return rows, Counts(
        studies=len(rows),
        patients=len(people[True]) + len(people[False]),
        held_out_studies=sum(row.held_out for row in rows),
        held_out_patients=len(people[True]),
        sha256=digest.hexdigest(),
    )
