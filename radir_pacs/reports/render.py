"""One mined report for people to read: spans coloured in a terminal, as a page, and as a list."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from pathlib import Path

from radir_pacs import anatomy
from radir_pacs.reports.findings import Certainty, Finding, FindingKind, MinedReport
from radir_pacs.reports.language import READ

_UNSHOWN = "\N{REPLACEMENT CHARACTER}"  # for control characters, which could steer a terminal
_RESET = "\x1b[0m"
_COLOURS = {"normal": "\x1b[32m", "absent": "\x1b[36m", "doubt": "\x1b[33m", "present": "\x1b[31m", "past": "\x1b[35m"}


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
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # only a page needs it

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(manner=manner, describe=describe)
    page = environment.get_template("mined.html")
    unread = None if report.language in READ else report.language
    return page.render(report=report, pieces=pieces(report), unread=unread)
