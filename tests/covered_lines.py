"""A pytest plugin that tells which lines of the product this process ran, as data for coverage.py's report.

A probe stands at each line, and goes when it is hit (slipcover): tracing, as coverage.py does before Python 3.12, takes
a third more processor time. `make coverage` traces, and counts branches too.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from coverage import CoverageData
from slipcover import FileMatcher, ImportManager, Slipcover

_ROOT = Path(__file__).resolve().parents[1]
_FOLDERS = [str(_ROOT / folder) for folder in ("radir_pacs", "workers", "training")]
_PROBES = Slipcover(immediate=True)


def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Before any module of the product is imported, in each process that runs tests."""
    if not _only_hands_out(early_config):
        ImportManager(_PROBES, FileMatcher(_FOLDERS)).__enter__()
        early = [name for name in sys.modules if name.startswith("radir_")]
        assert not early, f"imported before the probes were set: {early}"


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Files that nobody imported count too."""
    if _only_hands_out(session.config):
        return
    found = _PROBES.get_coverage()["files"]
    data = CoverageData(basename=str(_ROOT / ".coverage"), suffix=f"lines.{os.getpid()}")
    data.add_lines({str(_ROOT / file): lines["executed_lines"] for file, lines in found.items()})
    data.touch_files([str(path) for folder in _FOLDERS for path in Path(folder).rglob("*.py")])
    data.write()


def _only_hands_out(config: pytest.Config) -> bool:
    """The process that hands the tests out to others."""
    return "PYTEST_XDIST_WORKER" not in os.environ and bool(config.known_args_namespace.numprocesses)
