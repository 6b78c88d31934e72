"""The catalogue as its users see it: one object made of its parts."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from radir_pacs.catalogue.database import Database, conninfo_of
from radir_pacs.catalogue.encodings import Encodings
from radir_pacs.catalogue.generations import Generations
from radir_pacs.catalogue.ingest import Ingest
from radir_pacs.catalogue.jobs import Jobs
from radir_pacs.catalogue.migrate import migrate
from radir_pacs.catalogue.processes import Processes
from radir_pacs.catalogue.qido import Qido
from radir_pacs.catalogue.reports import Reports
from radir_pacs.catalogue.studies import Studies
from radir_pacs.catalogue.viewer import Viewer
from radir_pacs.config import Settings


class Catalogue(Ingest, Studies, Qido, Encodings, Generations, Reports, Viewer, Jobs, Processes):
    """The only shared truth. Threads may share one; a child process opens its own.

    Every method raises StorageFailed when Postgres cannot be reached, BadInput for values that it cannot hold.
    """

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """Connect, starting the embedded Postgres if need be, and bring the schema to the newest version."""
        conninfo = conninfo_of(settings)
        migrate(conninfo)
        return cls(Database(conninfo), settings)

    @property
    def conninfo(self) -> str:
        """Keyword-style connection string; may hold a password: never log it."""
        return self._database.conninfo

    def revive(self) -> None:
        """Start the embedded Postgres again if it died. Raises StorageFailed when it does not come back."""
        conninfo_of(self._settings)

    def close(self) -> None:
        """Give the connections back. The embedded server runs on for other processes."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
