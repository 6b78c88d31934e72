"""Images and reports of the archive as a de-identified folder that `radir train` reads."""

from __future__ import annotations

import contextlib
import json
import os
import struct
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import resources
from io import BytesIO
from pathlib import Path

import pydicom
from pydicom.errors import InvalidDicomError

from radir_pacs import __version__, durable
from radir_pacs.callers import AuditEvent, Caller
from radir_pacs.catalogue import Catalogue, HeldBy, ReportedStudy
from radir_pacs.dicom.body_parts import BodyPart, body_part_of
from radir_pacs.dicom.eligibility import plan_study
from radir_pacs.dicom.rules import Rules
from radir_pacs.errors import BadInput, BlobDamaged, NotFound, Skipped
from radir_pacs.printable import TableWriter
from radir_pacs.scopes import Scope
from radir_pacs.storage.blobs import BlobStore
from radir_pacs.types import ImageKind, InstanceHeader

from .deidentify import TABLE, Deidentifier
from .report_text import without_names

NO_IMAGE, NO_FILE, REFUSED, UNREADABLE = "no image", "no file", "persons in pixels", "unreadable"
PART_UNSAID = "not said to be of the chest"
_PAGE = 200
_PAGE_S = 6 * 3600.0  # longer than a page of studies takes
_BROKEN = (
    *(AttributeError, EOFError, InvalidDicomError, KeyError, NotImplementedError, OSError, RecursionError),
    *(struct.error, TypeError, ValueError),
)
_OTHERS = 0o077


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
    rules: Rules,
    scope: Scope,
    by: Caller,
    progress: Callable[[int], None] = lambda done: None,
) -> Exported:
    """Write reported studies in ``scope`` to a new or empty folder. Each is in the audit trail before it is written.
    Where nothing fits, nothing is left.

    rules: the site's, of what stands for a study. Raises BadInput where the folder holds anything or is somebody
    else's, OSError where it cannot be written to, as on a full disk: ``export.json`` is missing then.
    """
    if folder.exists() and any(folder.iterdir()):
        raise BadInput(f"{folder} is not empty: an export goes into a new folder")
    is_new = not folder.exists()
    with _owner_only():
        folder.mkdir(parents=True, exist_ok=True)
        try:
            folder.chmod(0o700)  # it may have been there, open to others
        except PermissionError:
            raise BadInput(f"{folder} belongs to somebody else: an export goes into a new folder") from None
        masks, done = Deidentifier(key), Exported()
        with (folder / "reports.csv").open("w", newline="", encoding="utf-8") as file:
            table = TableWriter(file, ("study_uid", "report"))
            mark = uuid.uuid4().hex
            try:
                for number, study in enumerate(_in_scope(catalogue, scope, mark)):
                    progress(number)
                    _study(catalogue, blobs, folder, masks, rules, by, study, table, done)
            finally:
                catalogue.retention.release(HeldBy.EXPORT, by=mark)
        if not done.studies:
            (folder / "reports.csv").unlink()
            if is_new:
                folder.rmdir()
            return done
        about = resources.files(__package__).joinpath("about.md").read_text(encoding="utf-8")
        (folder / "README.md").write_text(about.format(version=__version__, table=TABLE.removeprefix("dicomfields_")))
        durable.replace(folder / "export.json", json.dumps(done.as_json(), indent=2).encode() + b"\n")
    return done


@contextlib.contextmanager
def _owner_only() -> Iterator[None]:
    """What this process makes meanwhile is for its owner only."""
    before = os.umask(_OTHERS)
    try:
        yield
    finally:
        os.umask(before)


def _study(
    catalogue: Catalogue,
    blobs: BlobStore,
    folder: Path,
    masks: Deidentifier,
    rules: Rules,
    by: Caller,
    study: ReportedStudy,
    table: TableWriter,
    done: Exported,
) -> None:
    name = study.patient_key or f"study {study.study_uid}"
    content = catalogue.instances.headers_of(study.study_uid)
    if not (chosen := _chosen(content, rules, done)):
        done.left_out[NO_IMAGE] += 1
        return
    if not catalogue.audit.note_studies(AuditEvent.EXPORTED, by, [study.study_uid]):
        return  # deleted meanwhile
    written = _images(masks, blobs, folder, name, chosen, done)
    if not written:
        return
    done.studies, done.images = done.studies + 1, done.images + written
    done.patients.add(masks.patient(name))
    report = _report(study, [header for header, _ in content])
    table.row({"study_uid": masks.uid(study.study_uid), "report": report})


def _report(study: ReportedStudy, headers: list[InstanceHeader]) -> str:
    """Names, ids and dates of the catalogue go too: messages (ADT A08, A40) may have changed them since."""
    names, ids, dates = set[str](), set[str](), set[str]()
    for header in headers:
        names |= {name for name in (header.patient_name, header.referring_physician) if name}
        keys = (study.patient_key, header.patient_key, *header.patient_keys)
        ids |= {key.rpartition("\\")[2] for key in keys}
        ids |= {one for one in (header.accession_number, header.study_id) if one}
        dates |= {f"{day:%Y%m%d}" for day in (header.patient_birth_date, header.study_date) if day}
    return without_names(study.body, [header.attributes for header in headers], names=names, ids=ids, dates=dates)


def _in_scope(catalogue: Catalogue, scope: Scope, mark: str) -> Iterator[ReportedStudy]:
    """Asked again page by page: a patient may be withheld meanwhile. The files of a page stay until it is done."""
    page: list[ReportedStudy] = []
    for study in catalogue.reports.reported_studies():
        page.append(study)
        if len(page) == _PAGE:
            yield from _seen(catalogue, scope, page, mark)
            page = []
    yield from _seen(catalogue, scope, page, mark)


def _seen(catalogue: Catalogue, scope: Scope, page: list[ReportedStudy], mark: str) -> Iterator[ReportedStudy]:
    seen = catalogue.studies.in_scope([study.study_uid for study in page], scope) if page else frozenset()
    catalogue.retention.hold(sorted(seen), HeldBy.EXPORT, by=mark, for_s=_PAGE_S)
    return (study for study in page if study.study_uid in seen)


def _chosen(
    content: tuple[tuple[InstanceHeader, str], ...], rules: Rules, done: Exported
) -> list[tuple[InstanceHeader, str]]:
    """The images that may stand for a study, as far as they are of the chest: radiographs, or the best CT series."""
    try:
        plan = plan_study((header for header, _ in content), rules)
    except Skipped:
        return []
    fit = [header for one in plan.candidates.get(ImageKind.CXR, ()) for header in one.headers]
    for best in plan.candidates.get(ImageKind.CT, ())[:1]:
        fit += best.headers
    wanted = {header.sop_uid for header in fit if body_part_of(header) is BodyPart.CHEST}
    if unsaid := len(fit) - len(wanted):
        done.left_out[PART_UNSAID] += unsaid
    return [(header, sha256) for header, sha256 in content if header.sop_uid in wanted]


def _images(
    masks: Deidentifier,
    blobs: BlobStore,
    folder: Path,
    name: str,
    chosen: list[tuple[InstanceHeader, str]],
    done: Exported,
) -> int:
    """Write them below the patient's folder; how many. Raises OSError where that cannot be written to."""
    written = 0
    for _, sha256 in chosen:
        try:
            path = blobs.intact(sha256)
        except (BlobDamaged, NotFound, FileNotFoundError):
            done.left_out[NO_FILE] += 1
            continue
        try:
            made, file, says_nothing = _masked(masks, path, name)
        except BadInput:
            done.left_out[REFUSED] += 1
        except FileNotFoundError:
            done.left_out[NO_FILE] += 1
        except _BROKEN:
            done.left_out[UNREADABLE] += 1
        else:
            target = folder / "images" / masks.patient(name) / made
            target.parent.mkdir(parents=True, exist_ok=True)
            durable.replace(target, file)
            written += 1
            done.unsaid += says_nothing
    return written


def _masked(masks: Deidentifier, path: Path, name: str) -> tuple[Path, bytes, bool]:
    """(path below the patient's folder, file, whether it does not say that its pixels hold annotation)"""
    ds = pydicom.dcmread(path)
    says_nothing = not ds.get("BurnedInAnnotation")
    masks.apply(ds, name)
    ds.BodyPartExamined = "CHEST"  # as was judged, maybe by a description that is gone now
    file = BytesIO()
    ds.save_as(file, enforce_file_format=True)
    return Path(str(ds.StudyInstanceUID)) / f"{ds.SOPInstanceUID}.dcm", file.getvalue(), says_nothing
