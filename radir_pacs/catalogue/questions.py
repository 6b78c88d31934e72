"""All that a similar-case query asks of the catalogue, in two round trips, and a third where there is news."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from radir_pacs.callers import Caller
from radir_pacs.catalogue.audit import noted
from radir_pacs.catalogue.cases import MOST_NEWS, case_changes, ids_of
from radir_pacs.catalogue.database import Connection, Row, run
from radir_pacs.catalogue.encodings import changes_of, encoding_of, owner_of
from radir_pacs.catalogue.index_rows import (
    Answering,
    CaseChanges,
    Changes,
    EncodingOwner,
    GenerationRow,
    Question,
)
from radir_pacs.catalogue.part import CataloguePart
from radir_pacs.catalogue.studies import study_of
from radir_pacs.errors import NotFound
from radir_pacs.similar_cases import Filters
from radir_pacs.types import I64, ImageKind, PartitionKey

Said = tuple[Any, ...]
"""What mining wrote of a study's reports: one JSON value for each, oldest first."""


class Questions(CataloguePart):
    def ask(
        self,
        study_uid: str,
        filters: Filters,
        *,
        cases: Mapping[str, str],
        partitions: Mapping[PartitionKey, tuple[str, int]],
        under: str | None = None,
    ) -> Question:
        """The study, what never answers it, and the news since the readings that are named.

        under: the model that answers; None: those that serve at this moment.
        cases: the ``xid`` of the last reading by model; partitions: the same by place, with the length of its vectors.
        News that are more than can be read one by one are left out. Raises NotFound for a study that is not there.
        """
        since = dict(cases)
        for (model_id, _), (xid, _) in partitions.items():
            since[model_id] = min(xid, since.get(model_id, xid), key=int)
        values = {
            "study_uid": study_uid,
            "under": under,
            "models": [model_id for model_id, _ in partitions],
            "regions": [region for _, region in partitions],
            "read_models": list(since),
            "since": list(since.values()),
            "changed_since": min(cases.values(), key=int, default=None),
        }
        found = self._database.ask("question", values | _barring(study_uid, filters))
        if not found:
            raise NotFound(f"there is no study {study_uid}")
        first = found[0]
        fresh_cases, fresh_partitions = self._news(first, cases, partitions, since)
        return Question(
            study=study_of(first),
            answering=tuple(_answering(row) for row in found if row["label"] is not None),
            excluded=np.array(first["excluded"], np.int64),
            newest=first["newest"],
            cases=fresh_cases,
            partitions=fresh_partitions,
            published={place: name for place, name in zip(partitions, first["published"], strict=True) if name},
            said=_said(first),
        )

    def published(self, places: Iterable[PartitionKey]) -> dict[PartitionKey, GenerationRow]:
        """The builds that answer for some partitions now; one that has only a tail is missing."""
        models, regions = zip(*places, strict=True) if places else ((), ())
        with self._database.transaction() as connection:
            rows = run(connection, "published_generations", models=list(models), regions=list(regions))
            return {(row["model_id"], row["region"]): GenerationRow(**row) for row in rows}

    def shown(
        self,
        labels: Sequence[int] | I64,
        study_uid: str,
        filters: Filters,
        *,
        caller: Caller | None,
        region: str = "",
        model_id: str = "",
        words_of: str | None = None,
        explained: bool = True,
    ) -> tuple[dict[int, EncodingOwner], dict[str, Said]]:
        """Whose encodings these are, and what reports say of their studies; without a mined report, one is missing.

        The same transaction records that ``caller`` asked and is shown these cases; None: nobody sees them. words_of:
        what a question in words was about (`WordsOf`); its text, in which somebody may be named, is not recorded.
        explained: whether what reports say is asked about, which looks each study up once more.
        A hit that must not be shown is missing: a deleted encoding, and one that never answers, which may have come
        since the question was asked.
        """
        values: dict[str, Any] = {"ids": [int(label) for label in labels], "query_study_uid": study_uid}
        values["explained"] = explained
        values |= noted(caller, {"region": region, "model": model_id, "words_of": words_of})
        rows = self._database.ask("encoding_owners", values | _barring(study_uid, filters))
        owners = {row["encoding_id"]: owner_of(row) for row in rows}
        return owners, {row["study_uid"]: _said(row) for row in rows if row["said"] is not None}

    def _news(
        self,
        first: Row,
        cases: Mapping[str, str],
        partitions: Mapping[PartitionKey, tuple[str, int]],
        since: Mapping[str, str],
    ) -> tuple[dict[str, CaseChanges], dict[PartitionKey, Changes]]:
        """By model and by place. The snapshot of ``first`` is the earlier one, so that nothing is missed."""
        xid, horizon = first["xmin"], first["horizon"]
        if first["has_news"]:
            return self._database.read(lambda connection: _sent(connection, cases, partitions, since))(xid, horizon)
        return (
            {model_id: case_changes((), _NONE, xid, horizon) for model_id in cases},
            {place: changes_of((), _NONE, xid, horizon, dim) for place, (_, dim) in partitions.items()},
        )


_NONE: I64 = np.empty(0, np.int64)


def _barring(study_uid: str, filters: Filters) -> dict[str, Any]:
    """Whose encodings never answer."""
    return {"study_uids": [study_uid, *filters.exclude_studies], "same_patient": filters.exclude_same_patient}


def _answering(row: Row) -> Answering:
    return Answering(
        kind=ImageKind(row["kind"]),
        label=row["label"],
        encoding=encoding_of(row),
        intended_use=row["intended_use"] or None,
        coverage=row["coverage"],
    )


def _said(row: Row) -> Said:
    return tuple(orjson.loads(row["said"])) if row["said"] is not None else ()


def _sent(
    connection: Connection,
    cases: Mapping[str, str],
    partitions: Mapping[PartitionKey, tuple[str, int]],
    since: Mapping[str, str],
) -> Callable[[str, str], tuple[dict[str, CaseChanges], dict[PartitionKey, Changes]]]:
    """Send the statements; what they found is read by calling the result with the snapshot's xmin and horizon."""
    gone = {
        model_id: run(connection, "encodings_gone_since", model_id=model_id, since=xid)
        for model_id, xid in since.items()
    }
    renewed = {
        model_id: run(connection, "cases_since", model_id=model_id, since=xid, most=MOST_NEWS + 1)
        for model_id, xid in cases.items()
    }
    added = {
        (model_id, region): run(
            connection, "encodings_since", model_id=model_id, region=region, since=xid, most=MOST_NEWS + 1
        )
        for (model_id, region), (xid, _) in partitions.items()
    }

    def news(xid: str, horizon: str) -> tuple[dict[str, CaseChanges], dict[PartitionKey, Changes]]:
        dropped = {model_id: ids_of(rows) for model_id, rows in gone.items()}
        return (
            {
                model_id: case_changes(rows.fetchall(), dropped[model_id], xid, horizon)
                for model_id, rows in renewed.items()
                if rows.rowcount <= MOST_NEWS
            },
            {
                place: changes_of(rows.fetchall(), dropped[place[0]], xid, horizon, partitions[place][1])
                for place, rows in added.items()
                if rows.rowcount <= MOST_NEWS
            },
        )

    return news
