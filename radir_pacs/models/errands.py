"""What the relay begins as processes of their own: a retraining that somebody asked for, at once; in off-peak hours the
retrainings of the schedule, and the weekly look at quality.

A retraining by schedule is one like any other: it ends with a challenger in shadow at most, and what serves is changed
by a person, or by ``promote_when_covered`` where that is set.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Protocol

from radir_pacs import metrics
from radir_pacs.catalogue import Catalogue, QualityRow, RetrainingRun
from radir_pacs.config import DAY_S, Settings, hours_of, to_environment
from radir_pacs.types import ImageKind

log = logging.getLogger(__name__)

SCHEDULE = "rule:retrain_every_days"
AGAIN_S = 3600.0  # between two tries of what fails
ASKED_AGAIN_S = (
    60.0  # of a run that somebody asked for and that has not begun: its process ended before it held the run
)
ATTEMPTS = 5  # at one step of a run, by processes that were killed: more memory will not come by itself
NICE = 10  # what is begun so leaves the processor to everybody else
Command = tuple[str, ...]
QUALITY: Command = ("quality", "--measure")
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
        self._running: Command | None = None
        self._begun: dict[Command, datetime] = {}

    def look(self) -> None:
        """Begin what is due, one at a time."""
        for number in self._catalogue.retraining.end_cancelled():
            log.info("a retraining that lost its process is cancelled", extra={"run": number})
        for number in self._catalogue.retraining.give_up(SCHEDULE, ATTEMPTS):
            log.error("a retraining ends no step: given up", extra={"run": number})
        runs = self._process is not None and self._process.poll() is None
        if not runs and self._running == QUALITY:
            self._running = None
            self._tell_notices()
        if runs:
            return
        command = next((command for command, again_s in self._due() if self._may_begin(command, again_s)), None)
        if command is not None:
            self._begun[command] = self._now()
            log.info("begun by schedule", extra={"command": " ".join(command)})
            self._process, self._running = self._begin(command), command

    def close(self) -> None:
        """Interrupt what was begun, as Ctrl-C does: without its database nothing goes on. A retraining is resumed."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)

    def _may_begin(self, command: Command, again_s: float) -> bool:
        """What failed a short time ago waits, so that the others have their turn."""
        return abs((self._now() - self._begun.get(command, _NEVER)).total_seconds()) >= again_s

    def _due(self) -> Iterator[tuple[Command, float]]:
        """Commands, and the seconds between two tries of each."""
        runs = self._catalogue.retraining.runs()
        is_quiet = is_within(self._now(), self._settings.off_peak_hours)
        if not any(run.held for run in runs):
            for run in runs:  # one that was killed goes on where it stopped
                if run.state in ("PENDING", "RUNNING") and (run.asked or (is_quiet and self._is_scheduled(run))):
                    is_new = run.asked and run.state == "PENDING"  # or somebody asked again, after mending something
                    yield ("retrain", "--resume", str(run.id)), ASKED_AGAIN_S if is_new else AGAIN_S
            if is_quiet:
                yield from ((command, AGAIN_S) for command in self._retraining(runs))
        if is_quiet:
            yield from ((command, AGAIN_S) for command in self._quality())

    def _is_scheduled(self, run: RetrainingRun) -> bool:
        return bool(self._settings.retrain_every_days) and run.started_by == SCHEDULE

    def _retraining(self, runs: Sequence[RetrainingRun]) -> Iterator[Command]:
        every_s = self._settings.retrain_every_days * DAY_S
        if not every_s:
            return
        for kind in ImageKind:
            begun = max((run.created_at for run in runs if run.kind is kind), default=None)
            is_due = begun is None or abs((self._now() - begun).total_seconds()) >= every_s
            if is_due and self._catalogue.models.serving(kind) is not None:
                yield ("retrain", "--scheduled", "--kind", kind.value)

    def _quality(self) -> Iterator[Command]:
        if not self._settings.quality_weekly:
            return
        known = {row.model_id for row in self._last_week()}
        serving = [model for kind in ImageKind if (model := self._catalogue.models.serving(kind)) is not None]
        if serving and not all(model.model_id in known for model in serving):
            yield QUALITY

    def _last_week(self) -> list[QualityRow]:
        week = week_of(self._now().astimezone(UTC).date()) - timedelta(days=7)
        return [row for row in self._catalogue.quality.rows() if row.week == week]

    def _tell_notices(self) -> None:
        for row in self._last_week():
            for notice in row.figures["notices"]:
                log.warning("quality notice", extra={"model": row.model_id, "code": notice["code"]})


def week_of(day: date) -> date:
    """The Monday of its week (ISO 8601). Weeks are those of UTC everywhere."""
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
            nicely("radir_pacs.cli", *command),
            env={**metrics.alone(os.environ), **to_environment(settings)},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )


def nicely(module: str, *arguments: str) -> list[str]:
    """The command line that runs one of our modules at a low priority, which one of a low priority keeps."""
    return [sys.executable, "-c", _NICELY, sys.executable, "-m", module, *arguments]


_NICELY = f"import os, sys; os.nice(max(0, {NICE} - os.nice(0))); os.execv(sys.argv[1], sys.argv[1:])"
