"""Runs of retraining: plan, steps, lease, snapshot. What is done in them is `radir_training.retraining`'s."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any

from psycopg.types.json import Jsonb

from radir_pacs.catalogue.database import Connection, Row, run
from radir_pacs.catalogue.model_rows import (
    JudgedPair,
    RetrainingRun,
    RetrainingStep,
    SnapshotStudy,
    StudyToTrain,
)
from radir_pacs.catalogue.part import CataloguePart
from radir_pacs.errors import Conflict, LeaseLost, NotFound
from radir_pacs.reasons import ReasonCode
from radir_pacs.types import ImageKind, StepState

PAGE = 500
BEGINS_S = 60.0  # from its start until a process is at a run


class Retraining(CataloguePart):
    """A run is held by one process at a time: a lease, renewed by ``renew``, with a token that fences off the last
    holder. Methods that take a token raise LeaseLost where somebody else holds the run by now."""

    def start(
        self,
        *,
        kind: ImageKind,
        depth: str,
        plan: Mapping[str, Any],
        plan_sha256: str,
        champion: str,
        started_by: str,
        steps: Sequence[str],
        least_days: float = 0.0,
        asked: bool = False,
    ) -> int:
        """A run and its steps, none begun; returns its number. ``asked``: for the relay to begin.

        Raises Conflict while a process is at another run or one was started a moment ago, and where the last run of the
        kind is younger than ``least_days``.
        """
        values = {
            "kind": kind,
            "depth": depth,
            "plan": Jsonb(dict(plan)),
            "plan_sha256": plan_sha256,
            "champion": champion,
            "started_by": started_by,
            "asked": asked,
        }
        with self._database.transaction() as connection:
            run(connection, "lock_retraining")
            limits = {"least_days": least_days, "begins_s": BEGINS_S}
            row = run(connection, "start_retraining", values, **limits).fetchone()
            if row is None:
                raise Conflict(
                    "a process is at another retraining, one was started a moment ago, or the last one is too young: "
                    "radir retrain list"
                )
            run(connection, "add_retraining_steps", run_id=row["id"], names=list(steps))
        return int(row["id"])

    def runs(self, limit: int = 100) -> tuple[RetrainingRun, ...]:
        """The newest first."""
        with self._database.transaction() as connection:
            return tuple(_run_of(row) for row in run(connection, "retraining_runs", run_id=None, limit=limit))

    def numbers(self) -> set[int]:
        """Of all runs."""
        with self._database.transaction() as connection:
            return {int(row["id"]) for row in run(connection, "retraining_numbers")}

    def get(self, run_id: int) -> RetrainingRun:
        """Raises NotFound."""
        with self._database.transaction() as connection:
            row = run(connection, "retraining_runs", run_id=run_id, limit=1).fetchone()
        if row is None:
            raise NotFound(f"there is no retraining {run_id}")
        return _run_of(row)

    def steps(self, run_id: int) -> tuple[RetrainingStep, ...]:
        with self._database.transaction() as connection:
            rows = run(connection, "retraining_steps", run_id=run_id).fetchall()
        return tuple(RetrainingStep(**(row | {"state": StepState(row["state"])})) for row in rows)

    def ask(self, run_id: int) -> None:
        """Have the relay begin the run or go on with it. Raises Conflict where it has ended or a process is at it."""
        with self._database.transaction() as connection:
            run(connection, "lock_retraining")
            row = run(connection, "ask_for_retraining", run_id=run_id).fetchone()
        if row is None:
            raise Conflict(f"retraining {run_id} has ended, or a process is at it")

    def hold(self, run_id: int, worker: str, lease_s: float) -> int:
        """Take the run; returns the token. Raises Conflict where it has ended, or somebody holds it or another one."""
        with self._database.transaction() as connection:
            run(connection, "lock_retraining")
            row = run(connection, "hold_retraining", run_id=run_id, worker=worker, lease_s=lease_s).fetchone()
        if row is None:
            raise Conflict(f"retraining {run_id} has ended, or another process is at it or at another run")
        return int(row["token"])

    def renew(self, run_id: int, token: int, lease_s: float) -> bool:
        """Whether somebody asked for the run to be cancelled."""
        with self._database.transaction() as connection:
            row = run(connection, "renew_retraining", run_id=run_id, token=token, lease_s=lease_s).fetchone()
        if row is None:
            raise LeaseLost
        return bool(row["cancel_asked"])

    def let_go(self, run_id: int, token: int) -> None:
        """Leave the run to whoever resumes or cancels it, at once; nothing where somebody else holds it."""
        with self._database.transaction() as connection:
            run(connection, "let_go_of_retraining", run_id=run_id, token=token)

    def tell(
        self,
        run_id: int,
        token: int,
        number: int,
        state: StepState,
        *,
        progress: float = 0.0,
        note: str = "",
        artefacts: Mapping[str, str] | None = None,
        begins: bool = False,
    ) -> None:
        """What a step is doing, or that it is done, with the files it left."""
        values = {
            "run_id": run_id,
            "token": token,
            "number": number,
            "state": state,
            "progress": progress,
            "note": note,
            "artefacts": Jsonb(dict(artefacts or {})),
            "begins": begins,
        }
        self._fenced("tell_retraining_step", values)

    def note(self, run_id: int, token: int, *, challenger: str | None = None, passed: bool | None = None) -> None:
        """What was trained, and whether it passed all gates."""
        self._fenced("note_challenger", {"run_id": run_id, "token": token, "challenger": challenger, "passed": passed})

    def end(
        self, run_id: int, token: int, state: str, reason: str | None = None, reason_code: ReasonCode | None = None
    ) -> None:
        """DONE, REFUSED, CANCELLED, or FAILED, which can be resumed."""
        values = {"run_id": run_id, "token": token, "state": state, "reason": reason, "reason_code": reason_code}
        self._fenced("end_retraining", values)

    def ask_to_cancel(self, run_id: int) -> str:
        """The state of the run after that: RUNNING while its process comes to an end. Raises NotFound, Conflict."""
        with self._database.transaction() as connection:
            row = run(connection, "ask_to_cancel_retraining", run_id=run_id).fetchone()
        if row is None:
            raise Conflict(f"retraining {run_id} is {self.get(run_id).state} and cannot be cancelled")
        return str(row["state"])

    def end_cancelled(self) -> tuple[int, ...]:
        """End what was to be cancelled and has lost its process; returns the numbers."""
        with self._database.transaction() as connection:
            return tuple(row["id"] for row in run(connection, "end_cancelled_retrainings"))

    def give_up(self, started_by: str, attempts: int) -> tuple[int, ...]:
        """FAILED is what was started or asked for so, is held by nobody and has begun a step so often; returns the
        numbers."""
        with self._database.transaction() as connection:
            found = run(connection, "give_up_retrainings", started_by=started_by, attempts=attempts)
            return tuple(row["id"] for row in found)

    def keep_snapshot(self, run_id: int, studies: Sequence[SnapshotStudy]) -> tuple[SnapshotStudy, ...]:
        """With what readers have judged of them; returns what is kept: an earlier snapshot where there is one."""
        values = {
            "study_uids": [study.study_uid for study in studies],
            "revisions": [study.revision for study in studies],
            "report_sha256s": [study.report_sha256 for study in studies],
            "held_out": [study.held_out for study in studies],
        }
        with self._database.transaction() as connection:
            kept = _snapshot(connection, run_id)
            if not kept:
                run(connection, "snapshot_retraining", values, run_id=run_id)
                run(connection, "snapshot_judgements", run_id=run_id)
                kept = _snapshot(connection, run_id)
        return kept

    def snapshot(self, run_id: int) -> tuple[SnapshotStudy, ...]:
        """By UID; without studies that were deleted meanwhile."""
        with self._database.transaction() as connection:
            return _snapshot(connection, run_id)

    def judgements(self, run_id: int) -> tuple[JudgedPair, ...]:
        """Readers' judgements as of the snapshot; without studies that were deleted meanwhile."""
        with self._database.transaction() as connection:
            return tuple(JudgedPair(**row) for row in run(connection, "retraining_judgements", run_id=run_id))

    def once_held_out(self) -> frozenset[str]:
        """Studies that were held out in any run, whoever their patient is by now."""
        return self._once(held_out=True)

    def once_trained_on(self) -> frozenset[str]:
        """Studies that were to be trained on in any run, whoever their patient is by now."""
        return self._once(held_out=False)

    def _once(self, *, held_out: bool) -> frozenset[str]:
        with self._database.transaction() as connection:
            return frozenset(row["study_uid"] for row in run(connection, "once_seen", held_out=held_out))

    def studies(self, model_id: str, since: date | None = None, until: date | None = None) -> Iterator[StudyToTrain]:
        """Complete studies with a report, by UID, a page at a time; ``scanner`` as encoded under that model."""
        after, window = "", {"model_id": model_id, "since": since, "until": until}
        while True:
            with self._database.transaction() as connection:
                rows = run(connection, "studies_to_train", window, after=after, limit=PAGE).fetchall()
            for row in rows:
                yield StudyToTrain(**(row | {"modalities": tuple(row["modalities"])}))
            if len(rows) < PAGE:
                return
            after = rows[-1]["study_uid"]

    def _fenced(self, query: str, values: Mapping[str, Any]) -> None:
        with self._database.transaction() as connection:
            if run(connection, query, values).fetchone() is None:
                raise LeaseLost


def _snapshot(connection: Connection, run_id: int) -> tuple[SnapshotStudy, ...]:
    return tuple(SnapshotStudy(**row) for row in run(connection, "retraining_snapshot", run_id=run_id))


def _run_of(row: Row) -> RetrainingRun:
    code = row["reason_code"]
    typed = {"kind": ImageKind(row["kind"]), "reason_code": None if code is None else ReasonCode(code)}
    return RetrainingRun(**(row | typed))
