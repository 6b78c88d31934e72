"""How far the rules of retention have gone through the archive, and whose files are to stay whatever they say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from radir_pacs.catalogue.database import run
from radir_pacs.catalogue.part import CataloguePart


class HeldBy(StrEnum):
    PERSON = "person"
    EXPORT = "export"


@dataclass(frozen=True, kw_only=True)
class Hold:
    """The files of a study stay. ``by``: the person, or the id of the export."""

    study_uid: str
    why: str
    by: str
    at: datetime


@dataclass(frozen=True, kw_only=True)
class Gone:
    """What was removed: files and bytes, of so many studies."""

    studies: int = 0
    files: int = 0
    bytes: int = 0

    def __add__(self, other: Gone) -> Gone:
        return Gone(
            studies=self.studies + other.studies, files=self.files + other.files, bytes=self.bytes + other.bytes
        )

    def __sub__(self, other: Gone) -> Gone:
        return Gone(
            studies=self.studies - other.studies, files=self.files - other.files, bytes=self.bytes - other.bytes
        )


@dataclass(frozen=True, kw_only=True)
class RetentionPass:
    """One way through the archive by the rules with this hash. after_at: of the last study that was looked at.

    ended_s: how long ago it ended; None: it goes on.
    """

    rules: str
    after_at: datetime | None
    began_at: datetime
    ended_at: datetime | None
    studies: int
    files: int
    bytes: int
    ended_s: float | None


class Retention(CataloguePart):
    def last_pass(self) -> RetentionPass | None:
        """The one that goes on, or that ended last."""
        with self._database.transaction() as connection:
            row = run(connection, "retention_pass").fetchone()
        return None if row is None else RetentionPass(**row)

    def begin(self, rules: str) -> None:
        """Go through the archive from its oldest study on, by the rules with this hash."""
        with self._database.transaction() as connection:
            run(connection, "begin_retention_pass", rules=rules)

    def go_on(self, after_at: datetime, gone: Gone) -> None:
        """Studies up to this last instance are done, by which so much was removed since the last call."""
        values = {"after_at": after_at, "studies": gone.studies, "files": gone.files, "bytes": gone.bytes}
        with self._database.transaction() as connection:
            run(connection, "go_on_with_retention", values)

    def end(self) -> None:
        """Every study was looked at."""
        with self._database.transaction() as connection:
            run(connection, "end_retention_pass")

    def hold(self, study_uids: Sequence[str], why: HeldBy, *, by: str, for_s: float | None = None) -> tuple[str, ...]:
        """The files of these studies stay for so long, None: until `release`; returns the studies that are here.

        No file of theirs goes once this has returned; what went before is away (`Disk.away_of`).
        """
        values = {"study_uids": list(study_uids), "why": why, "by": by, "for_s": for_s}
        with self._database.transaction() as connection:
            run(connection, "lock_studies", study_uids=list(study_uids))
            return tuple(row["study_uid"] for row in run(connection, "hold_studies", values).fetchall())

    def release(self, why: HeldBy, *, study_uid: str | None = None, by: str | None = None) -> int:
        """End holds: of a study, or of somebody; returns how many."""
        with self._database.transaction() as connection:
            return run(connection, "release_studies", why=why, study_uid=study_uid, by=by).rowcount

    def holds(self, limit: int = 1000) -> tuple[Hold, ...]:
        """The newest first."""
        with self._database.transaction() as connection:
            return tuple(Hold(**row) for row in run(connection, "holds", limit=limit))

    def prune(self) -> None:
        """Forget holds whose time is over."""
        with self._database.transaction() as connection:
            run(connection, "prune_holds")
