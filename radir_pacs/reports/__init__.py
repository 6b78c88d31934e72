"""Free-text radiology reports become findings at regions, and findings become graded relevance."""

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

__all__ = [
    "Certainty",
    "Change",
    "Finding",
    "FindingKind",
    "Item",
    "ItemSimilarity",
    "Laterality",
    "MinedReport",
    "Miner",
    "Polarity",
    "Severity",
    "mine",
    "report_similarity",
    "similarity_items",
]
