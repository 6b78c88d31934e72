# Runs inside Orthanc and is therefore offered under the AGPL v3 or later; see README.md beside this file.
"""What is still to be handed over: an SQLite file that survives a restart and a crash of Orthanc."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

_SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
CREATE TABLE IF NOT EXISTS cursor (one INTEGER PRIMARY KEY CHECK (one = 1), last_change INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS arriving (study TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS waiting (
    study TEXT PRIMARY KEY, since REAL NOT NULL, due REAL NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
    error TEXT NOT NULL DEFAULT '', given_up INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS waiting_due ON waiting (given_up, due);
CREATE TABLE IF NOT EXISTS handed_over (study TEXT PRIMARY KEY, content TEXT NOT NULL);
"""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 2.0, 3600.0
MOST_ATTEMPTS = 200  # about a week


class Entry(NamedTuple):
    """A study by its Orthanc id, and how often it was tried."""

    study: str
    attempts: int


class Queue:
    """Studies wait under their Orthanc ids; times are seconds since the epoch. Threads may share one."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._db = sqlite3.connect(str(path), check_same_thread=False, isolation_level=None, timeout=30)
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def last_change(self) -> int | None:
        """The number of the last change of Orthanc's log that was taken; None at the very first start."""
        with self._lock:
            row = self._db.execute("SELECT last_change FROM cursor").fetchone()
        return None if row is None else int(row[0])

    def take(self, last_change: int, arriving: Iterable[str], stable: Iterable[str], now: float) -> None:
        """Note new and stable studies together with the change they were read at: none is lost, none comes twice."""
        with self._lock, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany("INSERT OR IGNORE INTO arriving VALUES (?)", [(study,) for study in arriving])
            for study in stable:
                self._db.execute("DELETE FROM arriving WHERE study = ?", (study,))
                self._wait(study, now)
            self._db.execute("INSERT OR REPLACE INTO cursor VALUES (1, ?)", (last_change,))

    def restart(self, now: float) -> None:
        """Orthanc forgets at its end which studies were not stable yet, and never says so of them: take them now."""
        with self._lock, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            for (study,) in self._db.execute("SELECT study FROM arriving").fetchall():
                self._wait(study, now)
            self._db.execute("DELETE FROM arriving")

    def _wait(self, study: str, now: float) -> None:
        self._db.execute("INSERT OR REPLACE INTO waiting (study, since, due) VALUES (?, ?, ?)", (study, now, now))

    def next_due(self, now: float) -> Entry | None:
        with self._lock:
            row = self._db.execute(
                "SELECT study, attempts FROM waiting WHERE NOT given_up AND due <= ? ORDER BY due LIMIT 1", (now,)
            ).fetchone()
        return None if row is None else Entry(*row)

    def was_handed_over(self, study: str, content: str) -> bool:
        with self._lock:
            row = self._db.execute("SELECT content FROM handed_over WHERE study = ?", (study,)).fetchone()
        return row is not None and row[0] == content

    def done(self, study: str, content: str = "") -> None:
        """``content`` is what was handed over; empty when there was nothing to hand over."""
        with self._lock, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("DELETE FROM waiting WHERE study = ?", (study,))
            if content:
                self._db.execute("INSERT OR REPLACE INTO handed_over VALUES (?, ?)", (study, content))

    def failed(self, entry: Entry, error: str, now: float) -> None:
        """Try again later, each time after twice the pause; after ``MOST_ATTEMPTS`` it stays as given up."""
        attempts = entry.attempts + 1
        pause_s = min(FIRST_PAUSE_S * 2.0 ** min(entry.attempts, 20), LONGEST_PAUSE_S)
        with self._lock:
            self._db.execute(
                "UPDATE waiting SET attempts = ?, due = ?, error = ?, given_up = ? WHERE study = ?",
                (attempts, now + pause_s, error[:200], attempts >= MOST_ATTEMPTS, entry.study),
            )

    def summary(self, now: float) -> dict[str, object]:
        """Counts for the status page; nothing of a patient."""
        with self._lock:
            waiting, oldest, given_up = self._db.execute(
                "SELECT count(*) FILTER (WHERE NOT given_up), min(since) FILTER (WHERE NOT given_up),"
                " count(*) FILTER (WHERE given_up) FROM waiting"
            ).fetchone()
            error = self._db.execute("SELECT error FROM waiting WHERE error <> '' ORDER BY due DESC LIMIT 1").fetchone()
            handed_over = self._db.execute("SELECT count(*) FROM handed_over").fetchone()[0]
            seen = self._db.execute("SELECT last_change FROM cursor").fetchone()
        return {
            "waiting": waiting,
            "oldest_s": None if oldest is None else round(max(now - oldest, 0.0), 1),
            "given_up": given_up,
            "handed_over": handed_over,
            "last_error": error[0] if error else None,
            "last_change": seen[0] if seen else None,
        }
