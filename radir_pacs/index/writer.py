"""The one writer of a partition: when it merges, and what it then clears away.

Segments are merged like those of a log-structured store: the tail becomes a segment, together with those that are not
much larger, so that a vector is built into a graph about log2(segment / tail) times. One that has come near `MOST` is
sealed: it is written again only when many of its vectors are gone, or when they are to leave the disk.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Sequence, Set
from itertools import pairwise
from pathlib import Path

from radir_pacs.errors import IndexRefused
from radir_pacs.index.builder import BUILDING_PREFIX
from radir_pacs.index.files import read_manifest_file
from radir_pacs.index.generation import SEGMENTS, generation_names
from radir_pacs.index.manifest import MANIFEST, GenerationManifest

MIN_CHANGES = 64
CHANGED_FRACTION = 0.1
LONGEST_TAIL = 20_000  # searched exactly at every query, in about a millisecond
MOST = 1_000_000  # vectors of a segment: its build takes minutes, whatever the partition holds
GONE_FRACTION = 0.2  # of a segment: it is then written again
_GROWTH = 2  # a segment is merged with what is at least half as large
_SMALL = 20_000  # segments without a graph cost nothing to write again
GRACE_S = 3600.0
_REMOVING_PREFIX = ".removing-"


def should_merge(n_generation: int, n_tail: int, n_deleted: int) -> bool:
    """Whether the tail, or the vectors deleted from the generation, are numerous enough for a new generation.

    A tenth, for small partitions are all cheap; the tail of a large one costs each of its queries.
    """
    least = max(MIN_CHANGES, CHANGED_FRACTION * n_generation)
    return n_tail >= min(least, LONGEST_TAIL) or n_deleted >= least


def is_worn(count: int, gone: int) -> bool:
    """Whether so many of a segment's vectors are gone that it should be written again."""
    return gone > 0 and gone >= GONE_FRACTION * count


def to_merge(n_tail: int, segments: Sequence[tuple[int, int]], *, forget: bool = False, most: int = MOST) -> list[int]:
    """Which ``segments`` (live, gone) become one with the tail, by their places; about ``most`` vectors at most.

    forget: any with deleted vectors is worth it, so that these leave the disk. One that is worth it is always chosen.
    """
    worn = [
        place
        for place, (live, gone) in enumerate(segments)
        if gone and (forget or live <= _SMALL or is_worn(live + gone, gone))
    ]
    chosen: list[int] = []
    total = n_tail
    for place in sorted(worn, key=lambda place: segments[place][0]):
        if total + segments[place][0] <= most or not chosen:
            chosen.append(place)
            total += segments[place][0]
    if not (chosen or n_tail):
        return []  # nothing comes, nothing is worth it: what is gone is only recorded
    for place in sorted(set(range(len(segments))) - set(worn), key=lambda place: segments[place][0]):
        live = segments[place][0]
        if live > max(_GROWTH * total, _SMALL) or total + live > most:
            break
        chosen.append(place)
        total += live
    return sorted(chosen)


def remove_unused(folder: Path, *, now_s: float, grace_s: float = GRACE_S, keep: str | None = None) -> tuple[str, ...]:
    """Remove what is no longer needed from a partition's folder; returns the names removed. Several may do it at once.

    A generation other than ``keep`` goes when a newer one has stood for ``grace_s`` (a reader may be about to open it;
    one that has it open keeps its files), and the segments that no other lists go with it. A build goes when its
    process is gone. ``now_s``: seconds since the epoch.
    """
    if not folder.is_dir():
        return ()
    names = generation_names(folder)
    outdated = [
        old for old, successor in pairwise(names) if old != keep and _age_s(folder / successor, now_s) >= grace_s
    ]
    for name in outdated:
        _set_aside(folder / name, folder)
    for segment in _unlisted(folder, now_s, grace_s):
        _set_aside(segment, folder)
    abandoned = [build for build in folder.glob(f"{BUILDING_PREFIX}*") if _is_abandoned(build, now_s, grace_s)]
    for unwanted in (*abandoned, *folder.glob(f"{_REMOVING_PREFIX}*")):
        shutil.rmtree(unwanted, ignore_errors=True)
    return (*outdated, *(build.name for build in abandoned))


def _unlisted(folder: Path, now_s: float, grace_s: float) -> list[Path]:
    """Segments that no generation lists, unless they are young: a builder may be about to list them."""
    listed: set[str] = set()
    for name in generation_names(folder):
        with contextlib.suppress(IndexRefused):  # an unreadable one lists nothing that could be opened
            manifest = GenerationManifest.from_bytes(read_manifest_file(folder / name))
            listed |= {segment.name for segment in manifest.segments}
    return [
        segment
        for segment in (folder / SEGMENTS).glob("[0-9a-f]*")
        if segment.name not in listed and _built_s(segment, now_s) >= grace_s
    ]


def _built_s(segment: Path, now_s: float) -> float:
    """Seconds since a segment was built; its folder is as young as its last opening."""
    manifest = segment / MANIFEST
    return _age_s(manifest if manifest.exists() else segment, now_s)


def _set_aside(path: Path, folder: Path) -> None:
    """Rename it for removal, so that it is never visible half removed."""
    with contextlib.suppress(FileNotFoundError):  # somebody else was first
        path.rename(folder / f"{_REMOVING_PREFIX}{path.name}")


def remove_partition(folder: Path, *, now_s: float, grace_s: float = GRACE_S) -> None:
    """Remove the files of a partition that an outside engine holds now, unless they changed within ``grace_s``."""
    if folder.is_dir() and _age_s(folder, now_s) >= grace_s:
        _set_aside(folder, folder.parent)
    for unwanted in folder.parent.glob(f"{_REMOVING_PREFIX}*"):
        shutil.rmtree(unwanted, ignore_errors=True)


def remove_model(home: Path, model_id: str) -> None:
    """Remove the index of a model; who has a part of it open keeps that."""
    shutil.rmtree(home / "index" / model_id, ignore_errors=True)


def remove_unserved_models(home: Path, *, serving: Set[str], now_s: float, grace_s: float) -> tuple[str, ...]:
    """Remove the index of each model that no longer serves and did not change for ``grace_s``; returns their ids.

    Nobody merges it, so what is deleted would stay in it. Should the model serve again, its partitions are all tail
    until they are built anew.
    """
    folders = [folder for folder in (home / "index").glob("*") if folder.is_dir() and folder.name not in serving]
    old = [f for f in folders if min(_age_s(part, now_s) for part in (f, *f.iterdir())) >= grace_s]
    for folder in old:
        shutil.rmtree(folder, ignore_errors=True)
    return tuple(folder.name for folder in old)


def _age_s(path: Path, now_s: float) -> float:
    """Seconds since the folder got its last entry; negative infinity for one that is not there.

    One from the future, as after the clock was set back, is as if changed now: it would stay young for years.
    """
    try:
        age_s = now_s - path.stat().st_mtime
        if age_s < 0:
            with contextlib.suppress(PermissionError):  # another user's
                os.utime(path, (now_s, now_s))
        return max(age_s, 0.0)
    except FileNotFoundError:
        return float("-inf")


def _is_abandoned(scratch: Path, now_s: float, grace_s: float) -> bool:
    """Old, and its builder's lock is free: the kernel drops the lock when the process ends, however it ends.

    The lock of a young one is not tried: its builder is about to take it.
    """
    if _age_s(scratch, now_s) < grace_s:
        return False
    try:
        handle = os.open(scratch, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(handle)
