"""Drawn patients are kept, and never mistaken for those of another look."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from radir_pacs.encode import CONFIGS
from radir_pacs.types import ImageKind
from radir_training.phantom_set import draw_phantoms
from radir_training.phantoms import CATALOGUE, skeleton
from radir_training.phantoms.findings import one_of_each


def folder(cache: Path) -> str:
    """Where radiographs of the hospital 1 lie; none are drawn."""
    drawn = draw_phantoms(CONFIGS["tiny"], [ImageKind.CXR], patients=0, seed=1, cache=cache)
    return drawn[ImageKind.CXR].name


def test_patients_of_another_look_are_drawn_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the look is that of a finding which the first patients do not have."""
    before = folder(tmp_path)
    assert folder(tmp_path) == before
    monkeypatch.setattr(skeleton, "HAEMATOMA_HU", -400.0)
    assert folder(tmp_path) != before


def test_one_of_each_has_every_concept_in_all_degrees() -> None:
    everything = one_of_each(np.random.default_rng(0))
    assert [finding.concept for finding in everything] == list(CATALOGUE)
    assert {finding.severity for finding in everything} == {1, 2, 3}
