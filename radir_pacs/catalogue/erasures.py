"""Erasure: everything that the tables hold of a study or a patient goes in one transaction, and leaves a record.

What stays is the audit trail, whose events name the patient as the law asks, and a decision to withhold the patient.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from radir_pacs.callers import AuditEvent, Caller
from radir_pacs.catalogue.audit import note
from radir_pacs.catalogue.database import Connection, run
from radir_pacs.catalogue.emergencies import erase_emergencies
from radir_pacs.catalogue.part import CataloguePart
from radir_pacs.catalogue.withheld import known_keys
from radir_pacs.errors import NotFound

_MESSAGES_AT_ONCE = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Erasure:
    """What was erased under one name, in all. ``at``: the last time; None: never. ``blobs`` by SHA-256."""

    at: datetime | None
    study_uids: tuple[str, ...]
    encoding_ids: tuple[int, ...]
    blobs: tuple[str, ...]
    runs: tuple[int, ...]


class Erasures(CataloguePart):
    def erase(self, subject: str, *, by: Caller) -> Erasure:
        """Erase a study (its UID), or a patient (an id, or issuer and id with a backslash) under all merged ids.

        Raises NotFound when nothing of either is here, BadInput where the id alone may mean several people.
        """
        keys = self.keys_of(subject)
        with self._database.transaction() as connection:
            rows = run(connection, "studies_to_erase", study_uid=subject, patient_keys=keys)
            names: dict[str, object] = {"study_uids": [row["study_uid"] for row in rows], "patient_keys": keys}
            traces = run(connection, "traces_of_studies", names).fetchone()
            assert traces is not None
            names |= traces
            for uid in sorted(str(name) for name in names["study_uids"]):  # type: ignore[attr-defined]
                note(connection, AuditEvent.ERASED, by, uid)
                run(connection, "delete_study", study_uid=uid)
            gone = sum(
                run(connection, query, names).rowcount for query in ("erase_versions", "erase_orders", "erase_links")
            )
            run(connection, "erase_jobs", names)
            run(connection, "erase_refusals", names)
            erase_emergencies(connection, names, by)
            messages = _messages_naming(connection, keys)
            for number in messages:
                run(connection, "drop_kept", id=number)
            run(connection, "forget_now", names)
            if not (names["study_uids"] or gone or messages):
                raise NotFound("nothing of such a study or patient is here")
            if not names["study_uids"]:
                note(connection, AuditEvent.ERASED, by, patient_keys=keys)
            run(connection, "add_erasure", names, by=by.name, subject=_hashed(subject))
        return self.of(subject)

    def of(self, subject: str) -> Erasure:
        """What was erased under this name before."""
        with self._database.transaction() as connection:
            row = run(connection, "erasures", subject=_hashed(subject)).fetchone()
        assert row is not None
        at: datetime | None = row.pop("at")
        return Erasure(at=at, **{name: tuple(value) for name, value in row.items()})

    def left(self, subject: str, study_uids: Sequence[str]) -> dict[str, int]:
        """How many rows of each table still name the subject, or these studies."""
        keys = self.keys_of(subject)
        with self._database.transaction() as connection:
            values = {"study_uids": [*study_uids, subject], "patient_keys": keys}
            row = run(connection, "left_of_erased", values).fetchone()
            assert row is not None
            return {**row, "kept messages": len(_messages_naming(connection, keys))}

    def unused(self, blobs: Sequence[str]) -> list[str]:
        """Those of some blobs that no instance names and that may be deleted now: none while a backup is being made."""
        return self._without("known_blobs", blobs)

    def unnamed(self, blobs: Sequence[str]) -> list[str]:
        """Those of some blobs that no instance names, be a backup under way or not."""
        return self._without("named_blobs", blobs)

    def _without(self, query: str, blobs: Sequence[str]) -> list[str]:
        with self._database.transaction() as connection:
            known = {row["content_sha256"] for row in run(connection, query, hashes=list(blobs))}
        return sorted(set(blobs) - known)

    def keys_of(self, subject: str) -> list[str]:
        """The keys of a patient, those of merges too; of a study's UID one that no patient has.

        Raises BadInput where patients of several issuers have this id: they may be different people.
        """
        with self._database.transaction() as connection:
            keys = [subject] if "\\" in subject else known_keys(connection, subject)
            return [row["key"] for row in run(connection, "linked_keys", patient_keys=keys)]


def _messages_naming(connection: Connection, keys: Sequence[str]) -> list[int]:
    """Numbers of kept HL7 messages that hold an id of the patient, as a word of its own."""
    ids = sorted({key.rpartition("\\")[2] for key in keys} - {""})
    if not ids:
        return []
    word = re.compile(
        rb"(?<![0-9A-Za-z])(?:" + b"|".join(re.escape(one.encode()) for one in ids) + rb")(?![0-9A-Za-z])"
    )
    found = []
    for row in run(connection, "kept_messages", limit=_MESSAGES_AT_ONCE).fetchall():
        body = run(connection, "kept_message", id=row["id"]).fetchone()
        if body is not None and word.search(bytes(body["body"])):
            found.append(int(row["id"]))
    return found


def _hashed(subject: str) -> bytes:
    return hashlib.sha256(subject.encode()).digest()
