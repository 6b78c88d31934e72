"""Files that were found damaged: recorded by the code that reads one, repaired by storing the content again."""

from __future__ import annotations

from radir_pacs.catalogue.database import run
from radir_pacs.catalogue.disk import Away
from radir_pacs.catalogue.jobs import enqueue
from radir_pacs.catalogue.part import CataloguePart
from radir_pacs.catalogue.rows import DamagedInstance
from radir_pacs.types import JobKind


class Damage(CataloguePart):
    def note(self, content_sha256: str, *, to_be_shown: bool = False) -> bool:
        """Record that the file with that hash is damaged or gone; ignored where no instance refers to it.

        True: it was removed on purpose (`Disk.evict`), and its study is pulled from the PACS again; what a rule of
        retention removed only where it is needed for more than to be shown.
        """
        with self._database.transaction() as connection:
            row = run(connection, "study_of_evicted", content_sha256=content_sha256).fetchone()
            if row is not None:
                if row["reason"] == Away.ROOM or (self._has_source and not to_be_shown):
                    enqueue(connection, JobKind.PULL, row["study_uid"], self._settings.job_max_attempts)
                return True
            run(connection, "note_damage", content_sha256=content_sha256)
        return False

    def comes_back(self, content_sha256: str) -> bool:
        """Whether a file that was removed on purpose can be pulled again: what a rule ended without a PACS cannot."""
        with self._database.transaction() as connection:
            row = run(connection, "study_of_evicted", content_sha256=content_sha256).fetchone()
        return row is not None and (row["reason"] == Away.ROOM or self._has_source)

    @property
    def _has_source(self) -> bool:
        return bool(self._settings.pull_url or self._settings.sources_file)

    def all(self, limit: int = 1000) -> tuple[DamagedInstance, ...]:
        """The instances whose files are damaged, most recently found first."""
        with self._database.transaction() as connection:
            return tuple(DamagedInstance(**row) for row in run(connection, "damage", limit=limit))

    def prune(self) -> None:
        """Forget damage to files that no instance refers to any more."""
        with self._database.transaction() as connection:
            run(connection, "prune_damage")
            run(connection, "prune_evicted")
