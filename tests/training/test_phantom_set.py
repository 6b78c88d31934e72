"""Drawn patients are kept, and never mistaken for those of another look."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from radir_pacs.encode import CONFIGS
from radir_pacs.types import ImageKind
from radir_training import phantoms
from radir_training.data import phantom_set


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the code that draws, which names the cache."""
    copy = tmp_path / "phantoms"
    shutil.copytree(Path(phantoms.__file__).parent, copy)
    monkeypatch.setattr(phantoms, "__file__", str(copy / "__init__.py"))
    return copy


def folder(cache: Path) -> str:
    """Where radiographs of the hospital 1 lie; none are drawn."""
    phantom_set._drawing.cache_clear()
    drawn = phantom_set.draw_phantoms(CONFIGS["tiny"], [ImageKind.CXR], patients=0, seed=1, cache=cache)
    phantom_set._drawing.cache_clear()
    return drawn[ImageKind.CXR].name


@pytest.mark.parametrize(
    ("file", "old", "new", "same"),
    [
        ("skeleton.py", "CALLUS_HU, HAEMATOMA_HU = 700.0, 55.0", "CALLUS_HU, HAEMATOMA_HU = 700.0, -400.0", False),
        ("phrases.toml", "effusion", "fluid", False),
        ("skeleton.py", "# discs first", "# the discs lie below", True),
        ("skeleton.py", '"""A point (x, y, z) in the middle of a rib."""', '"""Where a rib is."""', True),
    ],
)
def test_patients_of_another_look_are_drawn_anew(
    code: Path, tmp_path: Path, file: str, old: str, new: str, same: bool
) -> None:
    """Also where it is the look of a finding that the first patients do not have; words about the code are no look."""
    before = folder(tmp_path)
    text = (code / file).read_text()
    assert old in text
    (code / file).write_text(text.replace(old, new))
    assert (folder(tmp_path) == before) is same
