"""``radir retrain`` for the pages: training is no part of the web service, so its command does what they ask for.

One at a time in a web process: each takes some seconds and a few hundred megabytes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from radir_pacs import metrics
from radir_pacs.config import Settings, to_environment
from radir_pacs.errors import BadInput, Conflict, NotReady
from radir_pacs.types import ImageKind

LIMIT_S = 120.0
_busy = threading.Lock()
_ERROR = "error: "


@dataclass(frozen=True, kw_only=True)
class PlanForm:
    """What the form says. ``text``: a plan in TOML, empty for the defaults; its depth gives way to ``depth``."""

    kind: ImageKind
    depth: str
    text: str

    @classmethod
    def of(cls, kind: str, depth: str, text: str) -> PlanForm:
        """Raises BadInput."""
        if kind not in ImageKind.__members__ or depth not in ("head", "full"):
            raise BadInput("choose the kind of image and the depth")
        return cls(kind=ImageKind(kind), depth=depth, text=text)


def tried(plan: PlanForm, settings: Settings) -> dict[str, Any]:
    """What ``--dry-run --json`` tells. Raises BadInput, Conflict, NotReady."""
    return _planned(plan, settings, "--dry-run")


def begun(plan: PlanForm, settings: Settings, *, by: str) -> int:
    """The number of the run. Raises BadInput, Conflict, NotReady."""
    return int(_planned(plan, settings, "--detach", "--by", by)["run"])


def resumed(number: int, settings: Settings) -> None:
    """Raises BadInput, Conflict, NotReady."""
    _run(["--resume", str(number), "--detach"], settings)


def _planned(plan: PlanForm, settings: Settings, *arguments: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="radir-plan-") as folder:
        path = Path(folder) / "plan.toml"
        path.write_text(plan.text.replace("\r\n", "\n"), encoding="utf-8")
        return _run(["--kind", plan.kind, "--depth", plan.depth, "--plan", str(path), *arguments], settings)


def _run(arguments: list[str], settings: Settings) -> dict[str, Any]:
    if not _busy.acquire(blocking=False):
        raise Conflict("another retraining is being planned or begun at this moment: ask again in a few seconds")
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "radir_pacs.cli", "retrain", *arguments, "--json"],
            env={**metrics.alone(os.environ), **to_environment(settings)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NotReady(f"this took longer than {LIMIT_S:.0f} seconds: use `radir retrain`") from None
    finally:
        _busy.release()
    try:
        told = json.loads(ended.stdout)
    except ValueError:
        said = [line for line in ended.stderr.splitlines() if line.startswith(_ERROR)]
        raise BadInput(said[-1].removeprefix(_ERROR) if said else "`radir retrain` failed: see the logs") from None
    return dict(told)
