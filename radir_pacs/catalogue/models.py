"""The life of models: registered, in shadow, serving, retired; which one answers, and the history that says why.

Every change is one transaction with its line in the history. They are rare and wait for one another.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from psycopg.types.json import Jsonb

from radir_pacs.catalogue.database import Connection, Row, run
from radir_pacs.catalogue.model_rows import Coverage, ModelEvent, ModelProgress, ModelRow
from radir_pacs.catalogue.part import CataloguePart
from radir_pacs.config import DAY_S
from radir_pacs.errors import Conflict, NotCovered, NotFound
from radir_pacs.types import ImageKind, ModelChange, ModelState, Urgency, modalities_of_kind


class Models(CataloguePart):
    def register(
        self,
        model_id: str,
        kind: ImageKind,
        dim: int,
        manifest: Mapping[str, Any],
        *,
        by: str,
        reason: str,
        evidence: str = "",
        bundle_sha256: str | None = None,
    ) -> bool:
        """Make a model known. False: it was, and nothing but the copy of its bundle is noted.

        bundle_sha256: of the manifest of the copy in ``models/<model_id>``; without one nothing is encoded by it.
        Raises Conflict for a known id of another kind or length.
        """
        with self._database.transaction() as connection:
            values = {"model_id": model_id, "kind": kind, "dim": dim, "manifest": Jsonb(dict(manifest))}
            is_new = run(connection, "register_model", values).fetchone() is not None
            model = _model(connection, model_id)
            if (model.kind, model.dim) != (kind, dim):
                raise Conflict(f"model {model_id} is known with another kind or vector length")
            if bundle_sha256 is not None:
                run(connection, "model_has_bundle", model_id=model_id, sha256=bundle_sha256)
            if is_new:
                _tell(connection, model, ModelChange.REGISTERED, by, reason, evidence)
        return is_new

    def serving(self, kind: ImageKind) -> ModelRow | None:
        """The model that answers for a kind; None when there is none."""
        with self._database.transaction() as connection:
            return _serving(connection, kind)

    def get(self, model_id: str) -> ModelRow | None:
        """A model by its id, whatever its state."""
        with self._database.transaction() as connection:
            row = run(connection, "model", model_id=model_id).fetchone()
        return None if row is None else _model_of(row)

    def all(self) -> tuple[ModelRow, ...]:
        """Every model, by kind: the one that answers, then those in shadow, retired, registered."""
        return self._models(kept=False)

    def kept(self) -> tuple[ModelRow, ...]:
        """The models whose encodings and index are kept up to date: serving, in shadow, and to go back to."""
        return self._models(kept=True)

    def _models(self, *, kept: bool) -> tuple[ModelRow, ...]:
        with self._database.transaction() as connection:
            return tuple(map(_model_of, run(connection, "models", kept=kept).fetchall()))

    def set_shadow(self, model_id: str, *, by: str, reason: str, evidence: str = "") -> ModelRow:
        """From now on it encodes new studies and, in the background, the archive; it answers nobody.

        Raises NotFound; Conflict when it serves, has no bundle here, or another of its kind is in shadow.
        """
        with self._database.transaction() as connection:
            run(connection, "lock_models")
            model = _model(connection, model_id)
            if model.state in (ModelState.SHADOW, ModelState.SERVING):
                raise Conflict(f"{model_id} is {model.state} already")
            if model.bundle_sha256 is None:
                raise Conflict(f"the bundle of {model_id} is not here: register its folder first")
            others = [_model_of(row) for row in run(connection, "models", kept=True)]
            for other in others:
                if other.kind is model.kind and other.state is ModelState.SHADOW:
                    raise Conflict(f"{other.model_id} is in shadow: one of a kind at a time; retire it first")
            _set(connection, model, ModelState.SHADOW, feed=True)
            _tell(connection, model, ModelChange.SHADOWED, by, reason, evidence)
            return _model(connection, model_id)

    def coverage(self, model_id: str) -> Coverage:
        """How many studies of its kind the model has encoded, of those that some kept model has. Raises NotFound."""
        with self._database.transaction() as connection:
            return _coverage(connection, _model(connection, model_id))

    def progress(self, model_id: str) -> ModelProgress:
        """How its encoding of the archive goes. Raises NotFound."""
        with self._database.transaction() as connection:
            coverage = _coverage(connection, _model(connection, model_id))
            row = run(connection, "model_progress", model_id=model_id).fetchone()
        assert row is not None
        return ModelProgress(coverage=coverage, **row)

    def promote(
        self,
        model_id: str,
        *,
        by: str,
        reason: str,
        evidence: str = "",
        least_coverage: float = 1.0,
        instead_of: str | None = "",
    ) -> ModelRow:
        """The model answers for its kind from the next question on, in every process.

        The one before it is kept, and encodes new studies, for ``model_rollback_days``. instead_of: the model that
        answered when this was decided (None: none did); empty asks for no such check.
        Raises NotFound; NotCovered with the numbers; Conflict when it serves already, or another does than was thought.
        """
        with self._database.transaction() as connection:
            run(connection, "lock_models")
            model, before = _model(connection, model_id), None
            before = _serving(connection, model.kind)
            if before is not None and before.model_id == model_id:
                raise Conflict(f"{model_id} serves already")
            _check_replaced(before, instead_of)
            if model.state is ModelState.RETIRED and model.bundle_sha256 is None and least_coverage > 0:
                raise Conflict(f"the bundle of {model_id} is not here: register its folder first")
            coverage = _coverage(connection, model)
            if before is not None and coverage.share < least_coverage:
                raise NotCovered(model_id, coverage.encoded, coverage.total, least_coverage)
            self._serve(connection, model, before, coverage)
            _tell(connection, model, ModelChange.PROMOTED, by, reason, evidence, before, coverage)
            return _model(connection, model_id)

    def served_before(self, kind: ImageKind) -> ModelRow | None:
        """The model that a rollback would lead to; None where there is none."""
        with self._database.transaction() as connection:
            serving = _serving(connection, kind)
            row = run(connection, "served_before", model_id=serving.model_id).fetchone() if serving else None
            return _model(connection, row["replaces"]) if row is not None and row["replaces"] is not None else None

    def rollback(
        self, kind: ImageKind, *, by: str, reason: str, evidence: str = "", instead_of: str = ""
    ) -> tuple[ModelRow, Coverage]:
        """The model that answered before the last promotion answers again, with the encodings and index it had.

        It has encoded new studies meanwhile; the few that it still lacks are encoded next. instead_of: the model that
        answered when this was decided, so that a rollback that is asked for twice leads no further back; empty asks
        for no such check. Raises NotFound when nothing serves or served before, Conflict when another model serves than
        was thought, or what is needed was cleared away.
        """
        with self._database.transaction() as connection:
            run(connection, "lock_models")
            serving = _serving(connection, kind)
            if serving is None:
                raise NotFound(f"no model serves {kind}")
            _check_replaced(serving, instead_of)
            row = run(connection, "served_before", model_id=serving.model_id).fetchone()
            if row is None or row["replaces"] is None:
                raise NotFound(f"no model served {kind} before {serving.model_id}")
            model = _model(connection, row["replaces"])
            kept = {one["model_id"] for one in run(connection, "models", kept=True)}
            if model.model_id not in kept or model.bundle_sha256 is None:
                raise Conflict(f"{model.model_id} served before, but its encodings are kept no more: promote another")
            coverage = _coverage(connection, model)
            self._serve(connection, model, serving, coverage)
            _tell(connection, model, ModelChange.ROLLED_BACK, by, reason, evidence, serving, coverage)
            return _model(connection, model.model_id), coverage

    def _serve(self, connection: Connection, model: ModelRow, before: ModelRow | None, coverage: Coverage) -> None:
        if before is not None:
            _set(connection, before, ModelState.RETIRED, keep_s=self._settings.model_rollback_days * DAY_S)
        _set(connection, model, ModelState.SERVING, feed=coverage.share < 1, coverage=coverage.share)
        run(connection, "hurry_model", model_id=model.model_id, urgency=Urgency.NEW)
        attempts = self._settings.job_max_attempts
        run(connection, "encode_skipped", max_attempts=attempts, urgency=Urgency.ARCHIVE)
        if before is None:
            of_kind = {
                "model_id": model.model_id,
                "kind": model.kind,
                "modalities": sorted(modalities_of_kind(model.kind)),
            }
            run(connection, "encode_kind", of_kind, max_attempts=attempts, urgency=Urgency.ARCHIVE)

    def retire(self, model_id: str, *, by: str, reason: str, evidence: str = "") -> None:
        """It encodes no more; what it encoded is cleared away. Raises NotFound; Conflict for the one that serves."""
        with self._database.transaction() as connection:
            run(connection, "lock_models")
            model = _model(connection, model_id)
            if model.state is ModelState.SERVING:
                raise Conflict(f"{model_id} serves: promote another, or roll back")
            _set(connection, model, ModelState.RETIRED, keep_s=0.0)
            _tell(connection, model, ModelChange.RETIRED, by, reason, evidence)

    def history(self, model_id: str | None = None) -> tuple[ModelEvent, ...]:
        """All that happened to models, or to one, oldest first."""
        with self._database.transaction() as connection:
            rows = run(connection, "model_events", model_id=model_id).fetchall()
        typed = [{"kind": ImageKind(row["kind"]), "change": ModelChange(row["change"])} for row in rows]
        return tuple(ModelEvent(**row | given) for row, given in zip(rows, typed, strict=True))


def _model(connection: Connection, model_id: str) -> ModelRow:
    row = run(connection, "model", model_id=model_id).fetchone()
    if row is None:
        raise NotFound(f"there is no model {model_id}")
    return _model_of(row)


def _serving(connection: Connection, kind: ImageKind) -> ModelRow | None:
    row = run(connection, "serving_model", kind=kind).fetchone()
    return None if row is None else _model_of(row)


def _check_replaced(serving: ModelRow | None, instead_of: str | None) -> None:
    """Raises Conflict where another model serves than the one that was to be replaced."""
    if instead_of != "" and instead_of != (serving.model_id if serving else None):
        now = serving.model_id if serving else "no model"
        raise Conflict(f"{now} began to serve meanwhile, instead of {instead_of or 'none'}: look again")


def _coverage(connection: Connection, model: ModelRow) -> Coverage:
    row = run(connection, "model_coverage", model_id=model.model_id, kind=model.kind).fetchone()
    assert row is not None
    return Coverage(encoded=row["encoded"], total=row["encoded"] + row["lacking"])


def _set(
    connection: Connection,
    model: ModelRow,
    state: ModelState,
    *,
    keep_s: float | None = None,
    feed: bool = False,
    coverage: float | None = None,
) -> None:
    values = {"model_id": model.model_id, "state": state, "keep_s": keep_s, "feed": feed, "coverage": coverage}
    run(connection, "set_model_state", values)


def _tell(
    connection: Connection,
    model: ModelRow,
    change: ModelChange,
    by: str,
    reason: str,
    evidence: str,
    replaces: ModelRow | None = None,
    coverage: Coverage | None = None,
) -> None:
    values = {"model_id": model.model_id, "kind": model.kind, "change": change, "who": by, "reason": reason}
    replaced = {"replaces": replaces.model_id if replaces else None, "evidence": evidence}
    run(connection, "add_model_event", values | replaced, coverage=coverage.share if coverage else None)


def _model_of(row: Row) -> ModelRow:
    return ModelRow(**row | {"kind": ImageKind(row["kind"]), "state": ModelState(row["state"])})
