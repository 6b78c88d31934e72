"""The heartbeat continues whatever the catalogue does, and removes its row at the end."""

from __future__ import annotations

import os
import threading

import pytest

from radir_pacs import process_heartbeat as module
from radir_pacs.errors import StorageFailed
from radir_pacs.process_heartbeat import process_heartbeat


class Away:
    """Processes of a catalogue whose database is away for the first beats, and again at the end."""

    def __init__(self, misses: int, *, farewell: bool) -> None:
        self.misses, self.farewell = misses, farewell
        self.heard: list[tuple[str, int, str, str]] = []
        self.gone: list[tuple[str, int]] = []
        self.alive = threading.Event()
        self.processes = self  # the part of the catalogue that is asked

    def say_alive(self, name: str, pid: int, state: str, detail: str = "") -> None:
        if self.misses:
            self.misses -= 1
            raise StorageFailed
        self.heard.append((name, pid, state, detail))
        self.alive.set()

    def say_gone(self, name: str, pid: int) -> None:
        if not self.farewell:
            raise StorageFailed
        self.gone.append((name, pid))


def test_missed_beats_are_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "INTERVAL_S", 0.01)
    processes = Away(3, farewell=True)
    with process_heartbeat(processes, "web", detail="here"):  # type: ignore[arg-type]
        assert processes.alive.wait(10)
    assert processes.heard[0] == ("web", os.getpid(), "UP", "here")
    assert processes.gone == [("web", os.getpid())]


def test_a_farewell_that_fails_hides_nothing() -> None:
    processes = Away(0, farewell=False)
    with pytest.raises(KeyError, match="the body's own"), process_heartbeat(processes, "web"):  # type: ignore[arg-type]
        raise KeyError("the body's own")
    with process_heartbeat(processes, "web"):  # type: ignore[arg-type]
        pass
