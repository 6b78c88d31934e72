"""Heartbeats of the processes, as `radir status` shows them."""

from __future__ import annotations

from radir_pacs import __version__
from radir_pacs.catalogue.database import run
from radir_pacs.catalogue.part import CataloguePart
from radir_pacs.catalogue.rows import ProcessRow


class Processes(CataloguePart):
    def say_alive(self, name: str, pid: int, state: str, detail: str = "") -> None:
        """Record a process's heartbeat under its unique name ("listener-2"). ``detail`` names no patient."""
        with self._database.transaction() as connection:
            run(connection, "alive", name=name, pid=pid, state=state, detail=detail, version=__version__)

    def say_gone(self, name: str, pid: int) -> None:
        """Remove the row of a process that ends in order, unless another process has taken its name by now."""
        with self._database.transaction() as connection:
            run(connection, "gone", name=name, pid=pid)

    def all(self) -> tuple[ProcessRow, ...]:
        """All processes that sent a heartbeat."""
        with self._database.transaction() as connection:
            return tuple(ProcessRow(**row) for row in run(connection, "processes"))

    def prune(self, keep_s: float) -> None:
        """Forget processes that have been silent for longer than ``keep_s``."""
        with self._database.transaction() as connection:
            run(connection, "prune_processes", keep_s=keep_s)
