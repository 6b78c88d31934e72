"""Report texts in the forms they come in, each with its truth; the figures are printed by form (-s shows them)."""

from __future__ import annotations

import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from radir_pacs import anatomy
from radir_pacs.reports import Certainty, Finding, FindingKind, MinedReport, Polarity, mine

FORMS: dict[str, list[dict[str, Any]]] = tomllib.loads(
    Path(__file__).with_suffix(".toml").with_name("report_forms.toml").read_text("utf-8")
)
_DOUBT = (Certainty.POSSIBLE, Certainty.PROBABLE)


def meets(finding: Finding, wanted: str) -> bool:
    concept, _, region = wanted.partition("@")
    places = {region, *(below.key for below in anatomy.descendants(region))} if region else None
    return finding.concept == concept and (places is None or not places.isdisjoint(finding.regions))


def faults(row: dict[str, Any], report: MinedReport) -> list[str]:
    """How the reading differs from ``row``, in words."""
    if report.language not in row.get("language", "en").split("/"):
        return [f"language {report.language}"]
    affirmed = [f for f in report.findings if f.asserted and f.kind is not FindingKind.NORMAL]
    denied = [
        f for f in report.findings if f.polarity is Polarity.ABSENT and f.certainty in (Certainty.CERTAIN, *_DOUBT)
    ]
    sure = [f for f in affirmed if f.certainty is Certainty.CERTAIN]
    unsure = [f for f in affirmed if f.certainty in _DOUBT]
    found = [f"{wanted} not affirmed" for wanted in row.get("present", ()) if not any(meets(f, wanted) for f in sure)]
    found += [
        f"{wanted} not doubtful" for wanted in row.get("doubtful", ()) if not any(meets(f, wanted) for f in unsure)
    ]
    found += [f"{wanted} not denied" for wanted in row.get("absent", ()) if not any(meets(f, wanted) for f in denied)]
    expected = {wanted.partition("@")[0] for wanted in (*row.get("present", ()), *row.get("doubtful", ()))}
    found += [f"{concept} affirmed" for concept in sorted({f.concept for f in affirmed} - expected)]
    found += [
        f"{concept} denied" for concept in sorted({f.concept for f in denied} & expected - set(row.get("absent", ())))
    ]
    return found


def test_what_is_read_of_every_form() -> None:
    table = Table("form", "texts", "right", "wrong")
    wrong: list[str] = []
    texts: Counter[str] = Counter()
    for form, rows in FORMS.items():
        before = len(wrong)
        for row in rows:
            if found := faults(row, mine(row["text"])):
                wrong.append(f"{form}: {row['text']!r}: {', '.join(found)}")
        texts[form] = len(rows)
        bad = len(wrong) - before
        table.add_row(form, str(len(rows)), str(len(rows) - bad), str(bad))
    total = sum(texts.values())
    table.add_row("all", str(total), str(total - len(wrong)), str(len(wrong)))
    Console().print(table)
    assert total >= 300
    assert not wrong, "\n".join(wrong)
