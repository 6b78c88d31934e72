"""The models that encode, and which of them is active for its kind of image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from psycopg.types.json import Jsonb

from radir_pacs.catalogue.database import Row, run
from radir_pacs.catalogue.part import CataloguePart
from radir_pacs.catalogue.rows import ModelRow
from radir_pacs.errors import Conflict
from radir_pacs.types import ImageKind, Urgency


class Models(CataloguePart):
    def register(self, model_id: str, kind: ImageKind, dim: int, manifest: Mapping[str, Any]) -> None:
        """Make this model the active one of its kind; studies that it has not encoded yet get their jobs.

        Raises Conflict for a known id of another kind or length.
        """
        values = {"model_id": model_id, "kind": kind, "dim": dim, "manifest": Jsonb(dict(manifest))}
        with self._database.transaction() as connection:
            active = run(connection, "active_model", kind=kind).fetchone()
            if active and active["model_id"] == model_id and active["dim"] == dim:
                return
            run(connection, "lock_models")
            run(connection, "register_model", values)
            row = run(connection, "model", model_id=model_id).fetchone()
            if row is None or (row["kind"], row["dim"]) != (kind, dim):
                raise Conflict(f"model {model_id} is known with another kind or vector length")
            run(connection, "retire_models", kind=kind, model_id=model_id)
            run(connection, "activate_model", model_id=model_id)
            run(
                connection,
                "encode_again",
                values,
                max_attempts=self._settings.job_max_attempts,
                urgency=Urgency.ARCHIVE,
            )

    def active(self, kind: ImageKind) -> ModelRow | None:
        """The active model of a kind; None when there is none."""
        with self._database.transaction() as connection:
            row = run(connection, "active_model", kind=kind).fetchone()
        return None if row is None else _model_of(row)

    def get(self, model_id: str) -> ModelRow | None:
        """A model by its id, active or not."""
        with self._database.transaction() as connection:
            row = run(connection, "model", model_id=model_id).fetchone()
        return None if row is None else _model_of(row)


def _model_of(row: Row) -> ModelRow:
    return ModelRow(**{**row, "kind": ImageKind(row["kind"])})
