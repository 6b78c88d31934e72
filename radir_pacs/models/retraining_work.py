"""The work folders of retraining runs: checkpoints, and network inputs prepared from patients' pixels.

A run needs its work folder only to go on: without it, ``--resume`` prepares the inputs again and trains from the start.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path

from radir_pacs.catalogue import Catalogue, RetrainingRun
from radir_pacs.errors import Conflict
from radir_pacs.models.run_files import WORK, run_folder

log = logging.getLogger(__name__)

MAY_GO_ON = frozenset({"PENDING", "RUNNING", "FAILED"})


def clear_old_work(catalogue: Catalogue, home: Path, keep_days: float) -> tuple[int, ...]:
    """Remove what no run will go on with, and what one that failed or stopped has left alone for so long.

    Returns the runs' numbers. The work of a run that a process is at stays.
    """
    since = datetime.now(UTC) - timedelta(days=keep_days)

    def is_over(run: RetrainingRun) -> bool:
        return run.state not in MAY_GO_ON or run.changed_at < since

    return _cleared(catalogue, home, [run.id for run in _of_folders(catalogue, home) if not run.held and is_over(run)])


def clear_work(catalogue: Catalogue, home: Path, run_id: int | None = None) -> tuple[int, ...]:
    """Remove the work of one run, or of all that no process is at; returns the runs' numbers.

    Raises NotFound, Conflict for one that a process is at.
    """
    if run_id is None:
        return _cleared(catalogue, home, [run.id for run in _of_folders(catalogue, home) if not run.held])
    if catalogue.retraining.get(run_id).held:
        raise Conflict(f"a process is at retraining {run_id}: radir retrain cancel {run_id} stops it")
    return _cleared(catalogue, home, [run_id])


def cancel_retraining(catalogue: Catalogue, home: Path, run_id: int) -> str:
    """As `Retraining.ask_to_cancel`; where no process is at the run, its work is removed at once."""
    state = catalogue.retraining.ask_to_cancel(run_id)
    if state == "CANCELLED":
        clear_work(catalogue, home, run_id)
    return state


def _of_folders(catalogue: Catalogue, home: Path) -> list[RetrainingRun]:
    numbers = {int(work.parent.name) for work in (home / "retraining").glob(f"*/{WORK}") if work.parent.name.isdigit()}
    return [catalogue.retraining.get(number) for number in sorted(numbers & catalogue.retraining.numbers())]


def _cleared(catalogue: Catalogue, home: Path, runs: Collection[int]) -> tuple[int, ...]:
    gone = []
    for run_id in runs:
        folder = run_folder(home, run_id) / WORK
        # A process that takes the run at this moment makes its work folder again.
        if folder.is_dir() and not catalogue.retraining.get(run_id).held:
            shutil.rmtree(folder, ignore_errors=True)
            gone.append(run_id)
            log.info("work of a retraining removed", extra={"run": run_id})
    return tuple(gone)
