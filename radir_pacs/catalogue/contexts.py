"""Tokens that open the sidebar on one study for one reader, with the pictures of the similar cases shown to them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from psycopg.errors import ForeignKeyViolation
from psycopg.types.json import Jsonb

from radir_pacs.callers import Role
from radir_pacs.catalogue.access_tokens import ALL, scope_in_force
from radir_pacs.catalogue.database import run
from radir_pacs.catalogue.part import CataloguePart
from radir_pacs.catalogue.rows import ViewerContext
from radir_pacs.errors import NotFound, TooLarge
from radir_pacs.scopes import Scope

MOST_CASES = 500  # per token: enough for a reader, too few to page through the archive
MOST_REPORTS = 50  # saved while a token is valid
MOST_JUDGEMENTS = 1000


class Contexts(CataloguePart):
    def open(self, study_uid: str, token: str, valid_s: float, reader: str | None = None, scope: Scope = ALL) -> None:
        """Let ``token`` open the sidebar on a study for ``valid_s`` seconds. Raises NotFound.

        scope: of whoever opens it; similar cases outside it are not answered.
        """
        values = {"token_sha256": _sha256(token), "study_uid": study_uid, "valid_s": valid_s, "reader": reader}
        values["scope"] = Jsonb(scope.as_json())
        try:
            with self._database.transaction() as connection:
                run(connection, "prune_contexts", valid_s=self._settings.sidebar_context_s)
                run(connection, "open_context", values)
        except ForeignKeyViolation:
            raise NotFound(f"there is no study {study_uid}") from None

    def get(self, token: str) -> ViewerContext:
        """What a token opens. Raises NotFound for an unknown or expired token."""
        with self._database.transaction() as connection:
            values = {"token_sha256": _sha256(token), "valid_s": self._settings.sidebar_context_s}
            row = run(connection, "context", values).fetchone()
        if row is None:
            raise NotFound("the link has expired; open it again from the PACS")
        withholds = row.pop("withholds")
        scope = scope_in_force(row.pop("scope"), Role.SIDEBAR, withholds=withholds)
        return ViewerContext(**row, scope=scope)

    def show(self, context: ViewerContext, study_uids: Sequence[str]) -> None:
        """Record that these studies were in an answer, so that their pictures may be shown from now on.

        Raises TooLarge beyond ``MOST_CASES`` studies, NotFound when the token has expired.
        """
        values = {"token_sha256": context.token_sha256, "study_uids": list(study_uids)}
        try:
            with self._database.transaction() as connection:
                run(connection, "show_in_context", values)
                row = run(connection, "count_shown_in_context", values).fetchone()
                if row is not None and row["n"] > MOST_CASES:
                    raise TooLarge(f"this link has shown {MOST_CASES} cases; open it again from the PACS")
        except ForeignKeyViolation:
            raise NotFound("the link has expired; open it again from the PACS") from None

    def shows(
        self, context: ViewerContext, study_uid: str, series_uid: str | None = None, sop_uid: str | None = None
    ) -> bool:
        """Whether the study was in an answer to this token, and the series, or the instance of it, was compared there.

        Of a radiograph that is one instance, of a CT every instance of the series.
        """
        values = {
            "token_sha256": context.token_sha256,
            "study_uid": study_uid,
            "series_uid": series_uid,
            "sop_uid": sop_uid,
        }
        with self._database.transaction() as connection:
            return run(connection, "shown_in_context", values).fetchone() is not None

    def check_reports(self, context: ViewerContext, source: str) -> None:
        """Raise TooLarge when ``MOST_REPORTS`` came from ``source`` into the token's study since the token was made."""
        self._check("reports_since_context", context, MOST_REPORTS, source=source)

    def check_judgements(self, context: ViewerContext) -> None:
        """Raise TooLarge when ``MOST_JUDGEMENTS`` on cases like the token's study are as young as the token."""
        self._check("judgements_since_context", context, MOST_JUDGEMENTS)

    def _check(self, query: str, context: ViewerContext, most: int, **values: object) -> None:
        values |= {"token_sha256": context.token_sha256, "valid_s": self._settings.sidebar_context_s}
        with self._database.transaction() as connection:
            row = run(connection, query, values).fetchone()
        if row is not None and row["n"] >= most:
            raise TooLarge("this link has saved as much as one link may; open it again from the PACS")


def _sha256(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
