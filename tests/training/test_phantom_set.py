"""Synthetic patients are drawn in as many processes as are asked for, of which this one is the first."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast

import pytest

from radir_pacs.types import ImageKind
from radir_training.data import phantom_set as phantoms

from .toy import TOY


def test_one_process_is_this_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script without a guarded main module cannot start another, so `radir.evaluate` failed with an empty cache."""

    def started(*_: object, **__: object) -> None:
        raise AssertionError("a process is started")

    monkeypatch.setattr(phantoms, "ProcessPoolExecutor", started)
    monkeypatch.setattr(phantoms, "SHARD_PATIENTS", 1)
    told: list[int] = []
    data = phantoms.phantom_set(TOY, ImageKind.CXR, patients=2, seed=1, cache=tmp_path, progress=told.append)
    assert set(data.patients.tolist()) == {0, 1} and told == [1, 2]


def test_what_fails_in_a_process_is_raised() -> None:
    """It had been lost, and the missing file was told of instead."""
    with pytest.raises(ValueError, match="math domain error"):
        list(phantoms._drawn([-1, -2], cast(Any, math.sqrt), processes=2))
