"""Images and reports of the archive as a de-identified folder that `radir train` reads."""

from __future__ import annotations

import json
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset

from radir_pacs import __version__, durable
from radir_pacs.callers import AuditEvent, Caller
from radir_pacs.catalogue import Catalogue, ReportedStudy
from radir_pacs.dicom.eligibility import plan_study
from radir_pacs.errors import BadInput, BlobDamaged, NotFound, Skipped
from radir_pacs.printable import TableWriter
from radir_pacs.scopes import Scope
from radir_pacs.storage.blobs import BlobStore
from radir_pacs.types import ImageKind, InstanceHeader

from .deidentify import TABLE, Deidentifier
from .report_text import without_names

NO_IMAGE, NO_FILE, REFUSED, UNREADABLE = "no image", "no file", "persons in pixels", "unreadable"
_PAGE = 200
_BROKEN = (AttributeError, EOFError, KeyError, NotImplementedError, OSError, RecursionError, TypeError, ValueError)


@dataclass
class Exported:
    """What was written. left_out: studies and images by reason. unsaid: images that do not say whether their pixels
    hold annotation."""

    studies: int = 0
    patients: set[str] = field(default_factory=set)
    images: int = 0
    unsaid: int = 0
    left_out: Counter[str] = field(default_factory=Counter)

    def as_json(self) -> dict[str, object]:
        counts = {"studies": self.studies, "patients": len(self.patients), "images": self.images}
        return {**counts, "burned_in_annotation_unsaid": self.unsaid, "left_out": dict(self.left_out)}


def export(
    catalogue: Catalogue,
    blobs: BlobStore,
    folder: Path,
    *,
    key: bytes,
    scope: Scope,
    by: Caller,
    progress: Callable[[int], None] = lambda done: None,
) -> Exported:
    """Write reported studies in ``scope`` to a new or empty folder. Each is in the audit trail before it is written.

    Raises BadInput where the folder holds anything.
    """
    if folder.exists() and any(folder.iterdir()):
        raise BadInput(f"{folder} is not empty: an export goes into a new folder")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    masks, done = Deidentifier(key), Exported()
    with (folder / "reports.csv").open("w", newline="", encoding="utf-8") as file:
        table = TableWriter(file, ("study_uid", "report"))
        for number, study in enumerate(_in_scope(catalogue, scope)):
            progress(number)
            name = study.patient_key or f"study {study.study_uid}"
            content = catalogue.instances.headers_of(study.study_uid)
            if not (chosen := _chosen(content)):
                done.left_out[NO_IMAGE] += 1
                continue
            if not catalogue.audit.note_studies(AuditEvent.EXPORTED, by, [study.study_uid]):
                continue  # deleted meanwhile
            written = _images(masks, blobs, folder, name, chosen, done)
            if not written:
                continue
            done.studies, done.images = done.studies + 1, done.images + written
            done.patients.add(masks.patient(name))
            report = without_names(study.body, [header.attributes for header, _ in content])
            table.row({"study_uid": masks.uid(study.study_uid), "report": report})
    about = resources.files(__package__).joinpath("about.md").read_text(encoding="utf-8")
    (folder / "README.md").write_text(about.format(version=__version__, table=TABLE.removeprefix("dicomfields_")))
    durable.replace(folder / "export.json", json.dumps(done.as_json(), indent=2).encode() + b"\n")
    return done


def _in_scope(catalogue: Catalogue, scope: Scope) -> Iterator[ReportedStudy]:
    """Asked again page by page: a patient may be withheld meanwhile."""
    page: list[ReportedStudy] = []
    for study in catalogue.reports.reported_studies():
        page.append(study)
        if len(page) == _PAGE:
            yield from _seen(catalogue, scope, page)
            page = []
    yield from _seen(catalogue, scope, page)


def _seen(catalogue: Catalogue, scope: Scope, page: list[ReportedStudy]) -> Iterator[ReportedStudy]:
    seen = catalogue.studies.in_scope([study.study_uid for study in page], scope) if page else frozenset()
    return (study for study in page if study.study_uid in seen)


def _chosen(content: tuple[tuple[InstanceHeader, str], ...]) -> list[tuple[InstanceHeader, str]]:
    """The images that may stand for a study: its radiographs, or its best CT series."""
    try:
        plan = plan_study(header for header, _ in content)
    except Skipped:
        return []
    wanted = {header.sop_uid for one in plan.candidates.get(ImageKind.CXR, ()) for header in one.headers}
    for best in plan.candidates.get(ImageKind.CT, ())[:1]:
        wanted |= {header.sop_uid for header in best.headers}
    return [(header, sha256) for header, sha256 in content if header.sop_uid in wanted]


def _images(
    masks: Deidentifier,
    blobs: BlobStore,
    folder: Path,
    name: str,
    chosen: list[tuple[InstanceHeader, str]],
    done: Exported,
) -> int:
    """Write them below the patient's folder; how many."""
    written = 0
    for _, sha256 in chosen:
        try:
            ds = pydicom.dcmread(blobs.intact(sha256))
            says_nothing = not ds.get("BurnedInAnnotation")
            masks.apply(ds, name)
            ds.BodyPartExamined = "CHEST"  # as was judged, maybe by a description that is gone now
            _save(ds, folder / "images" / masks.patient(name) / str(ds.StudyInstanceUID))
        except BadInput:
            done.left_out[REFUSED] += 1
        except (BlobDamaged, NotFound, FileNotFoundError):
            done.left_out[NO_FILE] += 1
        except (*_BROKEN, struct.error):
            done.left_out[UNREADABLE] += 1
        else:
            written += 1
            done.unsaid += says_nothing
    return written


def _save(ds: Dataset, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    ds.save_as(folder / f"{ds.SOPInstanceUID}.dcm", enforce_file_format=True)
