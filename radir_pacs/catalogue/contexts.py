"""Tokens that open the viewer on one study."""

from __future__ import annotations

import hashlib

from psycopg.errors import ForeignKeyViolation

from radir_pacs.catalogue.database import run
from radir_pacs.catalogue.part import Part
from radir_pacs.errors import NotFound


class Contexts(Part):
    def open(self, study_uid: str, token: str, valid_s: float) -> None:
        """Let ``token`` open the viewer on a study for ``valid_s`` seconds. Raises NotFound."""
        values = {"token_sha256": _sha256(token), "study_uid": study_uid, "valid_s": valid_s}
        try:
            with self._database.transaction() as connection:
                run(connection, "prune_contexts", valid_s=self._settings.sidebar_context_s)
                run(connection, "open_context", values)
        except ForeignKeyViolation:
            raise NotFound(f"there is no study {study_uid}") from None

    def study_of(self, token: str) -> str:
        """The study that a token opens. Raises NotFound for an unknown or expired one."""
        with self._database.transaction() as connection:
            values = {"token_sha256": _sha256(token), "valid_s": self._settings.sidebar_context_s}
            row = run(connection, "context", values).fetchone()
        if row is None:
            raise NotFound("the link has expired; open it again from the PACS")
        return str(row["study_uid"])


def _sha256(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
