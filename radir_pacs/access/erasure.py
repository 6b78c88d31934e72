"""Erasing a study or a patient, and looking in every place where something of it could be left.

Out of reach, and said by the command: backups, data sets that were built into other folders, what was sent to other
systems, and what a model learned.
"""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from radir_pacs.callers import Caller
from radir_pacs.catalogue import Catalogue
from radir_pacs.catalogue.erasures import Erasure
from radir_pacs.config import Settings
from radir_pacs.errors import Conflict, NotFound
from radir_pacs.index.manifest import LABELS
from radir_pacs.storage.blobs import BlobStore
from radir_pacs.types import I64

_SOON = {
    "files": "the relay removes files that are younger than five minutes when they are older",
    "index": "no answer shows them; a job that is due writes the segment anew, and the old one goes an hour later",
    "work": "a retraining is at work there, and was asked to stop: the folder goes with its end",
}


@dataclass(frozen=True, kw_only=True)
class Place:
    """Somewhere that was looked, and how much was found. ``when``: what removes it, where it takes a while."""

    name: str
    found: int
    when: str = ""


def erase(subject: str, catalogue: Catalogue, settings: Settings, *, by: Caller) -> tuple[Place, ...]:
    """Erase, then look everywhere. Raises NotFound when nothing of such a study or patient is here."""
    erased = catalogue.erasures.erase(subject, by=by)
    blobs = BlobStore(settings.home / "blobs")
    for sha256 in catalogue.erasures.unused(erased.blobs):
        blobs.delete(sha256)
    for run in erased.runs:
        with contextlib.suppress(Conflict, NotFound):  # it has ended
            catalogue.retraining.ask_to_cancel(run)
        if not catalogue.retraining.get(run).held:
            shutil.rmtree(_work(settings, run), ignore_errors=True)
    return look(subject, catalogue, settings)


def look(subject: str, catalogue: Catalogue, settings: Settings) -> tuple[Place, ...]:
    """Where something of the subject, or of what was erased under its name, could be, and how much is there."""
    erased = catalogue.erasures.of(subject)
    tables = catalogue.erasures.left(subject, erased.study_uids)
    blobs = BlobStore(settings.home / "blobs")
    files = sum(blobs.path(sha256).exists() for sha256 in catalogue.erasures.unused(erased.blobs))
    vectors = _vectors_in_files(settings.home / "index", erased)
    work = sum(_work(settings, run).exists() for run in erased.runs)
    return (
        *(Place(name=f"table: {name}", found=found) for name, found in tables.items()),
        Place(name="files as received", found=files, when=_SOON["files"] if files else ""),
        Place(name="index segments", found=vectors, when=_SOON["index"] if vectors else ""),
        Place(name="work folders of retrainings", found=work, when=_SOON["work"] if work else ""),
    )


def _vectors_in_files(index: Path, erased: Erasure) -> int:
    """How many of the erased vectors stand in segments on the disk, listed by a generation or not."""
    wanted: I64 = np.array(erased.encoding_ids, np.int64)
    if not len(wanted):
        return 0
    found = 0
    for path in index.glob(f"*/*/segments/*/{LABELS}"):
        labels = np.fromfile(path, "<i8")
        found += int(np.isin(wanted, labels).sum())
    return found


def _work(settings: Settings, run: int) -> Path:
    """As `radir_training.retraining.folder` names it: pixels that were prepared for a run."""
    return settings.home / "retraining" / str(run) / "work"
