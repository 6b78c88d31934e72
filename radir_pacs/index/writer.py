"""The one writer of a partition: when it merges, and what it then clears away."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Set
from itertools import pairwise
from pathlib import Path

from radir_pacs.index.builder import BUILDING_PREFIX
from radir_pacs.index.generation import generation_names

MIN_CHANGES = 64
CHANGED_FRACTION = 0.1
GRACE_S = 3600.0
_REMOVING_PREFIX = ".removing-"


def should_merge(n_generation: int, n_tail: int, n_deleted: int) -> bool:
    """Whether the tail, or the vectors deleted from the generation, are numerous enough for a new generation.

    A tenth: an exact tail stays cheap beside its generation, and a vector is rebuilt about ten times in all however
    large the partition grows.
    """
    return max(n_tail, n_deleted) >= max(MIN_CHANGES, CHANGED_FRACTION * n_generation)


def collect(folder: Path, *, now_s: float, grace_s: float = GRACE_S, keep: str | None = None) -> tuple[str, ...]:
    """Remove what is no longer needed from a partition's folder; returns the names removed. Several may do it at once.

    A generation other than ``keep`` goes when a newer one has stood for ``grace_s`` (a reader may be about to open it;
    one that has it open keeps its files). A build goes when its process is gone. ``now_s``: seconds since the epoch.
    """
    if not folder.is_dir():
        return ()
    names = generation_names(folder)
    outdated = [
        old for old, successor in pairwise(names) if old != keep and _age_s(folder / successor, now_s) >= grace_s
    ]
    for name in outdated:
        with contextlib.suppress(FileNotFoundError):  # somebody else was first
            (folder / name).rename(folder / f"{_REMOVING_PREFIX}{name}")  # so that it is never visible half removed
    abandoned = [build for build in folder.glob(f"{BUILDING_PREFIX}*") if _is_abandoned(build, now_s, grace_s)]
    for unwanted in (*abandoned, *folder.glob(f"{_REMOVING_PREFIX}*")):
        shutil.rmtree(unwanted, ignore_errors=True)
    return (*outdated, *(build.name for build in abandoned))


def collect_models(home: Path, *, serving: Set[str], now_s: float, grace_s: float) -> tuple[str, ...]:
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
