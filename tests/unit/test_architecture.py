"""ARCHITECTURE.md shows the layers that .importlinter holds; what only the network needs is loaded by nobody else."""

from __future__ import annotations

import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_picture_of_the_layers_is_the_contract() -> None:
    contracts = ConfigParser()
    contracts.read(ROOT / ".importlinter")
    layers = contracts["importlinter:contract:layers"]["layers"].split("\n")
    held = [line.replace("radir_pacs.", "").replace("radir_", "") for line in layers if line]
    page = (ROOT / "ARCHITECTURE.md").read_text("utf-8").split("\n")
    start = page.index(f"    {held[0]}")
    assert [line.strip() for line in page[start : start + len(held)]] == held, "copy the layers from .importlinter"


def loaded_by(*modules: str) -> set[str]:
    """All modules that a fresh process has after importing these."""
    command = [sys.executable, "-c", f"import sys, {', '.join(modules)}; print(*sys.modules)"]
    return set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())


def test_only_what_runs_the_network_loads_its_libraries() -> None:
    """Every process of a stack imports one of these; torch would cost each of them seconds and 200 MB."""
    processes = ("listener.__main__", "hl7.__main__", "web.__main__", "cli.up", "cli.demo", "cli.status", "cli.models")
    loaded = loaded_by(*[f"radir_pacs.{name}" for name in processes], "radir_workers.__main__")
    assert "radir_pacs.models" in loaded
    assert {"torch", "monai", "onnxruntime", "scipy"} & loaded == set()


def test_the_child_that_tries_a_model_from_elsewhere_loads_no_torch() -> None:
    """It runs an ONNX file; torch would be half of its time."""
    assert "torch" not in loaded_by("radir_pacs.encode.confined", "radir_pacs.encode.trial")


def test_what_reads_no_dicom_does_not_load_its_library() -> None:
    """pydicom takes half a second of processor time, at each start of a command and of these processes."""
    loaded = loaded_by(
        *("radir_pacs.cli.up", "radir_pacs.cli.status", "radir_pacs.cli.users", "radir_pacs.cli.backup"),
        *("radir_workers.__main__", "radir_workers.relay", "radir_workers.index_partition"),
    )
    assert "radir_pacs.catalogue" in loaded
    assert {"pydicom", "highdicom", "pynetdicom", "flask"} & loaded == set()


def test_regions_are_made_of_features_without_torch() -> None:
    """In a process of its own for each import, which would take as long again to start."""
    loaded = loaded_by("radir_pacs.encode.confined", "radir_pacs.encode.onnx_regions")
    assert "radir_pacs.encode.golden" in loaded
    assert {"torch", "scipy", "pydicom"} & loaded == set()
