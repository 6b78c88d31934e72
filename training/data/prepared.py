"""Network inputs of found studies, cached, so that nothing is prepared twice.

A study's key is what it is made from (path, size and modification time of its files, and the preprocessing), so a
changed file is read again and everything else comes from the cache. Shards are written atomically: a preparation that
was killed resumes where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from math import prod
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import numpy.typing as npt

from radir_pacs.dicom.pixels import PixelDecoder
from radir_pacs.encode import Preprocessing
from radir_pacs.encode.network import view_index
from radir_pacs.encode.preprocess import preprocess
from radir_pacs.errors import RadirError

from .found import Content, plain
from .shards import Shard, read_notes, read_shard, write_shard
from .studies import F16, I64

FORMAT = 2  # raise it when the same files give other inputs
SHARD_BYTES = 32 << 20
MOST_STUDIES = 64  # studies per shard: at most so many are lost per process when it is killed


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """images: float16 [n, 1, *shape]; views: int64 [n], rows of the modality embedding; study: int64 [n], the number
    of the content that a row belongs to, ascending. left_out: studies without an image, by reason."""

    images: F16
    views: I64
    study: I64
    left_out: Counter[str]


@dataclass(frozen=True)
class _Entry:
    """Where a study is in a shard; ``reason``: why it has no rows."""

    shard: Path
    rows: slice
    reason: str


def prepare(
    contents: Sequence[Content],
    how: Preprocessing,
    root: Path,
    cache: Path,
    *,
    processes: int = 1,
    total: Callable[[int], None] = lambda studies: None,
    progress: Callable[[int], None] = lambda done: None,
) -> Prepared:
    """Inputs of ``contents``, whose files lie below ``root``. ``total`` is called first with the number of
    studies, ``progress`` then with how many are ready. Raises OSError when the cache cannot be written."""
    folder = cache / f"{how.kind.lower()}-folder-{_digest([FORMAT, how.to_json(), str(root.resolve())])}"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # pictures of patients
    keys = [_key(content, root) for content in contents]
    known = _known(folder)
    missing = [(key, content) for key, content in zip(keys, contents, strict=True) if key and key not in known]
    done = len(contents) - len(missing)
    total(len(contents))
    progress(done)
    for count in _write_missing(missing, how, folder, processes):
        done += count
        progress(done)
    return _gathered(keys, _known(folder) if missing else known, how)


def _gathered(keys: Sequence[str], known: dict[str, _Entry], how: Preprocessing) -> Prepared:
    left_out: Counter[str] = Counter()
    numbers: dict[Path, list[int]] = {}
    counts = np.zeros(len(keys) + 1, np.int64)
    for number, key in enumerate(keys):
        entry = known.get(key)
        if entry is None or entry.reason:
            left_out[entry.reason if entry else "a file cannot be read"] += 1
        else:
            counts[number + 1] = entry.rows.stop - entry.rows.start
            numbers.setdefault(entry.shard, []).append(number)
    start = counts.cumsum()
    images = np.zeros((int(start[-1]), 1, *how.shape), np.float16)
    views = np.zeros(len(images), np.int64)
    for path, members in numbers.items():
        shard = read_shard(path)
        for number in members:
            rows = known[keys[number]].rows
            images[start[number] : start[number + 1]] = shard.images[rows]
            views[start[number] : start[number + 1]] = shard.views[rows]
    study: I64 = np.repeat(np.arange(len(keys), dtype=np.int64), counts[1:])
    return Prepared(images=images, views=views, study=study, left_out=left_out)


def _known(folder: Path) -> dict[str, _Entry]:
    known: dict[str, _Entry] = {}
    for path in sorted(folder.glob("*.npz")):
        row = 0
        for key, count, reason in read_notes(path) or ():
            known[key] = _Entry(path, slice(row, row + count), reason)
            row += count
    return known


def _write_missing(
    missing: Sequence[tuple[str, Content]], how: Preprocessing, folder: Path, processes: int
) -> Iterator[int]:
    """Yields the number of studies of each shard as it is there."""
    size = max(1, min(MOST_STUDIES, SHARD_BYTES // (2 * prod(how.shape))))
    shards = [missing[start : start + size] for start in range(0, len(missing), size)]
    if processes <= 1 or len(shards) <= 1:
        for members in shards:
            yield _write_shard(members, how, folder)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for done in as_completed([pool.submit(_write_shard, members, how, folder) for members in shards]):
            yield done.result()


def _write_shard(members: Sequence[tuple[str, Content]], how: Preprocessing, folder: Path) -> int:
    index: list[tuple[str, int, str]] = []
    images: list[npt.NDArray[np.float16]] = []
    views: list[int] = []
    with PixelDecoder() as decoder:
        for key, content in members:
            try:
                volumes = content.volumes(how.kind, decoder)
                inputs = [preprocess(volume, how).astype(np.float16) for volume in volumes]
            except OSError:
                continue  # it may be readable next time
            except (RadirError, ValueError) as error:
                reason = plain(error) if isinstance(error, RadirError) else "an image without usable content"
                index.append((key, 0, reason))
                continue
            index.append((key, len(inputs), ""))
            images += inputs
            views += [view_index(volume.kind, volume.view) for volume in volumes]
    path = folder / f"{_digest([key for key, _ in members])}.npz"
    stacked = np.stack(images) if images else np.zeros((0, 1, *how.shape), np.float16)
    write_shard(path, Shard(images=stacked, views=np.array(views, np.int64)), index)
    return len(members)


def _key(content: Content, root: Path) -> str:
    """The key of a study in the cache; empty where a file is gone."""
    try:
        states = [(path, path.stat()) for path in content.files]
    except OSError:
        return ""
    files = [(os.path.relpath(path, root), state.st_size, state.st_mtime_ns) for path, state in states]
    return _digest([content.reading, files])


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]
