"""Why a case is similar: the findings its report shares with the query's, and those that contradict it."""

from __future__ import annotations

from collections.abc import Iterable

from radir_pacs.catalogue import Reports
from radir_pacs.reports import Finding, explain, findings_from_json
from radir_pacs.types import FindingNote

Findings = dict[str, tuple[Finding, ...]]


class Explainer:
    """Reads mined findings and compares them under a region."""

    def __init__(self, reports: Reports) -> None:
        self._reports = reports

    def findings(self, study_uids: Iterable[str]) -> Findings:
        """The findings of each study's reports; a study without a mined report is left out."""
        rows = self._reports.findings_of(tuple(study_uids))
        return {uid: tuple(f for body in bodies for f in findings_from_json(body)) for uid, bodies in rows.items()}

    def explain(
        self, findings: Findings, query_uid: str, hit_uid: str, region: str
    ) -> tuple[tuple[FindingNote, ...], tuple[FindingNote, ...]]:
        """(shared, contradicting) under ``region`` (a key); both empty where a report is missing."""
        if query_uid not in findings or hit_uid not in findings:
            return (), ()
        return explain(findings[query_uid], findings[hit_uid], region)
