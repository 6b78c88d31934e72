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

__all__ = [
    "Certainty",
    "Change",
    "Finding",
    "FindingKind",
    "Laterality",
    "MinedReport",
    "Miner",
    "Polarity",
    "Severity",
    "mine",
]
