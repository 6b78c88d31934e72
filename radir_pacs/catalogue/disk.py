"""How much room everything takes, and which files may make room."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from radir_pacs.catalogue.database import run
from radir_pacs.catalogue.part import CataloguePart

_FIRST = datetime(1, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Evictable:
    """An INDEXED study, and its pictures that may make room, perhaps none: their files and UIDs in the same order."""

    study_uid: str
    last_instance_at: datetime
    hashes: Sequence[str]
    sop_uids: Sequence[str]


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

    def evictable(self, after: Evictable | None, limit: int) -> list[Evictable]:
        """The oldest studies after that one, each with what may make room; none when that was the last one."""
        at, uid = (after.last_instance_at, after.study_uid) if after is not None else (_FIRST, "")
        with self._database.transaction() as connection:
            rows = run(connection, "evictable", after_at=at, after_uid=uid, limit=limit).fetchall()
        return [Evictable(**row) for row in rows]

    def evict(self, study: Evictable) -> list[str]:
        """These files are gone on purpose from now on; returns those that may be deleted.

        None where something came to the study or is to be done meanwhile, and while a backup is being made.
        """
        values = {
            "study_uid": study.study_uid,
            "last_instance_at": study.last_instance_at,
            "hashes": list(study.hashes),
        }
        with self._database.transaction() as connection:
            return [row["content_sha256"] for row in run(connection, "evict", values)]

    def stays(self, sha256: str) -> None:
        """A file that `evict` named was not deleted."""
        with self._database.transaction() as connection:
            run(connection, "not_evicted", content_sha256=sha256)

    def less(self, sha256: str, bytes_: int) -> None:
        """A file of so many bytes was deleted, which the sweep has not seen yet."""
        with self._database.transaction() as connection:
            run(connection, "less_used", part=int(sha256[:2], 16), bytes=bytes_)
