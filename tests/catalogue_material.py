"""Headers and encodings for tests of the catalogue and of the packages above it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from radir_pacs.callers import Caller, Role
from radir_pacs.catalogue import Catalogue, EncodingOwner, Received, ReportStatus, ReportVersion, Stored
from radir_pacs.similar_cases import Filters
from radir_pacs.types import Encoding, ImageKind, InstanceHeader, Job, JobKind

DX = "1.2.840.10008.5.1.4.1.1.1.1"
BASIC_TEXT_SR = "1.2.840.10008.5.1.4.1.1.88.11"
MODEL = "cxr-test-0"
REGIONS = ("chest", "left_lung", "right_lung")
DIM = 8
TESTER = Caller(name="tester", role=Role.COMMAND)


def header(study: int = 1, series: int = 1, number: int = 1, **changes: Any) -> InstanceHeader:
    """The header of a radiograph; UIDs are made from the three numbers."""
    given: dict[str, Any] = {
        "study_uid": f"2.25.{study}",
        "series_uid": f"2.25.{study}.{series}",
        "sop_uid": f"2.25.{study}.{series}.{number}",
        "sop_class_uid": DX,
        "transfer_syntax_uid": "1.2.840.10008.1.2.1",
        "modality": "DX",
        "patient_key": f"|p{study}",
        "patient_id": f"p{study}",
        "instance_number": number,
        "rows_px": 64,
        "columns_px": 64,
        "attributes": {"00080060": {"vr": "CS", "Value": ["DX"]}},
    }
    return InstanceHeader(**(given | changes))


def report_header(study: int = 1, number: int = 1, **changes: Any) -> InstanceHeader:
    """The header of a Basic Text SR in a series of its own."""
    sr = {"sop_class_uid": BASIC_TEXT_SR, "modality": "SR", "rows_px": None, "columns_px": None}
    return header(study, 99, number, **(sr | changes))


def add(catalogue: Catalogue, given: InstanceHeader, content: str = "") -> Stored:
    """Store an instance; its content is its UID unless said otherwise."""
    sha256 = hashlib.sha256((content or given.sop_uid).encode()).hexdigest()
    return catalogue.instances.add(given, content_sha256=sha256, size_bytes=1000, source="TEST")


def register(catalogue: Catalogue, model_id: str = MODEL, kind: ImageKind = ImageKind.CXR) -> None:
    """A model of the test answers for its kind, whatever it has encoded."""
    serve_model(catalogue, model_id, kind, DIM, {"name": "test"})


def serve_model(catalogue: Catalogue, model_id: str, kind: ImageKind, dim: int, manifest: Mapping[str, Any]) -> None:
    """A model of the test, without a bundle, answers for its kind, whatever it has encoded."""
    catalogue.models.register(model_id, kind, dim, manifest, by="test", reason="test")
    serving = catalogue.models.serving(kind)
    if serving is None or serving.model_id != model_id:
        catalogue.models.promote(model_id, by="test", reason="test", least_coverage=0.0)


def encoding(study: int = 1, seed: int = 0, model_id: str = MODEL, regions: tuple[str, ...] = REGIONS) -> Encoding:
    """Random unit vectors, by seed."""
    vectors = np.random.default_rng(seed).normal(size=(len(regions), DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Encoding(
        study_uid=f"2.25.{study}",
        series_uid=f"2.25.{study}.1",
        sop_uid=f"2.25.{study}.1.1",
        model_id=model_id,
        regions=regions,
        vectors=vectors,
    )


def owners(catalogue: Catalogue, ids: Iterable[int]) -> dict[int, EncodingOwner]:
    """Whose encodings these are; one that is gone is missing."""
    return catalogue.questions.shown(list(ids), "", Filters(exclude_same_patient=False), caller=None)[0]


def mined_findings(catalogue: Catalogue, *study_uids: str) -> dict[str, tuple[Any, ...]]:
    """What mining read from the reports in force, one JSON value each; studies without a mined report are missing."""
    found = {
        uid: tuple(row.findings for row in catalogue.reports.of_study(uid) if row.findings is not None)
        for uid in study_uids
    }
    return {uid: bodies for uid, bodies in found.items() if bodies}


def encoded(catalogue: Catalogue, study: int = 1, seed: int | None = None, **changes: Any) -> int:
    """A study with one radiograph and its encoding; returns the encoding's id."""
    add(catalogue, header(study, **changes))
    catalogue.studies.complete_now(f"2.25.{study}")
    catalogue.encodings.save(encoding(study, study if seed is None else seed), revision=1)
    ids = catalogue.encodings.changes(MODEL, "chest").ids
    whose = owners(catalogue, ids)
    return next(i for i in ids.tolist() if whose[i].study.study_uid == f"2.25.{study}")


def claimed(catalogue: Catalogue, kind: JobKind = JobKind.ENCODE, key: str = "2.25.1") -> Job:
    """The open job of a key, leased by a worker of the test."""
    job = catalogue.jobs.claim(catalogue.jobs.enqueue(kind, key), "test")
    assert job is not None
    return job


def receive(catalogue: Catalogue, study_uid: str, body: str, **said: Any) -> Received:
    """A version of the one report that a source gives for a study, as CSV does."""
    given: dict[str, Any] = {"source": "csv", "document": "", "status": ReportStatus.FINAL, "study_uid": study_uid}
    return catalogue.report_versions.receive(ReportVersion(**(given | {"body": body} | said)))
