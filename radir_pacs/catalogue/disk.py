"""How much room everything takes, and which files may go: to make room, or because a rule of the site says so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from radir_pacs.catalogue.database import run
from radir_pacs.catalogue.part import CataloguePart
from radir_pacs.catalogue.study_parts import in_parts
from radir_pacs.errors import NotFound
from radir_pacs.types import StudyState

_FIRST = datetime(1, 1, 1, tzinfo=UTC)
_LOOK = 50_000  # keys of studies, some MiB
_MOST_INSTANCES = 50_000  # in a page, some tens of MiB


class Away(StrEnum):
    """Why a file was removed on purpose."""

    ROOM = "room"  # it made room for others
    RETENTION = "retention"  # a rule says how long pixels are kept


# A SKIPPED study is not encoded as it stands, so a rule may end its files too. Room is made by what still answers.
_STATES = {
    Away.ROOM: (StudyState.INDEXED,),
    Away.RETENTION: (StudyState.INDEXED, StudyState.SKIPPED),
}


@dataclass(frozen=True, kw_only=True)
class Evictable:
    """A study, and its pictures that are here and may go, perhaps none: of each picture, all in the same order, file,
    UID, modality, SOP class, bytes.

    is_encoded: as it stands, by every model of its kinds that serves or is in shadow; asked for rules of retention
    alone, where there are pictures. held: what is about to read its
    files, none of which may go: "job", "retraining", "commitment", "export", "person".
    """

    study_uid: str
    last_instance_at: datetime
    state: StudyState
    sites: Sequence[str]
    held: Sequence[str]
    is_encoded: bool
    hashes: Sequence[str]
    sop_uids: Sequence[str]
    modalities: Sequence[str]
    sop_classes: Sequence[str]
    sizes: Sequence[int]


class Disk(CataloguePart):
    def note_usage(self, part: int, files: int, bytes_: int) -> None:
        """What the sweep found in one part of the blobs."""
        with self._database.transaction() as connection:
            run(connection, "note_blob_usage", part=part, files=files, bytes=bytes_)

    def usage(self) -> tuple[int, int, int]:
        """(files, bytes) of the blobs, and in how many parts they were counted so far."""
        with self._database.transaction() as connection:
            row = run(connection, "blob_usage").fetchone()
        assert row is not None
        return row["files"], row["bytes"], row["parts"]

    def by_modality(self) -> list[dict[str, int | str]]:
        """``modality``, ``files``, ``bytes``, ``evicted_bytes`` of the instances. Reads every instance's row."""
        with self._database.transaction() as connection:
            return run(connection, "usage_by_modality").fetchall()

    def by_table(self) -> dict[str, int]:
        """Bytes of each table with its indexes, the largest first."""
        with self._database.transaction() as connection:
            return {row["name"]: row["bytes"] for row in run(connection, "usage_by_table")}

    def pages(
        self, reason: Away, size: int, *, after_at: datetime | None = None, look: int = _LOOK
    ) -> Iterator[list[Evictable]]:
        """Every study that may have files to go, the oldest first, a page at a time. A page may have lost its studies.

        after_at: those whose last image came then or later. look: how many are put in order at once.
        """
        place: dict[str, object] = {"after_at": after_at or _FIRST, "after_uid": ""}
        while True:
            with self._database.transaction() as connection:
                keys = run(connection, "evictable_keys", place | {"states": list(_STATES[reason]), "limit": look})
                found = keys.fetchall()
            if not found:
                return
            for first in range(0, len(found), size):
                studies = [row["study_uid"] for row in found[first : first + size]]
                for uids in in_parts(self._database, studies, _MOST_INSTANCES):
                    page = self.evictable(uids, reason)
                    self._note_emptied([one.study_uid for one in page if not one.hashes and not one.held])
                    yield page
            place = {"after_at": found[-1]["last_instance_at"], "after_uid": found[-1]["study_uid"]}

    def _note_emptied(self, study_uids: Sequence[str]) -> None:
        if study_uids:
            with self._database.transaction() as connection:
                run(connection, "lock_studies", study_uids=list(study_uids))
                run(connection, "note_emptied", study_uids=list(study_uids))

    def evictable(self, study_uids: Sequence[str], reason: Away = Away.ROOM) -> list[Evictable]:
        """Those of these studies that may have files to go for this reason, the oldest first."""
        values = {
            "study_uids": list(study_uids),
            "states": list(_STATES[reason]),
            "by_rule": reason is Away.RETENTION,
        }
        with self._database.transaction() as connection:
            rows = run(connection, "evictable", values).fetchall()
        return [Evictable(**row | {"state": StudyState(row["state"])}) for row in rows]

    def evict(self, study: Evictable, reason: Away = Away.ROOM, *, must_be_encoded: bool = False) -> list[str]:
        """These files are gone on purpose from now on; returns those that may be deleted.

        None where something came to the study or is about to read it, and while a backup is being made; nor, with
        ``must_be_encoded``, where a model lacks it.
        """
        values = {
            "study_uid": study.study_uid,
            "last_instance_at": study.last_instance_at,
            "hashes": list(study.hashes),
            "states": list(_STATES[reason]),
            "reason": reason,
            "must_be_encoded": must_be_encoded,
        }
        with self._database.transaction() as connection:
            run(connection, "lock_study", study_uid=study.study_uid)  # the next statement sees what it waited for
            gone = [row["content_sha256"] for row in run(connection, "evict", values)]
            run(connection, "note_emptied", study_uids=[study.study_uid])
            return gone

    def away(self) -> dict[Away, int]:
        """How many files were removed on purpose, by why."""
        with self._database.transaction() as connection:
            found = {Away(row["reason"]): int(row["files"]) for row in run(connection, "away")}
        return dict.fromkeys(Away, 0) | found

    def away_of(self, study_uid: str) -> int:
        """How many files of a study were removed on purpose."""
        with self._database.transaction() as connection:
            row = run(connection, "away_of_study", study_uid=study_uid).fetchone()
        assert row is not None
        return int(row["files"])

    def away_reason(self, sha256: str) -> Away | None:
        """Why a file was removed on purpose; None: it was not."""
        with self._database.transaction() as connection:
            row = run(connection, "away_reason", content_sha256=sha256).fetchone()
        return None if row is None else Away(row["reason"])

    def whose(self, study_uid: str) -> tuple[tuple[str, ...], frozenset[str]]:
        """(labels of the sites that sent a study, keys of the patients whom it belongs to). Raises NotFound."""
        with self._database.transaction() as connection:
            row = run(connection, "whose_study", study_uid=study_uid).fetchone()
        if row is None:
            raise NotFound("there is no such study")
        return tuple(row["sites"]), frozenset(row["patient_keys"])

    def stays(self, sha256: str) -> None:
        """A file that `evict` named was not deleted."""
        with self._database.transaction() as connection:
            run(connection, "not_evicted", content_sha256=sha256)

    def less(self, sha256: str, bytes_: int) -> None:
        """A file of so many bytes was deleted, which the sweep has not seen yet."""
        with self._database.transaction() as connection:
            run(connection, "less_used", part=int(sha256[:2], 16), bytes=bytes_)
