"""Shards of a cache of network inputs: one ``.npz`` each, written atomically, with notes as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from radir_pacs import durable

from .studies import F16, I64


class Shard(NamedTuple):
    """images: float16 [n, 1, *shape]; views: int64 [n]."""

    images: F16
    views: I64


def write_shard(path: Path, shard: Shard, notes: Any) -> None:
    """``notes``: JSON. Raises OSError."""
    with durable.replacing(path) as partial, partial.open("wb") as file:
        np.savez(file, notes=np.frombuffer(json.dumps(notes).encode(), np.uint8), **shard._asdict())


def read_shard(path: Path) -> Shard:
    with np.load(path, allow_pickle=False) as arrays:
        return Shard(images=arrays["images"], views=arrays["views"])


def read_notes(path: Path) -> Any:
    """None where the shard cannot be read: a damaged one counts as missing."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            notes: npt.NDArray[np.uint8] = arrays["notes"]
            return json.loads(notes.tobytes())
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None
