"""Free-text radiology reports become findings at regions, and findings become graded relevance."""

from radir_pacs.reports.affirming import affirming_path
from radir_pacs.reports.excerpt import Excerpt, excerpt, whole_report
from radir_pacs.reports.explain import Statements, explain
from radir_pacs.reports.findings import (
    Certainty,
    Change,
    Finding,
    FindingKind,
    Laterality,
    MinedReport,
    Polarity,
    Severity,
)
from radir_pacs.reports.mining import Miner, mine
from radir_pacs.reports.similarity import Item, ItemSimilarity, report_similarity, similarity_items
from radir_pacs.reports.stored import PARSER, findings_from_json, findings_to_json
from radir_pacs.reports.typed import Typed, read_question, read_typed

__all__ = [
    "PARSER",
    "Certainty",
    "Change",
    "Excerpt",
    "Finding",
    "FindingKind",
    "Item",
    "ItemSimilarity",
    "Laterality",
    "MinedReport",
    "Miner",
    "Polarity",
    "Severity",
    "Statements",
    "Typed",
    "affirming_path",
    "excerpt",
    "explain",
    "findings_from_json",
    "findings_to_json",
    "mine",
    "read_question",
    "read_typed",
    "report_similarity",
    "similarity_items",
    "whole_report",
]
