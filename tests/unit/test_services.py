"""Which program a test runs where several have its name."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.services import need


def test_an_activated_environment_hides_no_program_of_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, system = tmp_path / "environment" / "bin", tmp_path / "system"
    for folder in (own, system):
        folder.mkdir(parents=True)
        (folder / "storescu").touch(mode=0o755)
    monkeypatch.setattr(sys, "prefix", str(own.parent))
    monkeypatch.setenv("PATH", f"{own}{os.pathsep}{system}")
    assert need("storescu") == str(system / "storescu")
    monkeypatch.setattr(sys, "base_prefix", sys.prefix)
    assert need("storescu") == str(own / "storescu"), "without an environment the system's Python lies beside them"
