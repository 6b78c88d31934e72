"""What the viewer leaves and needs: judgements of similar cases, and tokens that open it on a study."""

from __future__ import annotations

import hashlib

from psycopg.errors import ForeignKeyViolation

from radir_pacs.catalogue.database import run
from radir_pacs.catalogue.part import Part
from radir_pacs.catalogue.rows import FeedbackRow
from radir_pacs.errors import NotFound
from radir_pacs.types import Feedback


class Viewer(Part):
    def add_feedback(self, feedback: Feedback) -> None:
        """Keep a judgement; it replaces an earlier one of the same reader. Raises NotFound for an unknown study."""
        values = {name: getattr(feedback, name) for name in Feedback.__dataclass_fields__}
        try:
            with self._database.transaction() as connection:
                run(connection, "add_feedback" if feedback.verdict else "withdraw_feedback", values)
        except ForeignKeyViolation:
            raise NotFound("there is no such study") from None

    def feedback(self) -> tuple[FeedbackRow, ...]:
        """Every judgement, oldest first."""
        with self._database.transaction() as connection:
            return tuple(FeedbackRow(**row) for row in run(connection, "feedback"))

    def feedback_of(self, query_study_uid: str, reader: str) -> tuple[FeedbackRow, ...]:
        """What one reader said of the cases of a study."""
        values = {"query_study_uid": query_study_uid, "reader": reader}
        with self._database.transaction() as connection:
            return tuple(FeedbackRow(**row) for row in run(connection, "feedback_of", values))

    def open_context(self, study_uid: str, token: str, valid_s: float) -> None:
        """Let ``token`` open the viewer on a study for ``valid_s`` seconds. Raises NotFound."""
        values = {"token_sha256": _sha256(token), "study_uid": study_uid, "valid_s": valid_s}
        try:
            with self._database.transaction() as connection:
                run(connection, "prune_contexts")
                run(connection, "open_context", values)
        except ForeignKeyViolation:
            raise NotFound(f"there is no study {study_uid}") from None

    def context(self, token: str) -> str:
        """The study that a token opens. Raises NotFound for an unknown or expired one."""
        with self._database.transaction() as connection:
            row = run(connection, "context", token_sha256=_sha256(token)).fetchone()
        if row is None:
            raise NotFound("the link has expired; open it again from the PACS")
        return str(row["study_uid"])

    def jobs_before(self, study_uid: str) -> int:
        """How many encode jobs run before this study's own; 0 when it has none."""
        with self._database.transaction() as connection:
            row = run(connection, "jobs_before", study_uid=study_uid).fetchone()
        return int(row["count"]) if row else 0


def _sha256(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
