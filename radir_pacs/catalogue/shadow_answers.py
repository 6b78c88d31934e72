"""What the model in shadow answered to questions that were really asked."""

from __future__ import annotations

from dataclasses import asdict

from radir_pacs.catalogue.database import run
from radir_pacs.catalogue.model_rows import ShadowAnswer
from radir_pacs.catalogue.part import CataloguePart


class ShadowAnswers(CataloguePart):
    def add(self, answer: ShadowAnswer) -> None:
        """Note one."""
        with self._database.transaction() as connection:
            run(connection, "add_shadow_answer", asdict(answer))

    def of(self, model_id: str, limit: int = 10_000) -> tuple[ShadowAnswer, ...]:
        """The last ones of a model, newest first."""
        with self._database.transaction() as connection:
            rows = run(connection, "shadow_answers", shadow=model_id, limit=limit).fetchall()
        return tuple(ShadowAnswer(**{name: value for name, value in row.items() if name != "at"}) for row in rows)

    def prune(self, keep_s: float) -> None:
        """Forget those of before."""
        with self._database.transaction() as connection:
            run(connection, "prune_shadow_answers", keep_s=keep_s)
