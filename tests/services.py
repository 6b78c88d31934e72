"""Programs and data that tests need from outside: without them a test skips with the reason, or fails in CI."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]


IN_CI = os.environ.get("CI", "").lower() == "true"


def of_system(program: str) -> str | None:
    """Path of a program, but not in this virtual environment, whose folder comes first on PATH where it is activated:
    pynetdicom puts programs there that have the names of DCMTK's."""
    folders = os.environ["PATH"].split(os.pathsep)
    if sys.prefix != sys.base_prefix:
        folders = [folder for folder in folders if Path(folder) != Path(sys.prefix) / "bin"]
    return shutil.which(program, path=os.pathsep.join(folders))


def need(program: str) -> str:
    """Path of a program of the system. Without it the test skips, or fails where CI=true."""
    path = of_system(program)
    if path is None:
        reason = f"{program} is not installed"
        if IN_CI:
            pytest.fail(reason)
        pytest.skip(reason)
    return path


def need_module(name: str) -> Any:
    """A library of the extra "test". Without it the test, or the file of tests, skips, or fails where CI=true."""
    try:
        return importlib.import_module(name)
    except ImportError:
        reason = f"{name} is not installed"
        if IN_CI:
            pytest.fail(reason)
        pytest.skip(reason, allow_module_level=True)


def need_folder(folder: Path, made_by: str) -> None:
    """Without it the test skips, or fails where CI=true."""
    if not folder.is_dir():
        reason = f"{folder.relative_to(ROOT)} is missing: {made_by}"
        if IN_CI:
            pytest.fail(reason)
        pytest.skip(reason)


def data_dir(name: str = "") -> Path:
    """Folder of the real material, or of one part of it; the test skips where there is none.

    Where CI=true and the material lies beside the checkout, a part that is missing fails instead.
    """
    root = Path(os.environ.get("RADIR_TEST_DATA") or ROOT.parent / "shared" / "data")
    folder = root / name
    if not folder.is_dir():
        if IN_CI and root.is_dir():
            pytest.fail(f"the test data lies at hand, but not its part {name}")
        pytest.skip(f"the test data {name or 'folder'} is absent")
    return folder
