"""What the service says beside an answer to a question in words: figures of ``unseen`` and ``words_order``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from radir_pacs import query

MEASURED = Path(query.__file__).with_name("words_measured.json")


def beside_answers(results: Path) -> dict[str, dict[str, str]]:
    """Read from the folder of result pages. Raises OSError, KeyError where one of the two is missing."""
    unseen, order = (
        json.loads((results / f"{name}.json").read_text(encoding="utf-8")) for name in ("unseen", "words-order")
    )
    judged, ways = unseen["regions"]["true"], order["mean"]
    means = [row for row in unseen["phrases"] if row["phrase"] == "mean"]

    def said(figures: Mapping[str, Any]) -> str:
        return f"{figures['recall']:.3f}"

    def spread(who: str) -> str:
        values = sorted(row[who]["value"] for row in means)
        return f"{values[0]:.3f} to {values[-1]:.3f}"

    return {
        "region": {
            "found": said(judged["name"]),
            "above": said(judged["above"]),
            "trained": said(judged["trained"]),
            "chance": f"{judged['name']['random']:.3f}",
            "other_words": said(ways["words"]),
            "other_above": said(ways["above"]),
        },
        "finding": {"found": spread("name"), "trained": spread("trained"), "chance": "0.5"},
    }


def renew(results: Path) -> None:
    """Write what the service says, from these pages."""
    MEASURED.write_text(json.dumps(beside_answers(results), indent=4) + "\n", encoding="utf-8")
