"""One stack per test file: starting it takes seconds."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.stack import Stack, running_stack


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running_stack(tmp_path_factory.mktemp("stack")) as started:
        yield started


@pytest.fixture(scope="session")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """A small synthetic hospital: its folder, and the truth of its studies."""
    folder = tmp_path_factory.mktemp("hospital")
    subprocess.run(
        [sys.executable, "-m", "radir_pacs.cli", "phantom", "--out", str(folder), "--patients", "6", "--seed", "3"],
        check=True,
        capture_output=True,
    )
    return folder, json.loads((folder / "truth.json").read_text())["studies"]
