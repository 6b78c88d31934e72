"""A backup or a restore that kills itself at a named point: ``python -m tests.fault.killed_backup POINT FOLDER``.

Settings come from the environment. Nothing is cleared away: it is kill -9 of this process.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from radir_pacs import config
from radir_pacs.backup import making, restoring
from radir_pacs.backup.repository import Repository
from radir_pacs.catalogue import Catalogue, Snapshot
from radir_pacs.catalogue.backups import Backups
from radir_pacs.cli.backup import open_repository
from radir_pacs.storage import open_blobs
from radir_pacs.storage.blobs import IncomingBlob


def die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at_call(number: int, real: Callable[..., Any]) -> Callable[..., Any]:
    """Dies at that call, and does the real thing before."""
    calls = itertools.count(1)

    def call(*args: Any, **named: Any) -> Any:
        if next(calls) == number:
            die()
        return real(*args, **named)

    return call


def cut(real: Callable[..., Iterator[bytes]]) -> Callable[..., Iterator[bytes]]:
    """Yields the first half of the first piece, and dies."""

    def call(*args: Any, **named: Any) -> Iterator[bytes]:
        piece = next(iter(real(*args, **named)))
        yield piece[: len(piece) // 2]
        die()

    return call


def read_part(real: Callable[..., Iterator[bytes]]) -> Callable[..., Iterator[bytes]]:
    half = cut(real)

    def call(repository: Repository, manifest: Any, part: str) -> Iterator[bytes]:
        return half(repository, manifest, part) if part == "database" else real(repository, manifest, part)

    return call


POINTS: dict[str, tuple[Any, str, Callable[[Any], Any]]] = {
    "copy-files": (Repository, "write_file", lambda real: at_call(3, real)),
    "copy-dump": (Snapshot, "dump", cut),
    "copy-end": (Repository, "finish", lambda real: die),
    "restore-files": (IncomingBlob, "commit", lambda real: at_call(3, real)),
    "restore-database": (Repository, "read_part", read_part),
    "restore-settle": (Backups, "settle", lambda real: die),
}


def main(point: str, folder: str) -> None:
    settings = config.load()
    owner, name, replaced = POINTS[point]
    with mock.patch.object(owner, name, replaced(getattr(owner, name))):
        if point.startswith("copy"):
            repository = open_repository(folder, settings, make=True)
            with Catalogue.open(settings) as catalogue:
                making.back_up(catalogue, open_blobs(settings), settings.home, repository)
        else:
            repository = open_repository(folder, settings)
            restoring.restore(settings, repository, repository.manifest())


if __name__ == "__main__":
    main(sys.argv[1], str(Path(sys.argv[2])))
