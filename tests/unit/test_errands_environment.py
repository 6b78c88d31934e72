"""A command that a role begins counts nothing in the role's name."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from radir_pacs import metrics
from radir_pacs.config import Settings
from radir_pacs.models import errands


def test_a_command_has_figures_of_its_own(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: dict[str, Any] = {}
    monkeypatch.setenv(metrics.SHARED, "/somewhere")
    monkeypatch.setenv("LANG", "C.UTF-8")
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **said: begun.update(said))
    errands.started(("quality", "--measure"), settings)
    assert metrics.SHARED not in begun["env"] and begun["env"]["LANG"] == "C.UTF-8"
