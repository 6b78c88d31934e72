"""Files that were found damaged: recorded by the code that reads one, repaired by storing the content again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from radir_pacs.catalogue.database import run
from radir_pacs.catalogue.disk import Away
from radir_pacs.catalogue.jobs import enqueue
from radir_pacs.catalogue.part import CataloguePart
from radir_pacs.catalogue.rows import DamagedInstance
from radir_pacs.types import JobKind

HasSource = Callable[[Sequence[str]], bool]  # whether a PACS is named for a study that these sites sent


class Damage(CataloguePart):
    def note(self, content_sha256: str, *, to_be_shown: bool = False, has_source: HasSource | None = None) -> bool:
        """Record that the file with that hash is damaged or gone; ignored where no instance refers to it.

        True: it was removed on purpose (`Disk.evict`), and its study is pulled from the PACS again; what a rule of
        retention removed only where it is needed for more than to be shown, and there is a source. has_source: None
        takes any that the settings name.
        """
        with self._database.transaction() as connection:
            row = run(connection, "study_of_evicted", content_sha256=content_sha256).fetchone()
            if row is not None:
                comes = not to_be_shown and (has_source or self._any_source)(row["sites"])
                if row["reason"] == Away.ROOM or comes:
                    enqueue(connection, JobKind.PULL, row["study_uid"], self._settings.job_max_attempts)
                return True
            run(connection, "note_damage", content_sha256=content_sha256)
        return False

    def comes_back(self, content_sha256: str, has_source: HasSource) -> bool:
        """Whether a file that was removed on purpose can be pulled again."""
        with self._database.transaction() as connection:
            row = run(connection, "study_of_evicted", content_sha256=content_sha256).fetchone()
        return row is not None and has_source(row["sites"])

    def _any_source(self, sites: Sequence[str]) -> bool:
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
