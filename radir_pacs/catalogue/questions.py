"""All that a similar-case query asks of the catalogue, in two round trips."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from radir_pacs.catalogue.cases import MOST_NEWS, case_changes, ids_of
from radir_pacs.catalogue.database import Connection, Cursor, run
from radir_pacs.catalogue.encodings import changes_of, encoding_of, owner_of
from radir_pacs.catalogue.part import CataloguePart
from radir_pacs.catalogue.rows import Answering, EncodingOwner, GenerationRow, Question
from radir_pacs.catalogue.studies import study_of
from radir_pacs.errors import NotFound
from radir_pacs.similar_cases import Filters
from radir_pacs.types import I64, ImageKind

Place = tuple[str, str]  # model id and region key


class Questions(CataloguePart):
    def ask(
        self,
        study_uid: str,
        filters: Filters,
        *,
        cases: Mapping[str, str],
        partitions: Mapping[Place, tuple[str, int]],
        under: str | None = None,
    ) -> Question:
        """One round trip: the study, what never answers it, and the news since the readings that are named.

        under: the model that answers; None: those that serve at this moment.

        cases: the ``xid`` of the last reading by model; partitions: the same by place, with the length of its vectors.
        News that are more than can be read one by one are left out. Raises NotFound for a study that is not there.
        """
        since = dict(cases)
        for (model_id, _), (xid, _) in partitions.items():
            since[model_id] = min(xid, since.get(model_id, xid), key=int)
        return self._database.read(
            lambda connection: _asked(connection, study_uid, filters, cases, partitions, since, under)
        )()

    def published(self, places: Iterable[Place]) -> dict[Place, GenerationRow]:
        """The builds that answer for some partitions now; one that has only a tail is missing."""
        with self._database.transaction() as connection:
            return _by_place(_published(connection, places))

    def shown(
        self, labels: Sequence[int] | I64, study_uid: str, filters: Filters
    ) -> tuple[dict[int, EncodingOwner], dict[str, Any]]:
        """One round trip: whose encodings these are, and what reports of them and of the query's study say.

        A hit that must not be shown is missing: a deleted encoding, and one that never answers, which may have come
        since the question was asked. The findings: by study one JSON value per report, oldest
        first; studies without a mined report are missing.
        """
        ids = [int(label) for label in labels]
        return self._database.read(lambda connection: _shown(connection, ids, study_uid, filters))()


def _asked(
    connection: Connection,
    study_uid: str,
    filters: Filters,
    cases: Mapping[str, str],
    partitions: Mapping[Place, tuple[str, int]],
    since: Mapping[str, str],
    under: str | None,
) -> Callable[[], Question]:
    """Send the statements; what they found is read by calling the result."""
    snapshot = run(connection, "snapshot_xmin")  # first: what commits later is read again next time
    study = run(connection, "study", study_uid=study_uid)
    answering = run(connection, "encodings_that_answer", study_uid=study_uid, model_id=under)
    excluded = _excluded(connection, study_uid, filters)
    published = _published(connection, partitions)
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

    def question() -> Question:
        found = study.fetchone()
        if found is None:
            raise NotFound(f"there is no study {study_uid}")
        taken = snapshot.fetchone()
        assert taken is not None
        xid, horizon = taken["xmin"], taken["horizon"]
        dropped = {model_id: ids_of(rows) for model_id, rows in gone.items()}
        return Question(
            study=study_of(found),
            answering=tuple(
                Answering(
                    kind=ImageKind(row["kind"]),
                    label=row["id"],
                    encoding=encoding_of(row),
                    intended_use=row["intended_use"] or None,
                    coverage=row["coverage"],
                )
                for row in answering
            ),
            excluded=ids_of(excluded),
            newest=taken["newest"],
            cases={
                model_id: case_changes(rows.fetchall(), dropped[model_id], xid, horizon)
                for model_id, rows in renewed.items()
                if rows.rowcount <= MOST_NEWS
            },
            partitions={
                place: changes_of(rows.fetchall(), dropped[place[0]], xid, horizon, partitions[place][1])
                for place, rows in added.items()
                if rows.rowcount <= MOST_NEWS
            },
            published=_by_place(published),
        )

    return question


def _excluded(connection: Connection, study_uid: str, filters: Filters) -> Cursor:
    return run(
        connection,
        "excluded_encodings",
        study_uids=[study_uid, *filters.exclude_studies],
        same_patient=filters.exclude_same_patient,
        query_study_uid=study_uid,
    )


def _shown(
    connection: Connection, ids: list[int], study_uid: str, filters: Filters
) -> Callable[[], tuple[dict[int, EncodingOwner], dict[str, Any]]]:
    excluded = _excluded(connection, study_uid, filters)
    owners = run(connection, "encoding_owners", ids=ids)
    findings = run(connection, "findings_of_encodings", ids=ids, study_uid=study_uid)

    def shown() -> tuple[dict[int, EncodingOwner], dict[str, Any]]:
        said: dict[str, Any] = {}
        for row in findings:
            said[row["study_uid"]] = (*said.get(row["study_uid"], ()), row["findings"])
        never = {row["id"] for row in excluded}
        return {row["encoding_id"]: owner_of(row) for row in owners if row["encoding_id"] not in never}, said

    return shown


def _published(connection: Connection, places: Iterable[Place]) -> Cursor:
    models, regions = zip(*places, strict=True) if places else ((), ())
    return run(connection, "published_generations", models=list(models), regions=list(regions))


def _by_place(rows: Cursor) -> dict[Place, GenerationRow]:
    return {(row["model_id"], row["region"]): GenerationRow(**row) for row in rows}
