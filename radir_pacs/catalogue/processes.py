"""Heartbeats of the processes, as `radir status` shows them."""

from __future__ import annotations

from radir_pacs.catalogue.database import run
from radir_pacs.catalogue.part import CataloguePart
from radir_pacs.catalogue.rows import ProcessRow


class Processes(CataloguePart):
    def say_alive(self, name: str, pid: int, state: str, detail: str = "") -> None:
        """Heartbeat of a process, by a name of its own ("listener-1"). ``detail`` names no patient."""
        with self._database.transaction() as connection:
            run(connection, "alive", name=name, pid=pid, state=state, detail=detail)

    def say_gone(self, name: str, pid: int) -> None:
        """A process ends in order; one that was replaced under the same name leaves the new row alone."""
        with self._database.transaction() as connection:
            run(connection, "gone", name=name, pid=pid)

    def all(self) -> tuple[ProcessRow, ...]:
        """All processes that sent a heartbeat."""
        with self._database.transaction() as connection:
            return tuple(ProcessRow(**row) for row in run(connection, "processes"))

    def prune(self, keep_s: float) -> None:
        """Forget processes that have been silent for this long."""
        with self._database.transaction() as connection:
            run(connection, "prune_processes", keep_s=keep_s)
