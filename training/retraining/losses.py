"""The losses of a run, written while it trains, for the administrator's page."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path

from radir_pacs import durable

POINTS = 200  # of a curve; the steps between are averaged
WRITE_S = 5.0


class Losses:
    """Means over a few steps each. A training that resumes goes on where its checkpoint stands: what the file holds
    of later steps is done again, and replaced."""

    def __init__(self, path: Path, steps: int, number: int) -> None:
        self._path, self._every, self._written_s = path, max(1, steps // POINTS), time.monotonic()
        self._open: dict[str, list[float]] = {}
        self._curves: dict[str, list[list[float]]] = {}
        if number and path.is_file():
            told = json.loads(path.read_text(encoding="utf-8"))
            self._curves = {name: [one for one in found if one[0] <= number] for name, found in told.items()}

    def add(self, number: int, losses: Mapping[str, float]) -> None:
        """Of step ``number``, counted from 0. Raises OSError."""
        for name, loss in losses.items():
            self._open.setdefault(name, []).append(loss)
        if (number + 1) % self._every:
            return
        for name, found in self._open.items():
            self._curves.setdefault(name, []).append([number + 1, round(sum(found) / len(found), 5)])
        self._open.clear()
        if time.monotonic() - self._written_s >= WRITE_S:
            self.write()

    def write(self) -> None:
        """Raises OSError."""
        self._written_s = time.monotonic()
        durable.replace(self._path, json.dumps(self._curves).encode())
