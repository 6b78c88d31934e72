"""Studies from the DICOM files below a folder, with their reports, read as the service reads them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from radir_pacs.dicom.eligibility import Plan, assemble, plan_study
from radir_pacs.dicom.header import read_header
from radir_pacs.dicom.loop_guard import is_own_header
from radir_pacs.dicom.pixels import PixelDecoder
from radir_pacs.errors import DicomRefused, Quarantined, RadirError, Skipped
from radir_pacs.reasons import ReasonCode
from radir_pacs.reports.kind import kind_of
from radir_pacs.reports.sr_text import sr_text
from radir_pacs.types import ImageKind, View, Volume

from .found import Found, FoundStudy, plain
from .phantom_truth import read_truth
from .report_table import ReportTable, read_report_table

_NO_DICOM = {".csv", ".gz", ".html", ".jpeg", ".jpg", ".json", ".jsonl", ".md", ".nii", ".npy", ".npz", ".pdf", ".png"}
_NO_DICOM |= {".toml", ".txt", ".xml", ".yaml", ".zip"}
CHUNK = 500  # headers that a process reads per task


@dataclass(frozen=True, kw_only=True)
class _Header:
    """What we need of one file. ``text``: that of a structured report."""

    path: Path
    study_uid: str
    patient: str
    accession: str
    kind: ImageKind | None
    text: str


@dataclass(frozen=True, kw_only=True)
class DicomContent:
    """The instances of one study with images of one kind."""

    files: tuple[Path, ...]
    reading: str = "dicom"

    def volumes(self, kind: ImageKind, decoder: PixelDecoder) -> list[Volume]:
        """The best CT series, or the best radiograph of each view. Raises Skipped, Quarantined, DicomRefused."""
        headers = {header.sop_uid: (header, path) for path in self.files for header in [read_header(path)]}
        plan = plan_study(header for header, _ in headers.values())
        paths = {uid: path for uid, (_, path) in headers.items()}
        candidates = plan.candidates.get(kind, ())
        lateral = tuple(candidate for candidate in candidates if candidate.view is View.LATERAL)
        others = tuple(candidate for candidate in candidates if candidate.view is not View.LATERAL)
        volumes: list[Volume] = []
        failures: list[RadirError] = []
        for ranked in filter(None, (others, lateral)):
            try:
                volumes += assemble(Plan(study_uid=plan.study_uid, candidates={kind: ranked}), paths, decoder)
            except (DicomRefused, Quarantined, Skipped) as error:
                failures.append(error)
        if not volumes:
            raise (failures[0] if failures else Skipped("no image of the wanted kind", reason_code=ReasonCode.NO_IMAGE))
        return volumes


def dicom_studies(folder: Path, kind: ImageKind, *, processes: int = 1) -> Found:
    """Studies with images of ``kind``, in the order of their UIDs. Reports come from a table beside the files,
    else from structured reports among them; the truth from a phantom's ``truth.json``."""
    left_out: Counter[str] = Counter()
    images: dict[str, list[_Header]] = {}
    texts: dict[str, list[str]] = {}
    for header in _headers(files_below(folder), processes, left_out):
        if header.kind is kind:
            images.setdefault(header.study_uid, []).append(header)
        elif header.text:
            texts.setdefault(header.study_uid, []).append(header.text)
    table, truth = read_report_table(folder, left_out), read_truth(folder, kind)
    accessions = {header.accession for headers in images.values() for header in headers}
    reports = len(table.by_study) + len(table.by_accession)
    if reports and not (table.by_study.keys() & images.keys() or table.by_accession.keys() & accessions):
        left_out["a report of the table, which has none for the studies here"] += reports
    studies = [
        FoundStudy(
            study=study_uid,
            patient=next((header.patient for header in headers if header.patient), study_uid),
            content=DicomContent(files=tuple(sorted(header.path for header in headers))),
            report=_report(study_uid, headers, table, texts),
            true=truth.get(study_uid),
        )
        for study_uid, headers in sorted(images.items())
    ]
    wanted = "CR or DX images" if kind is ImageKind.CXR else "CT series"
    return Found(studies=studies, left_out=left_out, looked_for=f"DICOM files of {wanted}")


def files_below(folder: Path) -> list[Path]:
    """Files that may be DICOM, sorted; hidden ones, indices (PS3.10 8.6) and other well-known formats are not."""
    found = []
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            Path(root, name)
            for name in names
            if not name.startswith(".") and name != "DICOMDIR" and Path(name).suffix.lower() not in _NO_DICOM
        ]
    return sorted(found)


def _report(study_uid: str, headers: Sequence[_Header], table: ReportTable, texts: dict[str, list[str]]) -> str:
    accession = next((header.accession for header in headers if header.accession), "")
    written = table.by_study.get(study_uid) or table.by_accession.get(accession)
    return written or "\n\n".join(dict.fromkeys(texts.get(study_uid, ())))


def _headers(paths: Sequence[Path], processes: int, left_out: Counter[str]) -> Iterator[_Header]:
    chunks = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
    with ExitStack() as stack:
        answers: Iterable[tuple[list[_Header], Counter[str]]] = map(_read_chunk, chunks)
        if processes > 1 and len(chunks) > 1:
            pool = stack.enter_context(ProcessPoolExecutor(processes, mp_context=get_context("spawn")))
            answers = pool.map(_read_chunk, chunks)
        for headers, reasons in answers:
            left_out.update(reasons)
            yield from headers


def _read_chunk(paths: Sequence[Path]) -> tuple[list[_Header], Counter[str]]:
    headers: list[_Header] = []
    reasons: Counter[str] = Counter()
    for path in paths:
        try:
            header = read_header(path)
        except DicomRefused as error:
            reasons[plain(error)] += 1
            continue
        except OSError:
            reasons["a file cannot be read"] += 1
            continue
        report = header.modality == "SR" and not is_own_header(header)
        headers.append(
            _Header(
                path=path,
                study_uid=header.study_uid,
                patient=header.patient_key,
                accession=header.accession_number or "",
                kind=kind_of([header.modality or ""]),
                text=sr_text(header.attributes) if report else "",
            )
        )
    return headers, reasons
