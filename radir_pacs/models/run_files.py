"""What a retraining leaves on the disk, ``retraining/<run>`` in the home folder; its own steps write it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from radir_pacs.config import Settings

PREFLIGHT = "preflight.json"
EXAMINATION, GATES, LOSSES = "examination.json", "gates.json", "losses.json"
PAGE, LOG = "evidence.html", "run.log"
EVIDENCE, PROMOTION = "evidence.json", "promotion.json"
WORK = "work"  # checkpoints, and network inputs prepared from patients' pixels


def run_folder(home: Path, run_id: int) -> Path:
    """Where everything of a run is, whether or not it is there."""
    return home / "retraining" / str(run_id)


def record_of(run_id: int) -> str:
    """How the history of models names the evidence of a run."""
    return f"retraining/{run_id}/{EVIDENCE}"


def run_of(record: str) -> int | None:
    """The run whose evidence a line of the history names; people write there as well."""
    number = record.removeprefix("retraining/").partition("/")[0]
    is_run = number.isascii() and number.isdecimal() and len(number) < 10
    return int(number) if is_run and record == record_of(int(number)) else None


@dataclass(frozen=True, kw_only=True)
class RunFiles:
    """The folder of one run; what is not there yet, or was removed, is empty."""

    folder: Path

    @classmethod
    def of(cls, settings: Settings, run_id: int) -> RunFiles:
        return cls(folder=run_folder(settings.home, run_id))

    @property
    def evidence(self) -> Path | None:
        """The page that is filed."""
        page = self.folder / PAGE
        return page if page.is_file() else None

    @property
    def estimated_s(self) -> float | None:
        """How long the run would take, as it was estimated before anything was trained."""
        told = self._table(PREFLIGHT).get("estimated_s")
        return float(told) if isinstance(told, int | float) else None

    def gates(self) -> list[dict[str, Any]]:
        """Each gate: code, passed, text, and whether it was judged."""
        told = self._json(GATES)
        return told if isinstance(told, list) else []

    def examination(self) -> dict[str, Any]:
        """Champion and challenger by region and group."""
        return self._table(EXAMINATION)

    def promotions(self) -> list[dict[str, Any]]:
        """When the challenger began to serve, or was replaced: lines of the history of models, oldest first."""
        told = self._table(PROMOTION).get("serving")
        return told if isinstance(told, list) else []

    def losses(self) -> dict[str, list[list[float]]]:
        """By name, [step, mean loss]."""
        return self._table(LOSSES)

    def log_end(self, most_bytes: int = 20_000) -> str:
        """The last lines of the log."""
        try:
            with (self.folder / LOG).open("rb") as file:
                size = file.seek(0, 2)
                file.seek(max(0, size - most_bytes))
                text = file.read().decode("utf-8", "replace")
        except OSError:
            return ""
        return text if size <= most_bytes else text.partition("\n")[2]

    def _table(self, name: str) -> dict[str, Any]:
        told = self._json(name)
        return told if isinstance(told, dict) else {}

    def _json(self, name: str) -> Any:
        try:
            return json.loads((self.folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
