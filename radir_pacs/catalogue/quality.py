"""How well the models that serve did, week by week, and what is measured for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import numpy as np
from psycopg.types.json import Jsonb

from radir_pacs.catalogue.database import Row, run
from radir_pacs.catalogue.part import CataloguePart
from radir_pacs.types import F32, ImageKind


@dataclass(frozen=True, kw_only=True)
class QualityRow:
    """A week of a model; ``week`` is its Monday, ``figures`` as `radir_pacs.query.quality` wrote them."""

    week: date
    model_id: str
    kind: ImageKind
    figures: Mapping[str, Any]
    measured_at: datetime


@dataclass(frozen=True, kw_only=True)
class ScannedVectors:
    """Vectors float32 [n, dim] of one region, and the scanner of each. ``trained``: of what the model learned from."""

    scanners: tuple[str | None, ...]
    vectors: F32
    trained: bool = False


class Quality(CataloguePart):
    def keep(self, week: date, model_id: str, kind: ImageKind, figures: Mapping[str, Any]) -> None:
        """A week's figures, in place of those that were measured earlier."""
        values = {"week": week, "model_id": model_id, "kind": kind, "figures": Jsonb(dict(figures))}
        with self._database.transaction() as connection:
            run(connection, "keep_quality", values)

    def rows(self, limit: int = 200) -> tuple[QualityRow, ...]:
        """The newest week first."""
        with self._database.transaction() as connection:
            rows = run(connection, "quality", limit=limit).fetchall()
        return tuple(QualityRow(**row | {"kind": ImageKind(row["kind"])}) for row in rows)

    def reported(self, model_id: str, since: datetime, until: datetime, limit: int) -> tuple[str, ...]:
        """Some studies that came in [since, until), with an encoding and a mined report."""
        values = {"model_id": model_id, "since": since, "until": until, "limit": limit}
        with self._database.transaction() as connection:
            return tuple(row["study_uid"] for row in run(connection, "reported_studies_of_week", values))

    def reports(self, study_uids: Sequence[str]) -> Mapping[str, str]:
        """The report that stands for each study, the one that a retraining would learn from."""
        with self._database.transaction() as connection:
            rows = run(connection, "main_reports", study_uids=list(study_uids)).fetchall()
        return {row["study_uid"]: row["body"] for row in rows if row["body"] is not None}

    def vectors(self, model_id: str, region: str, since: datetime, until: datetime, limit: int) -> ScannedVectors:
        """Of studies that came in [since, until)."""
        values = {"model_id": model_id, "region": region, "since": since, "until": until, "limit": limit}
        with self._database.transaction() as connection:
            return _vectors(run(connection, "vectors_of_week", values).fetchall())

    def training(self, model_id: str, region: str, until: datetime, limit: int) -> ScannedVectors:
        """Of what the model was trained on here; of one that was not, of the first studies that it encoded."""
        values = {"model_id": model_id, "region": region, "until": until, "limit": limit}
        with self._database.transaction() as connection:
            return _vectors(run(connection, "vectors_of_training", values).fetchall())


def _vectors(rows: Sequence[Row]) -> ScannedVectors:
    found = [np.frombuffer(row["vector"], "<f4") for row in rows]
    return ScannedVectors(
        scanners=tuple(row["scanner"] for row in rows),
        vectors=np.stack(found).astype(np.float32) if found else np.empty((0, 0), np.float32),
        trained=bool(rows and rows[0].get("trained")),
    )
