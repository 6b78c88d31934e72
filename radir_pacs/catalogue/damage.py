"""Files that were found damaged: recorded by whoever reads one, repaired by storing the content again."""

from __future__ import annotations

from radir_pacs.catalogue.database import run
from radir_pacs.catalogue.part import CataloguePart
from radir_pacs.catalogue.rows import DamagedInstance


class Damage(CataloguePart):
    def note(self, content_sha256: str) -> None:
        """The file of that hash is damaged or gone; one that no instance refers to is ignored."""
        with self._database.transaction() as connection:
            run(connection, "note_damage", content_sha256=content_sha256)

    def all(self, limit: int = 1000) -> tuple[DamagedInstance, ...]:
        """The instances whose files are damaged, the newest damage first."""
        with self._database.transaction() as connection:
            return tuple(DamagedInstance(**row) for row in run(connection, "damage", limit=limit))

    def prune(self) -> None:
        """Forget damage of files that no instance refers to any more."""
        with self._database.transaction() as connection:
            run(connection, "prune_damage")
