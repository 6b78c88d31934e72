"""One mined report for people to read: spans coloured in a terminal, as a page, and as a list."""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Iterator

from radir_pacs import anatomy
from radir_pacs.reports.findings import Certainty, Finding, FindingKind, MinedReport
from radir_pacs.reports.language import READ

_UNSHOWN = "\N{REPLACEMENT CHARACTER}"  # for control characters, which could steer a terminal
_RESET = "\x1b[0m"
_COLOURS = {"normal": "\x1b[32m", "absent": "\x1b[36m", "doubt": "\x1b[33m", "present": "\x1b[31m", "past": "\x1b[35m"}
_CSS = """
body{font:16px/1.6 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}
mark{padding:0 .15em;border-radius:.2em;color:inherit}
.normal{background:#d5efd9}.absent{background:#d3ecf3}.doubt{background:#fbeebc}.present{background:#f8d3cf}
.past{background:#e8dcf3}
pre{white-space:pre-wrap;font:inherit}table{border-collapse:collapse}td,th{text-align:left;padding:.2rem .8rem .2rem 0}
"""


def manner(finding: Finding) -> str:
    """How a finding is meant: one of the five words that have a colour."""
    if finding.certainty in (Certainty.HISTORICAL, Certainty.HYPOTHETICAL):
        return "past"
    if finding.kind in (FindingKind.NORMAL, FindingKind.MEASUREMENT):
        return "normal"
    if not finding.asserted:
        return "absent"
    return "present" if finding.certainty is Certainty.CERTAIN else "doubt"


def describe(finding: Finding) -> str:
    """One line: what, where, how, how large, how sure."""
    name = "normal" if finding.kind is FindingKind.NORMAL else finding.concept.replace("_", " ")
    if finding.kind is not FindingKind.NORMAL and not finding.asserted and finding.polarity == "absent":
        name = f"no {name}"
    parts = [name, "at " + ", ".join(anatomy.region(region).name for region in finding.regions)]
    if finding.severity:
        parts.append(str(finding.severity))
    if finding.size_mm is not None:
        parts.append(f"{finding.size_mm:g} mm")
    if finding.change:
        parts.append(str(finding.change))
    if finding.certainty is not Certainty.CERTAIN:
        parts.append(str(finding.certainty))
    return "; ".join(parts)


def pieces(report: MinedReport) -> Iterator[tuple[str, Finding | None]]:
    """The text in order, cut where findings begin and end; a piece shared by two findings belongs to the first."""
    position = 0
    for finding in sorted(report.findings, key=lambda finding: finding.span):
        start, end = finding.span
        if start < position or end <= start:
            continue
        if start > position:
            yield report.text[position:start], None
        yield report.text[start:end], finding
        position = end
    if position < len(report.text):
        yield report.text[position:], None


def in_terminal(report: MinedReport, *, colour: bool) -> str:
    """The text with its spans coloured (or in brackets), and the findings below."""
    text = "".join(_shown(piece, finding, colour) for piece, finding in pieces(report))
    lines = [text.rstrip(), ""]
    for finding in report.findings:
        line = f"  {describe(finding)}"
        lines.append(f"{_COLOURS[manner(finding)]}{line}{_RESET}" if colour else line)
    if not report.findings:
        lines.append("  no findings" if report.language in READ else f"  not read: its language is {report.language!r}")
    return "\n".join(lines)


def _shown(piece: str, finding: Finding | None, colour: bool) -> str:
    piece = "".join(c if c in "\n\t" or unicodedata.category(c)[0] != "C" else _UNSHOWN for c in piece)
    if finding is None:
        return piece
    return f"{_COLOURS[manner(finding)]}{piece}{_RESET}" if colour else f"[{piece}]"


def as_page(report: MinedReport) -> str:
    """A self-contained page, without scripts or external resources."""
    body = "".join(
        html.escape(piece)
        if finding is None
        else f'<mark class="{manner(finding)}" title="{html.escape(describe(finding))}">{html.escape(piece)}</mark>'
        for piece, finding in pieces(report)
    )
    rows = "".join(
        f'<tr><td><mark class="{manner(finding)}">{html.escape(report.text[slice(*finding.span)])}</mark></td>'
        f"<td>{html.escape(describe(finding))}</td></tr>"
        for finding in report.findings
    )
    unread = "" if report.language in READ else f"<p>Not read: its language is {html.escape(report.language)}.</p>"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Mined report</title><style>{_CSS}</style>'
        f"<h1>Mined report</h1>{unread}<pre>{body}</pre><h2>Findings</h2><table>{rows}</table></html>"
    )
