"""Why a case is similar: the findings its report shares with the query's, and those that contradict it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from radir_pacs.reports import Finding, explain, findings_from_json
from radir_pacs.similar_cases import FindingNote

Findings = dict[str, tuple[Finding, ...]]
Notes = tuple[FindingNote, ...]


def findings_of(said: Mapping[str, tuple[Any, ...]]) -> Findings:
    """The findings of each study, from the JSON that mining wrote for its reports."""
    return {uid: tuple(f for body in bodies for f in findings_from_json(body)) for uid, bodies in said.items()}


def explained(findings: Findings, query_uid: str, hit_uid: str, regions: Iterable[str]) -> tuple[Notes, Notes]:
    """(shared, contradicting) at any of ``regions`` (keys) and below it; both empty where a report is missing."""
    if query_uid not in findings or hit_uid not in findings:
        return (), ()
    shared: dict[FindingNote, None] = {}
    contradicting: dict[FindingNote, None] = {}
    for region in regions:
        same, other = explain(findings[query_uid], findings[hit_uid], region)
        shared |= dict.fromkeys(same)
        contradicting |= dict.fromkeys(other)
    return tuple(shared), tuple(contradicting)
