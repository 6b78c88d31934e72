"""What a run trains on and is examined on: studies with their reports as they stand, and who is held out.

A patient is held out by a keyed hash: with the installation's key the same ones in every run, so that no challenger,
nor the champion it becomes, was ever trained on a patient that judges it. A study that was held out once stays so with
all that is of its patient by now, whatever merges and corrections made of the patient's name.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Iterable, Iterator, Mapping
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


@dataclass(frozen=True, kw_only=True)
class Taken:
    """``patients``: who is the patient of each study, by its UID, as `patient_name` gives it."""

    rows: list[SnapshotStudy]
    patients: dict[str, str]


def taken(studies: Iterable[StudyToTrain], key: bytes, once_held_out: Collection[str]) -> Taken:
    """The snapshot of these studies; ``once_held_out``: those that were in an earlier run.

    Of the reports only hashes are kept, so that an archive of any size can come by page after page.
    """
    seen, patients = [], {}
    for study in studies:
        seen.append((study.study_uid, study.revision, report_hash(study.body)))
        patients[study.study_uid] = patient_name(study)
    stays = {name for uid, name in patients.items() if uid in once_held_out}
    rows = [
        SnapshotStudy(
            study_uid=uid,
            revision=revision,
            report_sha256=sha256,
            held_out=patients[uid] in stays or is_held_out(patients[uid], key),
        )
        for uid, revision, sha256 in seen
    ]
    return Taken(rows=rows, patients=patients)


def counted(rows: Iterable[SnapshotStudy], patients: Mapping[str, str]) -> Counts:
    """Of a snapshot as it is kept; a study whose patient is not told is one of its own."""
    digest = hashlib.sha256()
    people: dict[bool, set[str]] = {True: set(), False: set()}
    studies = held_out = 0
    for row in rows:
        people[row.held_out].add(patients.get(row.study_uid, f"study {row.study_uid}"))
        digest.update(f"{row.study_uid} {row.revision} {row.report_sha256} {row.held_out}\n".encode())
        studies, held_out = studies + 1, held_out + row.held_out
    return Counts(
        studies=studies,
        patients=len(people[True]) + len(people[False]),
        held_out_studies=held_out,
        held_out_patients=len(people[True]),
        sha256=digest.hexdigest(),
    )
