"""What is begun by itself in off-peak hours, as processes of their own: retrainings, and the weekly look at quality.

A retraining by schedule is one like any other: it ends with a challenger in shadow at most, and what serves is changed
by a person, or by ``promote_when_covered`` where that is set.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Protocol

from radir_pacs.catalogue import Catalogue
from radir_pacs.config import DAY_S, Settings, hours_of, to_environment
from radir_pacs.types import ImageKind

log = logging.getLogger(__name__)

SCHEDULE = "rule:retrain_every_days"
AGAIN_S = 3600.0  # between two tries of what fails
NICE = 10  # what is begun so leaves the processor to everybody else
Command = tuple[str, ...]
_NEVER = datetime.min.replace(tzinfo=UTC)


class Process(Protocol):
    """A command that was begun; as `subprocess.Popen`."""

    def poll(self) -> int | None: ...

    def send_signal(self, sig: int) -> None: ...


class Errands:
    """``begin`` starts a command of ours."""

    def __init__(
        self,
        catalogue: Catalogue,
        settings: Settings,
        begin: Callable[[Command], Process] | None = None,
        now: Callable[[], datetime] = lambda: datetime.now().astimezone(),
    ) -> None:
        self._catalogue, self._settings, self._now = catalogue, settings, now
        self._begin = begin or (lambda command: started(command, settings))
        self._process: Process | None = None
        self._begun: dict[Command, datetime] = {}

    def look(self) -> None:
        """Every minute: begin what is due, one at a time."""
        runs = self._process is not None and self._process.poll() is None
        if runs or not is_within(self._now(), self._settings.off_peak_hours):
            return
        command = self._retraining() or self._quality()
        if command is not None and (self._now() - self._begun.get(command, _NEVER)).total_seconds() >= AGAIN_S:
            self._begun[command] = self._now()
            log.info("begun by schedule", extra={"command": " ".join(command)})
            self._process = self._begin(command)

    def close(self) -> None:
        """Interrupt what was begun, as Ctrl-C does: without its database nothing goes on. A retraining is resumed."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)

    def _retraining(self) -> Command | None:
        every_s = self._settings.retrain_every_days * DAY_S
        runs = self._catalogue.retraining.runs()
        if not every_s or any(run.held for run in runs):
            return None
        for run in runs:  # of our own that was killed: goes on where it stopped
            if run.started_by == SCHEDULE and run.state in ("PENDING", "RUNNING"):
                return ("retrain", "--resume", str(run.id))
        for kind in ImageKind:
            begun = max((run.created_at for run in runs if run.kind is kind), default=None)
            is_due = begun is None or abs((self._now() - begun).total_seconds()) >= every_s
            if is_due and self._catalogue.models.serving(kind) is not None:
                return ("retrain", "--scheduled", "--kind", kind.value)
        return None

    def _quality(self) -> Command | None:
        if not self._settings.quality_weekly:
            return None
        week = week_of(self._now().date()) - timedelta(days=7)
        known = {row.model_id for row in self._catalogue.quality.rows() if row.week == week}
        serving = [model for kind in ImageKind if (model := self._catalogue.models.serving(kind)) is not None]
        if serving and not all(model.model_id in known for model in serving):
            return ("quality", "--measure")
        return None


def week_of(day: date) -> date:
    """The Monday of its week (ISO 8601)."""
    return day - timedelta(days=day.weekday())


def is_within(now: datetime, hours: str) -> bool:
    """Whether a moment is in the hours that a setting names."""
    since, until = hours_of(hours)
    return since <= now.hour < until if since < until else now.hour >= since or now.hour < until


def started(command: Command, settings: Settings) -> Process:
    """A command in a process of its own; its words go to ``logs/errands.log``."""
    path = settings.home / "logs" / "errands.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-c", _NICELY, sys.executable, "-m", "radir_pacs.cli", *command],
            env={**os.environ, **to_environment(settings)},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )


_NICELY = f"import os, sys; os.nice({NICE}); os.execv(sys.argv[1], sys.argv[1:])"
