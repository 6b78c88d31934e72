"""Why a case is similar: the findings its report shares with the query's, and those that contradict it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from radir_pacs.reports import Finding, Statements, explain, findings_from_json
from radir_pacs.similar_cases import FindingNote

Findings = dict[str, tuple[Finding, ...]]
Notes = tuple[FindingNote, ...]


def findings_of(said: Mapping[str, tuple[Any, ...]]) -> Findings:
    """The findings of each study, from the JSON that mining wrote for its reports."""
    return {uid: tuple(f for body in bodies for f in findings_from_json(body)) for uid, bodies in said.items()}


class Explanation:
    """Why cases are similar to one study, at any of ``regions`` (keys) and below it.

    said: of the study and of the cases, the JSON that mining wrote for their reports.
    """

    def __init__(self, said: Mapping[str, tuple[Any, ...]], query_uid: str, regions: Iterable[str]) -> None:
        self._said, self._regions = said, tuple(regions)
        self._query = self._statements(query_uid)

    def of(self, hit_uid: str) -> tuple[Notes, Notes]:
        """(shared, contradicting); both empty where a report is missing."""
        hit = self._statements(hit_uid) if self._query is not None else None
        if self._query is None or hit is None:
            return (), ()
        shared: dict[FindingNote, None] = {}
        contradicting: dict[FindingNote, None] = {}
        for region in self._regions:
            same, other = explain(self._query, hit, region)
            shared |= dict.fromkeys(same)
            contradicting |= dict.fromkeys(other)
        return tuple(shared), tuple(contradicting)

    def _statements(self, uid: str) -> Statements | None:
        bodies = self._said.get(uid)
        if bodies is None:
            return None
        return Statements.of(finding for body in bodies for finding in findings_from_json(body))
