"""The life of a study.

RECEIVING: instances arrive. STABLE: none came for the quiet period, or the sender said that it is complete; an encode
job is written. ENCODED: its vectors are committed. INDEXED: every partition can return them, from its generation or its
exact tail; since a tail is searched at once, this follows within a round of the relay and does not wait for a merge.
SKIPPED and QUARANTINED have a reason. A new image re-opens a study from any state; its old vectors are answered until
new ones replace them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from psycopg.types.json import Jsonb

from radir_pacs.catalogue.database import Connection, Row, run
from radir_pacs.catalogue.jobs import enqueue, finish, hold
from radir_pacs.catalogue.part import CataloguePart
from radir_pacs.errors import NotFound
from radir_pacs.reasons import ReasonCode
from radir_pacs.scopes import WITHOUT_IMAGES, Scope
from radir_pacs.types import CatalogueStudy, Job, JobKind, StudyState

COMPLETE_LIMIT = 500  # per round, so that no transaction grows without bound


class Studies(CataloguePart):
    def complete_quiet(self, quiet_period_s: float) -> list[str]:
        """Make studies STABLE that had no new instance for the quiet period, each with its encode job."""
        values = {
            "quiet_period_s": quiet_period_s,
            "limit": COMPLETE_LIMIT,
            "max_attempts": self._settings.job_max_attempts,
        }
        with self._database.transaction() as connection:
            return [row["study_uid"] for row in run(connection, "complete_quiet", values).fetchall()]

    def encode_forgotten(self) -> list[str]:
        """Give STABLE studies without an encode job one; needed after a repair by hand (P3)."""
        with self._database.transaction() as connection:
            rows = run(connection, "encode_forgotten", max_attempts=self._settings.job_max_attempts)
            return [row["study_uid"] for row in rows]

    def complete_now(self, study_uid: str) -> bool:
        """Make the study STABLE, since its sender says that it is complete. False when it is not RECEIVING.

        Raises NotFound.
        """
        with self._database.transaction() as connection:
            if run(connection, "lock_study", study_uid=study_uid).fetchone() is None:
                raise NotFound(f"there is no study {study_uid}")
            if run(connection, "complete_now", study_uid=study_uid).fetchone() is None:
                return False
            enqueue(connection, JobKind.ENCODE, study_uid, self._settings.job_max_attempts)
        return True

    def retry(self, study_uid: str | None = None, reason_code: ReasonCode | None = None) -> list[str]:
        """Encode one study again, those with one reason code, or all that are quarantined.

        SKIPPED is usually the right answer, so such studies are tried again only when named by UID or reason code.
        """
        named = study_uid is not None or reason_code is not None
        states = [StudyState.QUARANTINED, *([StudyState.SKIPPED] if named else [])]
        values = {"study_uid": study_uid, "reason_code": reason_code, "states": states}
        with self._database.transaction() as connection:
            rows = run(connection, "retry_studies", values, max_attempts=self._settings.job_max_attempts)
            return [row["study_uid"] for row in rows]

    def mark_skipped(self, study_uid: str | None = None, reason_code: ReasonCode | None = None) -> list[str]:
        """Make one quarantined study, those with one reason code, or all SKIPPED: they are no longer problems."""
        values = {"study_uid": study_uid, "reason_code": reason_code}
        with self._database.transaction() as connection:
            return [row["study_uid"] for row in run(connection, "drop_studies", values)]

    def get(self, study_uid: str) -> CatalogueStudy:
        """Raises NotFound."""
        with self._database.transaction() as connection:
            row = run(connection, "study", study_uid=study_uid).fetchone()
        if row is None:
            raise NotFound(f"there is no study {study_uid}")
        return study_of(row)

    def in_state(
        self, state: StudyState, limit: int = 1000, reason_code: ReasonCode | None = None
    ) -> tuple[CatalogueStudy, ...]:
        """Studies in one state, or those of them with one reason code, newest first."""
        values = {"state": state, "reason_code": reason_code, "limit": limit}
        with self._database.transaction() as connection:
            rows = run(connection, "studies_in_state", values).fetchall()
        return tuple(study_of(row) for row in rows)

    def uids(self, page: int = 10_000) -> Iterator[str]:
        """Every study's UID, ascending; one transaction per page, and one page in memory."""
        return chain.from_iterable(self.uid_pages(page))

    def uid_pages(self, page: int) -> Iterator[list[str]]:
        """As ``uids``, a page at a time."""
        after = ""
        while True:
            with self._database.transaction() as connection:
                uids = [row["study_uid"] for row in run(connection, "study_uids", after=after, limit=page)]
            yield uids
            if len(uids) < page:
                return
            after = uids[-1]

    def revision_of(self, study_uid: str) -> tuple[StudyState, int]:
        """State and revision, which an encoder checks before it reads the instances. Raises NotFound."""
        with self._database.transaction() as connection:
            row = run(connection, "study", study_uid=study_uid).fetchone()
        if row is None:
            raise NotFound(f"there is no study {study_uid}")
        return StudyState(row["state"]), int(row["revision"])

    def set_state(
        self,
        study_uid: str,
        state: StudyState,
        reason: str | None = None,
        *,
        reason_code: ReasonCode = ReasonCode.OTHER,
        revision: int | None = None,
        job: Job | None = None,
    ) -> bool:
        """Set the outcome of a study, and end ``job`` in the same transaction.

        False, with the job ended and the study unchanged, when it has moved on from ``revision``. SKIPPED and
        QUARANTINED need a reason (P3) and remove the study's old vectors. Raises LeaseLost, ValueError.
        """
        ends = state in (StudyState.SKIPPED, StudyState.QUARANTINED)
        if ends and not reason:
            raise ValueError(f"{state} needs a reason")
        with self._database.transaction() as connection:
            run(connection, "lock_study", study_uid=study_uid)
            if job is not None:
                hold(connection, job)
            values = {"study_uid": study_uid, "state": state, "reason": reason, "revision": revision}
            code = reason_code if reason else None
            changed = run(connection, "set_study_state", values, reason_code=code).fetchone() is not None
            if changed and ends:
                run(connection, "drop_encodings", study_uid=study_uid, model_ids=[], kinds=[], revision=None)
            if job is not None:
                finish(connection, job, None if changed else "superseded")
        return changed

    def mark_indexed(self) -> list[str]:
        """Make ENCODED studies INDEXED whose vectors every later reader sees; returns their UIDs."""
        with self._database.transaction() as connection:
            return [row["study_uid"] for row in run(connection, "mark_indexed").fetchall()]

    def delete(self, study_uid: str) -> list[str]:
        """Delete a study with everything that belongs to it; returns the blobs that no instance refers to any more.

        Its vectors leave every answer at once. Raises NotFound.
        """
        with self._database.transaction() as connection:
            run(connection, "lock_study", study_uid=study_uid)
            hashes = [row["content_sha256"] for row in run(connection, "blobs_of_study", study_uid=study_uid)]
            if run(connection, "delete_study", study_uid=study_uid).fetchone() is None:
                raise NotFound(f"there is no study {study_uid}")
            return sorted(set(hashes) - _known(connection, hashes))

    def delete_part(self, study_uid: str, series_uid: str, sop_uid: str | None = None) -> list[str]:
        """Delete a series, or one of its instances; returns the blobs that no instance refers to any more.

        Reports read from the instances are deleted too, reports that they had replaced hold again, and the study goes
        with its last instance. A study that loses an image loses its vectors at once and is re-opened, to be encoded
        from what is left. Raises NotFound.
        """
        names = {"study_uid": study_uid, "series_uid": series_uid, "sop_uid": sop_uid}
        with self._database.transaction() as connection:
            run(connection, "lock_study", study_uid=study_uid)
            gone = run(connection, "delete_instances", names).fetchall()
            if not gone:
                raise NotFound(
                    "there is no such series in this study" if sop_uid is None else "there is no such instance"
                )
            run(connection, "delete_reports_of_instances", sop_uids=[row["sop_uid"] for row in gone])
            run(connection, "settle_reports", study_uid=study_uid)
            run(connection, "delete_empty_series", study_uid=study_uid)
            is_image = any(row["is_image"] for row in gone)
            if is_image:
                run(connection, "delete_encodings", study_uid=study_uid)
            run(connection, "reopen_study", study_uid=study_uid, is_image=is_image)
            run(connection, "delete_empty_study", study_uid=study_uid)
            hashes = [sha256 for row in gone for sha256 in (row["content_sha256"], *row["aside"])]
            return sorted(set(hashes) - _known(connection, hashes))

    def in_scope(self, study_uids: Sequence[str], scope: Scope) -> frozenset[str]:
        """Those of some studies that are here and that the scope admits."""
        with self._database.transaction() as connection:
            rows = run(connection, "in_scope", study_uids=list(study_uids), scope=scope_of_sql(scope))
            return frozenset(row["study_uid"] for row in rows)

    def sites(self) -> tuple[str, ...]:
        """Labels of sites that studies have, or that peers give to what they send. Reads every study's row."""
        with self._database.transaction() as connection:
            return tuple(row["name"] for row in run(connection, "sites_here"))

    def departments(self) -> tuple[str, ...]:
        """Names of departments that studies have, as senders wrote them. Reads every study's row."""
        with self._database.transaction() as connection:
            return tuple(row["name"] for row in run(connection, "departments_here"))

    def of_accession(self, accession_number: str) -> tuple[str, ...]:
        """UIDs of the studies with that accession number, at most two."""
        with self._database.transaction() as connection:
            rows = run(connection, "studies_of_accession", accession_number=accession_number).fetchall()
        return tuple(row["study_uid"] for row in rows)


def scope_of_sql(scope: Scope) -> Jsonb:
    """As ``is_in_scope`` in schema.sql reads it."""
    said = scope.as_json() | {"sees": int(scope.sees), "without_images": sorted(WITHOUT_IMAGES)}
    return Jsonb(said | {"opened": sorted(scope.opened)})


def _known(connection: Connection, hashes: list[str]) -> set[str]:
    return {row["content_sha256"] for row in run(connection, "known_blobs", hashes=hashes)}


def study_of(row: Row) -> CatalogueStudy:
    """A study from its row with counts."""
    values = {name: row[name] for name in CatalogueStudy.__dataclass_fields__}
    code = row["reason_code"]
    typed = {
        "state": StudyState(row["state"]),
        "reason_code": None if code is None else ReasonCode(code),
        "modalities": tuple(row["modalities"]),
        "sites": tuple(row["sites"]),
        "departments": tuple(row["departments"]),
        "patient_keys": tuple(row["patient_keys"]),
    }
    return CatalogueStudy(**values | typed)
