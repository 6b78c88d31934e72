"""Reports as a network reads them: the same at its training and afterwards."""

from __future__ import annotations

REPORT_TOKENS = 128
_HEADINGS = ("FINDINGS:", "IMPRESSION:")


def body(report: str) -> str:
    """A report's findings and impression, where it has such headings; else all of it."""
    start = min((at for heading in _HEADINGS if (at := report.find(heading)) >= 0), default=0)
    return report[start:]
