"""The synthetic hospital on disk: patients, visits, DICOM files, reports and the truth about them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.uid import CTImageStorage, DigitalXRayImageStorageForPresentation

from radir_pacs.errors import BadInput
from radir_pacs.printable import TableWriter
from radir_pacs.types import ImageKind

from .boxes import frontal_boxes
from .canvas import Size
from .course import Course, Visit, draw_course
from .dicom_base import Identity
from .dicom_images import write_ct, write_radiographs
from .dicom_report import write_report_sr
from .findings import PhantomFinding
from .house import FIRST, HOUSES
from .images import take_images
from .patient import Chest
from .wording import write_report

ORDER_FILE = "order.json"
REPORT_COLUMNS = ("study_uid", "patient_id", "kind", "report")


@dataclass(frozen=True, kw_only=True)
class HospitalRequest:
    """The hospital to build. The same request gives the same bytes."""

    out: Path
    patients: int
    seed: int
    size: Size
    kinds: frozenset[ImageKind]
    house: str = FIRST

    def as_json(self) -> dict[str, Any]:
        """Everything except the folder."""
        kinds = sorted(kind.value for kind in self.kinds)
        told = {"patients": self.patients, "seed": self.seed, "size": self.size.name, "kinds": kinds}
        return told if self.house == FIRST else {**told, "house": self.house}


def build(order: HospitalRequest, jobs: int = 1) -> Iterator[list[dict[str, Any]]]:
    """Write the hospital, yielding the truth of each patient's studies as they are done; truth.json comes last.

    ``jobs`` processes share the patients; the files do not depend on their number. Raises BadInput where the folder
    holds anything else than this request, unfinished or finished: two hospitals in one folder would mix.
    """
    _claim(order)
    everything: list[dict[str, Any]] = []
    if jobs == 1:
        done: Iterator[list[dict[str, Any]]] = map(partial(build_patient, order), range(order.patients))
        yield from _collect(done, everything)
    else:
        with ProcessPoolExecutor(jobs) as pool:
            yield from _collect(pool.map(partial(build_patient, order), range(order.patients)), everything)
    with (order.out / "reports.csv").open("w", encoding="utf-8", newline="") as file:
        table = TableWriter(file, REPORT_COLUMNS)
        for row in everything:
            table.row(row)
    truth = {"seed": order.seed, "size": order.size.name, "synthetic": True, "studies": everything}
    (order.out / "truth.json").write_text(json.dumps(truth, indent=1) + "\n", encoding="utf-8")


def _claim(order: HospitalRequest) -> None:
    """Write the request into its folder, so that an interrupted build can resume and another one is refused."""
    order.out.mkdir(parents=True, exist_ok=True)
    path, wanted = order.out / ORDER_FILE, json.dumps(order.as_json()) + "\n"
    if path.is_file():
        if path.read_text(encoding="utf-8", errors="replace") != wanted:
            raise BadInput(f"{order.out} holds a hospital of another request (see {ORDER_FILE}): choose another folder")
    elif any(order.out.iterdir()):
        raise BadInput(f"{order.out} holds other files: choose an empty folder, or a new one")
    else:
        path.write_text(wanted, encoding="utf-8")


def _collect(done: Iterator[list[dict[str, Any]]], everything: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    for studies in done:
        everything.extend(studies)
        yield studies


def build_patient(order: HospitalRequest, index: int) -> list[dict[str, Any]]:
    """All visits of one patient; returns the truth of each study."""
    course = draw_course(order.seed, index, order.kinds, HOUSES[order.house].mix)
    truths, before = [], None
    for visit in course.visits:
        truths.append(_build_visit(order, course, visit, before))
        before = visit
    return truths


def _build_visit(order: HospitalRequest, course: Course, visit: Visit, before: Visit | None) -> dict[str, Any]:
    house = HOUSES[order.house]
    identity = Identity(seed=order.seed, course=course, visit=visit, manufacturer=house.manufacturer)
    folder = order.out / f"patient_{course.index:05d}" / f"visit_{visit.number}_{visit.kind.value.lower()}"
    folder.mkdir(parents=True, exist_ok=True)
    chest = Chest.of(course.patient, visit.findings)
    flat = visit.kind is ImageKind.CXR
    rng = np.random.default_rng([order.seed, course.index, 4, visit.number])
    images = house.seen(take_images(chest, order.size, rng, radiographs=flat, ct=not flat), rng)
    files = write_radiographs(identity, images, folder) if flat else write_ct(identity, images, folder)
    report = write_report(
        course.patient,
        visit.findings,
        before.findings if before else None,
        visit.kind,
        np.random.default_rng([order.seed, course.index, 5, visit.number]),
        prior_on=before.on if before else None,
        house=order.house,
    )
    files.append(write_report_sr(identity, report, _image_uids(identity, len(files)), folder))
    return {
        "study_uid": identity.study_uid,
        "patient_id": identity.patient_id,
        "visit": visit.number,
        "date": visit.on.isoformat(),
        "kind": visit.kind.value,
        "sex": course.patient.sex,
        "report": report.text,
        "files": [path.relative_to(order.out).as_posix() for path in files],
        "findings": [finding_truth(finding) for finding in visit.findings],
        "boxes": {key: list(box) for key, box in frontal_boxes(chest, order.size).items()} if flat else {},
    }


def _image_uids(identity: Identity, count: int) -> list[tuple[str, str, str]]:
    """(series, SOP class, SOP instance) UIDs of the images written before the report."""
    if identity.visit.kind is ImageKind.CT:
        series = identity.uid("series", "ct")
        return [(series, CTImageStorage, identity.uid("instance", "ct", str(n))) for n in range(1, count + 1)]
    dx = DigitalXRayImageStorageForPresentation
    return [(identity.uid("series", n), dx, identity.uid("instance", n)) for n in ("frontal", "lateral")]


def finding_truth(finding: PhantomFinding) -> dict[str, Any]:
    return {
        "concept": finding.concept,
        "region": finding.region,
        "laterality": finding.laterality,
        "severity": finding.severity,
        "size_mm": finding.size_mm,
    }
