"""What tests need from outside: programs and data. Absent, they skip with the reason; a program fails under CI=true."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def need(program: str) -> str:
    """Path of a program on PATH. Without it the test skips, or fails where CI=true."""
    path = shutil.which(program)
    if path is None:
        reason = f"{program} is not installed"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return path


def data_dir(name: str = "") -> Path:
    """Folder of the real material, or of one part of it; the test skips where it is absent."""
    root = Path(os.environ.get("RADIR_TEST_DATA") or ROOT.parent / "shared" / "data")
    folder = root / name
    if not folder.is_dir():
        pytest.skip(f"the test data {name or 'folder'} is absent")
    return folder
