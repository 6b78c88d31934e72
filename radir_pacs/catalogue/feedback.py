"""Readers' judgements of similar cases."""

from __future__ import annotations

from psycopg.errors import ForeignKeyViolation

from radir_pacs.catalogue.database import run
from radir_pacs.catalogue.part import CataloguePart
from radir_pacs.catalogue.rows import FeedbackCount, FeedbackRow
from radir_pacs.errors import NotFound
from radir_pacs.similar_cases import Feedback


class ReaderFeedback(CataloguePart):
    def add(self, feedback: Feedback) -> None:
        """Keep a judgement, in place of an earlier one by the same reader. Raises NotFound for an unknown study."""
        values = {name: getattr(feedback, name) for name in Feedback.__dataclass_fields__}
        try:
            with self._database.transaction() as connection:
                run(connection, "add_feedback" if feedback.verdict else "withdraw_feedback", values)
        except ForeignKeyViolation:
            raise NotFound("there is no such study") from None

    def all(self) -> tuple[FeedbackRow, ...]:
        """Every judgement, oldest first."""
        with self._database.transaction() as connection:
            return tuple(FeedbackRow(**row) for row in run(connection, "feedback"))

    def of_reader(self, query_study_uid: str, reader: str) -> tuple[FeedbackRow, ...]:
        """One reader's judgements on the cases similar to a study."""
        values = {"query_study_uid": query_study_uid, "reader": reader}
        with self._database.transaction() as connection:
            return tuple(FeedbackRow(**row) for row in run(connection, "feedback_of", values))

    def counts(self) -> tuple[FeedbackCount, ...]:
        """By region, most judged first."""
        with self._database.transaction() as connection:
            return tuple(FeedbackCount(**row) for row in run(connection, "count_feedback"))
