"""Erasing a study or a patient, and looking in every place where something of it could be left.

Out of reach, and said by the command: backups, data sets that were built into other folders, what was sent to other
systems, and what a model learned.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from radir_pacs.callers import Caller
from radir_pacs.catalogue import Catalogue
from radir_pacs.catalogue.erasures import Erasure
from radir_pacs.config import Settings
from radir_pacs.errors import Conflict, EngineAway, NotFound, SettingError
from radir_pacs.index.engines import Engines
from radir_pacs.index.manifest import LABELS
from radir_pacs.models.run_files import PAGE, WORK, run_folder
from radir_pacs.storage import open_blobs
from radir_pacs.storage.fetched import FOLDER, Fetched
from radir_pacs.types import I64

_ELSEWHERE = "not on this machine: look again with --prove, on each machine that has such a folder"
_AWAY = "it does not answer: look again with --prove when it does"
_SOON = {
    "files": "the relay removes files younger than five minutes (in a bucket: an hour) when they are older, and"
    " what a backup needs when it ends",
    "fetched": "no answer shows them; they go within the hour",
    "index": "no answer shows them; a job that is due writes the segment anew, and the old one goes an hour later",
    "engine": "no answer shows them; the index job that is due removes them",
    "work": "a retraining is at work there, and was asked to stop: the folder goes with its end",
}


@dataclass(frozen=True, kw_only=True)
class SearchedPlace:
    """Somewhere that was looked, and how much was found. ``when``: what removes it, where it takes a while.

    ``found``: None where nobody could look, as the place is not on this machine.
    """

    name: str
    found: int | None
    when: str = ""


def erase(subject: str, catalogue: Catalogue, settings: Settings, *, by: Caller) -> tuple[SearchedPlace, ...]:
    """Erase, then look everywhere. Raises NotFound when nothing of such a study or patient is here."""
    erased = catalogue.erasures.erase(subject, by=by)
    blobs = open_blobs(settings, catalogue.backups.installation())
    for sha256 in catalogue.erasures.unused(erased.blobs):
        blobs.delete(sha256)
    _fetched(settings).drop(erased.blobs)
    for run in erased.runs:
        with contextlib.suppress(Conflict, NotFound):  # it has ended
            catalogue.retraining.ask_to_cancel(run)
        if not catalogue.retraining.get(run).held:
            shutil.rmtree(_work(settings, run), ignore_errors=True)
        _evidence(settings, run).unlink(missing_ok=True)
    _remove_from_engines(erased.encoding_ids, catalogue, settings)
    return look(subject, catalogue, settings)


def look(subject: str, catalogue: Catalogue, settings: Settings) -> tuple[SearchedPlace, ...]:
    """Where something of the subject, or of what was erased under its name, could be, and how much is there."""
    erased = catalogue.erasures.of(subject)
    tables = catalogue.erasures.left(subject, erased.study_uids)
    files: int | None = None
    if settings.blob_store or _is_here(settings, "blobs"):
        blobs = open_blobs(settings)
        files = sum(blobs.stands(sha256) for sha256 in catalogue.erasures.unnamed(erased.blobs))
    vectors = _vectors_in_files(settings.home / "index", erased) if _is_here(settings, "index") else None
    fetched = _fetched(settings).count(erased.blobs) if _is_here(settings, FOLDER) else None
    work = pages = None
    if _is_here(settings, "retraining"):
        work = sum(_work(settings, run).exists() for run in erased.runs)
        pages = sum(_evidence(settings, run).exists() for run in erased.runs)
    return (
        *(SearchedPlace(name=f"table: {name}", found=found) for name, found in tables.items()),
        _place("files as received", files, _SOON["files"]),
        _place("images from the source PACS", fetched, _SOON["fetched"]),
        _place("index segments", vectors, _SOON["index"]),
        *_in_engines(erased, catalogue, settings),
        _place("work folders of retrainings", work, _SOON["work"]),
        _place("evidence pages of retrainings", pages, _SOON["work"]),
    )


def _fetched(settings: Settings) -> Fetched:
    return Fetched(settings.home, settings.source_cache_mib << 20)


def _place(name: str, found: int | None, soon: str) -> SearchedPlace:
    return SearchedPlace(name=name, found=found, when=_ELSEWHERE if found is None else soon if found else "")


def _is_here(settings: Settings, folder: str) -> bool:
    """Whether a missing folder means that there is nothing: with a database elsewhere it may be on another machine."""
    return not settings.database_url or (settings.home / folder).is_dir()


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


def _remove_from_engines(ids: Sequence[int], catalogue: Catalogue, settings: Settings) -> None:
    """At once, where the engine answers; else the job that is due does it."""
    labels: I64 = np.array(ids, np.int64)
    with contextlib.closing(Engines(catalogue, settings)) as engines:
        away: set[str] = set()
        for model_id, region, name in catalogue.generations.held_outside():
            if name in away:  # it would let each of its places wait
                continue
            try:
                engines.named(name).remove((model_id, region), labels)
            except (EngineAway, SettingError):
                away.add(name)


def _in_engines(erased: Erasure, catalogue: Catalogue, settings: Settings) -> Iterator[SearchedPlace]:
    """One place for each outside engine that may have vectors."""
    labels: I64 = np.array(erased.encoding_ids, np.int64)
    found: dict[str, int | None] = {}
    with contextlib.closing(Engines(catalogue, settings)) as engines:
        for model_id, region, name in catalogue.generations.held_outside():
            before = found.get(name, 0)
            if before is None:  # it would let each of its places wait
                continue
            try:
                found[name] = before + engines.named(name).holds((model_id, region), labels)
            except (EngineAway, SettingError):
                found[name] = None
    for name, number in found.items():
        when = _SOON["engine"] if number else "" if number == 0 else _AWAY
        yield SearchedPlace(name=f"vector engine {name}", found=number, when=when)


def _evidence(settings: Settings, run: int) -> Path:
    """The page that a run leaves, which may show pictures of its studies; its figures stay beside it as JSON."""
    return run_folder(settings.home, run) / PAGE


def _work(settings: Settings, run: int) -> Path:
    """Checkpoints, and pixels that were prepared for a run."""
    return run_folder(settings.home, run) / WORK
