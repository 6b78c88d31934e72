"""Synthetic hospitals for tests, each made once in a run: processes of pytest-xdist share its folder."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def hospital_of(factory: pytest.TempPathFactory, *words: str) -> tuple[Path, list[dict[str, Any]]]:
    """The folder that ``radir phantom`` fills when given these words, and the truth of its studies. Only to be read."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder = base / "-".join(["hospital", *(word.strip("-") for word in words)])
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "truth.json").exists():
            command = ["-m", "radir_pacs.cli", "phantom", "--out", str(folder), *words]
            subprocess.run([sys.executable, *command], check=True, capture_output=True)
    return folder, json.loads((folder / "truth.json").read_text())["studies"]


def usual_hospital(factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """Six patients, each with a CT and one or two radiographs. Making a hospital takes seconds: take a part of this."""
    return hospital_of(factory, "--patients", "6", "--seed", "3")


def of_patients(studies: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """The studies of the first ``count`` patients."""
    first = list(dict.fromkeys(study["patient_id"] for study in studies))[:count]
    return [study for study in studies if study["patient_id"] in first]
