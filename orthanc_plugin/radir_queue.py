# Runs inside Orthanc and is therefore offered under the AGPL v3 or later; see README.md beside this file.
"""What is still to be handed over, and what was: in an SQLite file that survives a restart or crash of Orthanc."""

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
_SECOND = """
-- A pull that the service was asked for: the id of its job, and what the study held at that moment.
ALTER TABLE waiting ADD COLUMN job INTEGER;
ALTER TABLE waiting ADD COLUMN asked_content TEXT NOT NULL DEFAULT '';
-- Files of a waiting study that were taken one by one before the whole study was.
CREATE TABLE confirmed (study TEXT, file TEXT, PRIMARY KEY (study, file)) WITHOUT ROWID;
-- The UID is needed once Orthanc has deleted the study; missed_since is when that was first noticed.
ALTER TABLE handed_over ADD COLUMN study_uid TEXT NOT NULL DEFAULT '';
ALTER TABLE handed_over ADD COLUMN missed_since REAL;
"""
_VERSION = 2
FIRST_PAUSE_S, LONGEST_PAUSE_S = 2.0, 3600.0
MOST_ATTEMPTS = 200  # about a week


class Entry(NamedTuple):
    """A study by its Orthanc id, and how often it was tried; ``job`` is the pull that the service was asked for."""

    study: str
    attempts: int
    job: int | None = None
    asked_content: str = ""


class Kept(NamedTuple):
    """A study that was handed over, and since when Orthanc lacks it."""

    study: str
    study_uid: str
    missed_since: float | None


class Queue:
    """Studies wait under their Orthanc ids; times are seconds since the epoch. Threads may share a queue."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._db = sqlite3.connect(str(path), check_same_thread=False, isolation_level=None, timeout=30)
        self._db.executescript(_SCHEMA)
        if self._db.execute("PRAGMA user_version").fetchone()[0] < _VERSION:
            self._db.executescript(f"BEGIN IMMEDIATE; {_SECOND} PRAGMA user_version = {_VERSION}; COMMIT")

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def last_change(self) -> int | None:
        """The number of the last entry read from Orthanc's log of changes; None at the very first start."""
        with self._lock:
            row = self._db.execute("SELECT last_change FROM cursor").fetchone()
        return None if row is None else int(row[0])

    def take(self, last_change: int, arriving: Iterable[str], stable: Iterable[str], now: float) -> None:
        """Note new and stable studies in one transaction with the change read last: none is lost, none comes twice."""
        with self._lock, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany("INSERT OR IGNORE INTO arriving VALUES (?)", [(study,) for study in arriving])
            for study in stable:
                self._db.execute("DELETE FROM arriving WHERE study = ?", (study,))
                self._wait(study, now)
            self._db.execute("INSERT OR REPLACE INTO cursor VALUES (1, ?)", (last_change,))

    def restart(self, now: float) -> None:
        """Orthanc has forgotten which studies were not stable yet, so take them now; try what was given up again."""
        with self._lock, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("UPDATE waiting SET given_up = 0, attempts = 0, due = ? WHERE given_up", (now,))
            for (study,) in self._db.execute("SELECT study FROM arriving").fetchall():
                self._wait(study, now)
            self._db.execute("DELETE FROM arriving")

    def _wait(self, study: str, now: float) -> None:
        self._db.execute("INSERT OR REPLACE INTO waiting (study, since, due) VALUES (?, ?, ?)", (study, now, now))

    def next_due(self, now: float) -> Entry | None:
        with self._lock:
            row = self._db.execute(
                "SELECT study, attempts, job, asked_content FROM waiting"
                " WHERE NOT given_up AND due <= ? ORDER BY due LIMIT 1",
                (now,),
            ).fetchone()
        return None if row is None else Entry(*row)

    def confirmed(self, study: str) -> set[str]:
        """The files of a waiting study that were taken already."""
        with self._lock:
            return {file for (file,) in self._db.execute("SELECT file FROM confirmed WHERE study = ?", (study,))}

    def confirm(self, study: str, files: Iterable[str]) -> None:
        """These files were taken: they are not sent again."""
        with self._lock, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany("INSERT OR IGNORE INTO confirmed VALUES (?, ?)", [(study, file) for file in files])

    def withdraw(self, study: str, files: Iterable[str]) -> None:
        """These files turned out not to be there: they are sent again."""
        with self._lock, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany("DELETE FROM confirmed WHERE study = ? AND file = ?", [(study, one) for one in files])

    def asked(self, entry: Entry, job: int, content: str, due: float) -> None:
        """The service was asked to pull the study; how that goes is looked at when it is due."""
        with self._lock:
            self._db.execute(
                "UPDATE waiting SET job = ?, asked_content = ?, due = ? WHERE study = ?",
                (job, content, due, entry.study),
            )

    def was_handed_over(self, study: str, content: str) -> bool:
        with self._lock:
            row = self._db.execute("SELECT content FROM handed_over WHERE study = ?", (study,)).fetchone()
        return row is not None and row[0] == content

    def done(self, study: str, content: str = "", study_uid: str = "") -> None:
        """``content`` is what was handed over; empty when there was nothing to hand over."""
        with self._lock, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("DELETE FROM waiting WHERE study = ?", (study,))
            self._db.execute("DELETE FROM confirmed WHERE study = ?", (study,))
            if content:
                self._db.execute(
                    "INSERT OR REPLACE INTO handed_over (study, content, study_uid) VALUES (?, ?, ?)",
                    (study, content, study_uid),
                )

    def forget_all(self) -> None:
        """Forget everything that was handed over, since Orthanc has a new archive."""
        with self._lock, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            for table in ("arriving", "waiting", "confirmed", "handed_over"):
                self._db.execute(f"DELETE FROM {table}")

    def handed_over_after(self, study: str, limit: int) -> list[Kept]:
        """A page of the studies that were handed over, in the order of their Orthanc ids."""
        with self._lock:
            rows = self._db.execute(
                "SELECT study, study_uid, missed_since FROM handed_over WHERE study > ? AND study_uid <> ''"
                " ORDER BY study LIMIT ?",
                (study, limit),
            ).fetchall()
        return [Kept(*row) for row in rows]

    def missed(self, study: str, since: float | None) -> None:
        """Since when Orthanc lacks a study that was handed over; None when it is there."""
        with self._lock:
            self._db.execute("UPDATE handed_over SET missed_since = ? WHERE study = ?", (since, study))

    def forget(self, study: str) -> None:
        """Forget a study that is deleted in Orthanc and in RadIR."""
        with self._lock:
            self._db.execute("DELETE FROM handed_over WHERE study = ?", (study,))

    def failed(self, entry: Entry, error: str, now: float, *, may_give_up: bool = True) -> None:
        """Try again later, each time after twice the pause; where that is allowed, give up after ``MOST_ATTEMPTS``."""
        attempts = entry.attempts + 1
        pause_s = min(FIRST_PAUSE_S * 2.0 ** min(entry.attempts, 20), LONGEST_PAUSE_S)
        with self._lock:
            self._db.execute(
                "UPDATE waiting SET attempts = ?, due = ?, error = ?, given_up = ?, job = NULL WHERE study = ?",
                (attempts, now + pause_s, error[:200], may_give_up and attempts >= MOST_ATTEMPTS, entry.study),
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
