"""German reports, each with its truth; precision and recall are printed by kind of difficulty (-s shows them)."""

from __future__ import annotations

import tomllib
from pathlib import Path

from rich.console import Console
from rich.table import Table

from radir_pacs import anatomy
from radir_pacs.reports import Certainty, Change, Finding, FindingKind, Laterality, Polarity, mine

KINDS: dict[str, list[dict[str, list[str] | str]]] = tomllib.loads(
    Path(__file__).with_name("german_reports.toml").read_text("utf-8")
)
_DOUBT = (Certainty.POSSIBLE, Certainty.PROBABLE)
_PAST = (Certainty.HISTORICAL, Certainty.HYPOTHETICAL)


def manner(finding: Finding) -> str:
    if finding.certainty in _PAST:
        return "<"
    if finding.polarity is Polarity.ABSENT:
        return "-"
    return "~" if finding.certainty in _DOUBT else "+"


def meets(finding: Finding, statement: str) -> bool:
    """Whether the finding says all that the statement does."""
    named, *details = statement.split()
    if (manner(finding), finding.concept) != (named[0], named[1:]):
        return False
    for detail in details:
        if detail.startswith("@"):
            if {detail[1:], *(below.key for below in anatomy.descendants(detail[1:]))}.isdisjoint(finding.regions):
                return False
        elif detail in set(Laterality):
            if finding.laterality != detail:
                return False
        elif detail in set(Change):
            if finding.change != detail:
                return False
        elif finding.size_mm != float(detail.removesuffix("mm")):
            return False
    return True


def missed_and_extra(text: str, says: list[str]) -> tuple[list[str], list[str]]:
    """Statements that were not found, and findings that the text does not state, in words."""
    report = mine(text)
    if report.language != "de":
        return [f"language {report.language}", *says], []
    told = [f for f in report.findings if f.kind not in (FindingKind.NORMAL, FindingKind.MEASUREMENT)]
    wanted = [statement for statement in says if statement[0] not in "<?"]
    missed = [statement for statement in wanted if not any(meets(finding, statement) for finding in told)]
    extra = [
        f"{manner(finding)}{finding.concept}"
        for finding in told
        if finding.asserted and not any(meets(finding, statement.split()[0]) for statement in wanted)
    ]
    denied = {f.concept for f in told if manner(f) == "-"}
    wrong = {statement[1:].split()[0] for statement in says if statement[0] != "-"}
    right = {statement[1:].split()[0] for statement in says if statement[0] == "-"}
    return missed, extra + [f"-{concept}" for concept in sorted(denied & wrong - right)]


def test_what_is_read_of_german_reports() -> None:
    table = Table("kind", "texts", "statements", "precision", "recall")
    wrong: list[str] = []
    totals = [0, 0, 0, 0]

    def row(kind: str, texts: int, statements: int, missed: int, extra: int) -> None:
        found = statements - missed
        precision, recall = found / max(1, found + extra), found / max(1, statements)
        table.add_row(kind, str(texts), str(statements), f"{precision:.2f}", f"{recall:.2f}")

    for kind, texts in KINDS.items():
        counts = [len(texts), 0, 0, 0]
        for entry in texts:
            text, says = str(entry["text"]), list(entry["says"])
            missed, extra = missed_and_extra(text, says)
            counts[1] += sum(statement[0] not in "<?" for statement in says)
            counts[2] += len(missed)
            counts[3] += len(extra)
            if missed or extra:
                wrong.append(f"{kind}: {text!r}: missed {missed}, extra {extra}")
        row(kind, *counts)
        totals = [a + b for a, b in zip(totals, counts, strict=True)]
    row("all", *totals)
    Console().print(table)
    assert totals[0] >= 40 and totals[1] >= 150
    assert not wrong, "\n".join(wrong)
