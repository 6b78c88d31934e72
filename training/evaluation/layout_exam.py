"""A data set in the MIMIC-IR / CTRATE-IR layout as an exam: relevance by its own matrices, vectors from a file."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from radir_pacs import anatomy
from radir_pacs.anatomy import ROOT
from radir_pacs.errors import BadInput, UnknownRegion
from radir_pacs.reports import similarity_items
from radir_pacs.types import ImageKind

from ..data.retrieval_set import PATH_COLUMN, RetrievalSet
from ..data.statements import UNDEFINED, Mask, Said, mined
from .exam import Exam
from .measures import I64, U8
from .relevance_source import MINED

# the patient in a path: MIMIC's files/p10/p10000032/s…, CT-RATE's valid_1_a_1.nii.gz
_PATIENT = re.compile(r"(?:^|/)(p\d{8})/|(?:^|/)(\w+?_\d+)_[a-z]+_\d+\.nii(?:\.gz)?$")


class LayoutExam(NamedTuple):
    """``paths`` name the rows; ``lists``: the rows of each region's list, in its order. ``left_out``: regions without
    a whole matrix."""

    exam: Exam
    paths: tuple[str, ...]
    lists: Mapping[str, I64]
    left_out: tuple[str, ...]


class TableJudge:
    """Judges by the data set's matrices; abnormality comes from the findings, or from the reports' text."""

    name = MINED

    def __init__(self, source: RetrievalSet, names: Mapping[str, str], lists: Mapping[str, I64], said: Sequence[Said]):
        self._source, self._names, self._lists, self._said = source, names, lists, said

    def pairs(self, key: str) -> U8:
        n, rows = len(self._said), self._lists[key]
        table = np.full((n, n), UNDEFINED, np.uint8)
        table[np.ix_(rows, rows)] = self._source.table(None if key == ROOT else self._names[key])
        return table

    def abnormal(self, key: str) -> Mask | None:
        if not any(self._said):
            return None
        return np.array([any(item.present for item in said.get(key, ())) for said in self._said], np.bool_)


def layout_exam(source: RetrievalSet, kind: ImageKind) -> LayoutExam:
    """Raises BadInput where lists and matrices do not match, or whole reports have no matrix."""
    captions = _captions(source)
    by_name = {name: source.paths(name) for name in source.names()}
    paths = tuple(dict.fromkeys([*captions, *(path for listed in by_name.values() for path in listed)]))
    row = {path: number for number, path in enumerate(paths)}
    lists = {ROOT: np.array([row[path] for path in captions], np.int64)}
    names, left_out = {}, []
    for name, listed in by_name.items():
        if (source.folder / f"{source.split}_ratescore" / f"{name}.npy").is_file():
            key = _key(name)
            if key != ROOT:
                names[key], lists[key] = name, np.array([row[path] for path in listed], np.int64)
        else:
            left_out.append(name)
    source.table()  # refuses a set without a matrix of whole reports before anything is measured
    texts = tuple(captions.get(path, "") for path in paths)
    said = _said(source, paths, texts, kind)
    exam = Exam(
        kind=kind,
        patients=_patients(paths),
        reports=texts,
        sources=(TableJudge(source, names, lists, said),),
        keys=(ROOT, *names),
    )
    return LayoutExam(exam, paths, lists, tuple(left_out))


def _captions(source: RetrievalSet) -> dict[str, str]:
    """The text of every image by its path, in the order of the list; the first column that is not the path."""
    file = source.folder / f"{source.split}_caption.csv"
    paths = source.paths()
    with file.open(encoding="utf-8-sig", newline="") as lines:
        rows = list(csv.DictReader(lines))
    column = next((name for name in rows[0] if name and name != PATH_COLUMN), None) if rows else None
    if len(set(paths)) != len(paths):
        raise BadInput(f"{file.name} names an image twice")
    return {path: (row.get(column) or "") if column else "" for path, row in zip(paths, rows, strict=True)}


def _said(source: RetrievalSet, paths: Sequence[str], texts: Sequence[str], kind: ImageKind) -> tuple[Said, ...]:
    findings = source.findings()
    if findings:
        return tuple(similarity_items(findings.get(path, ())) for path in paths)
    return mined(texts, kind)


def _patients(paths: Sequence[str]) -> I64:
    """A number per patient; a path without a patient counts as a separate one."""
    found = [_PATIENT.search(path) for path in paths]
    names = [match[1] or match[2] if match else path for match, path in zip(found, paths, strict=True)]
    return np.unique(np.array(names), return_inverse=True)[1].astype(np.int64)


def _key(name: str) -> str:
    try:
        return anatomy.look_up(name).key
    except UnknownRegion:
        return name
