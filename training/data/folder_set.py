"""Any folder of images and reports as studies in memory, to train on and to judge by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from radir_pacs.encode import NetworkConfig, Preprocessing
from radir_pacs.errors import BadInput
from radir_pacs.printable import counted
from radir_pacs.types import ImageKind

from .dicom_studies import dicom_studies
from .found import Found, FoundStudy
from .people import patient_codes
from .picture_table import LOOKED_FOR, find_picture_table, picture_studies
from .prepared import prepare
from .retrieval_images import is_retrieval_set, retrieval_studies
from .statements import Said, mined
from .studies import StudySet

_REASONS = 5  # named in a summary


def folder_set(
    config: NetworkConfig,
    kind: ImageKind,
    folder: Path,
    *,
    cache: Path,
    images: Path | None = None,
    split: str = "train",
    processes: int = 1,
    total: Callable[[int], None] = lambda studies: None,
    progress: Callable[[int], None] = lambda done: None,
    tell: Callable[[str], None] = lambda line: None,
) -> StudySet:
    """The studies of ``folder``, prepared for ``config``; what was prepared before comes from ``cache``.

    The folder holds DICOM files anywhere below it, with reports as a table (``reports.csv``) or as structured reports;
    or PNG or JPEG pictures with a table; or it is a data set in the MIMIC-IR layout, of which ``split`` is read and
    whose images lie below ``images``. Rows stand in a fixed order; images of one study share its report. ``true`` is
    known where a phantom's ``truth.json`` tells of every study. What cannot be read is left out: ``tell`` gets one
    line of summary. ``total`` is called first with the number of studies, ``progress`` then with how many are ready.

    Raises BadInput when nothing is left, OSError when the cache cannot be written.
    """
    if not folder.is_dir():
        raise BadInput(f"there is no folder {folder}")
    found = _found(folder, kind, images, split, processes)
    prepared = prepare(
        [study.content for study in found.studies],
        Preprocessing.of(config, kind),
        images or folder,
        cache,
        processes=processes,
        total=total,
        progress=progress,
    )
    left_out = found.left_out + prepared.left_out
    if not len(prepared.images):
        reasons = f"; left out: {_counted(left_out)}" if left_out else ""
        raise BadInput(f"{folder} has no {kind} image to read: looked for {found.looked_for}{reasons}")
    rows = [found.studies[number] for number in prepared.study]
    texts = {study.report for study in rows}
    by_text = dict(zip(texts, mined(list(texts), kind), strict=True))
    names = [study.patient for study in rows]
    patients = patient_codes(names, prepared.images)
    true = [study.true for study in rows if study.true is not None]
    data = StudySet(
        kind=kind,
        images=prepared.images,
        views=prepared.views,
        patients=patients,
        reports=tuple(study.report for study in rows),
        said=tuple(_said(study, by_text) for study in rows),
        true=tuple(true) if len(true) == len(rows) else None,
        names=tuple(names),
    )
    twins = len(set(names)) - len(np.unique(patients))
    tell(_summary(data, len(np.unique(prepared.study)), twins, left_out))
    return data


def _found(folder: Path, kind: ImageKind, images: Path | None, split: str, processes: int) -> Found:
    if is_retrieval_set(folder):
        if images is None or not images.is_dir():
            raise BadInput("a data set only lists its images: name the folder they are in by --images")
        return retrieval_studies(folder, kind, images, split, processes=processes)
    if images is not None:
        raise BadInput(f"{folder} is no data set in the MIMIC-IR layout: --images is for such a data set only")
    table = find_picture_table(folder)
    if table is not None:
        return picture_studies(table, kind)
    found = dicom_studies(folder, kind, processes=processes)
    if kind is ImageKind.CXR:
        found.looked_for += f", and for {LOOKED_FOR}"
    return found


def _said(study: FoundStudy, by_text: dict[str, Said]) -> Said:
    return by_text[study.report] or study.said


def _summary(data: StudySet, studies: int, twins: int, left_out: Counter[str]) -> str:
    spoken = sum(bool(said) for said in data.said)
    people = len(np.unique(data.patients))
    line = (
        f"{counted(len(data), 'image')} of {counted(studies, 'study', 'studies')} of {counted(people, 'patient')},"
        f" {spoken} with statements"
    )
    if twins:
        line += f"; patients counted as the same because they share an image: {twins}"
    return f"{line}; left out: {_counted(left_out)}" if left_out else line


def _counted(reasons: Counter[str]) -> str:
    named = [f"{count} × {reason}" for reason, count in reasons.most_common(_REASONS)]
    rest = reasons.total() - sum(count for _, count in reasons.most_common(_REASONS))
    return ", ".join([*named, f"{rest} for other reasons"] if rest else named)
