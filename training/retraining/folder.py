"""What a run leaves on the disk: its folder below the home folder, open to its owner only."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from radir_pacs import durable
from radir_pacs.config import Settings
from radir_pacs.models import run_files
from radir_pacs.models.run_files import EVIDENCE, EXAMINATION, GATES, LOG, PAGE, PREFLIGHT, WORK

__all__ = ["EVIDENCE", "EXAMINATION", "GATES", "LOG", "PAGE", "PREFLIGHT", "WORK"]

DATA = "data.json"
CHALLENGER = "challenger"


def run_folder(settings: Settings, run_id: int) -> Path:
    return run_files.run_folder(settings.home, run_id)


def made_folder(settings: Settings, run_id: int) -> Path:
    """The folder of a run, made where it is missing. Raises OSError."""
    folder = run_folder(settings, run_id)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def write(path: Path, told: Any) -> None:
    """JSON, in place of what was there. Raises OSError."""
    durable.replace(path, (json.dumps(told, indent=1, default=str) + "\n").encode())


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
