"""What one line says of the next: lists under a heading such as "No evidence of:", and questions answered below.

Each item of a list gets the heading's words, each question its answer, so that a line can be read by itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_DENIED = r"absent|excluded|ruled out|negative|not (?:seen|present|identified|found|detected|evident)"
_KIND = r"(?:\s+(?:findings?|abnormalit(?:y|ies)|conditions?|diagnos[ei]s))?"
# "No evidence of the following:" is "No evidence of:", and "The following are absent:" is "Absent:".
_OF_THE_FOLLOWING = re.compile(rf"\b(of|for|without|no)\s+(?:any of\s+)?the following{_KIND}\s*:", re.IGNORECASE)
_THE_FOLLOWING = re.compile(
    rf"\bthe following{_KIND}\s+(?:is|are|was|were)\s+(?:all\s+)?(?:{_DENIED})\s*:|"
    rf"\bnone of the following{_KIND}\b[^:.;\n]{{0,40}}:",
    re.IGNORECASE,
)
_HEAD = re.compile(
    rf"^\W*(?P<answer>(?:pertinent |relevant )?negatives?|{_DENIED})\W*:\s*$|"
    r"\b(?:no|not|without|w/o|absence of|free of|negative|neg|negative for|neg for)\b[^:.;\n]{0,40}:\s*$",
    re.IGNORECASE,
)
# Such a heading cannot stand by itself; "No acute findings:" can, and what follows may be findings.
_UNFINISHED = re.compile(r"\b(?:of|for|no|without|w/o)\s*:\s*$", re.IGNORECASE)
_ITEM = re.compile(r"\s*(?:[-•*>]|\d{1,2}[.)]|[a-z]\))\s+(?P<item>\S.*)|\s+(?P<inner>\S.*)")
_ITEM_WORDS = 6
_SENTENCE = re.compile(
    r"[.;:?]\s*\S|:\s*$|\b(?:is|are|was|were|has|have|there|shows?|seen|noted|present|no|not|none|without|normal|clear|"
    r"unremarkable|intact|unchanged|stable)\b",
    re.IGNORECASE,
)
_YES_OR_NO = re.compile(r"\s*(?:yes|no|y|n)\b\s*(?:[.,;].*)?", re.IGNORECASE)
_WHOLE = {"y": "yes", "n": "no"}


def listed(lines: Iterator[str]) -> Iterator[str]:
    """Lists under a heading that denies, each item with the heading's words."""
    head, unmarked, first = "", False, ""
    for line in lines:
        line = _THE_FOLLOWING.sub("Absent:", line)
        line = _OF_THE_FOLLOWING.sub(
            lambda found: found[1] + (":" if found.end() == len(found.string.rstrip()) else ""), line
        )
        item = _item(line, unmarked, first) if head else None
        if item is not None:
            first = first or item
            yield f"{head}{item}"
            unmarked = unmarked and not item.endswith(".")
            continue
        head, first = "", ""
        found = _HEAD.search(line)
        if found is not None and (found["answer"] or _UNFINISHED.search(line)):
            head, unmarked = line.strip().rstrip(": ") + (": " if found["answer"] else " "), True
            continue
        yield line


def _item(line: str, unmarked: bool, first: str) -> str | None:
    """What ``line`` lists; None where the list has ended. Without marks an item is a few words and no sentence."""
    marked = _ITEM.fullmatch(line)
    if marked is not None:
        return marked["item"] or marked["inner"]
    said = line.strip()
    if not (unmarked and said) or _SENTENCE.search(said) or len(said.split()) > _ITEM_WORDS:
        return None
    return said if said[0].islower() or not first[:1].islower() else None


def answered_below(lines: Iterator[str]) -> Iterator[str]:
    """Questions with the answer that stands on the next line: "Is there a pneumothorax?", "No."."""
    asked: str | None = None
    for line in lines:
        if asked is not None and _YES_OR_NO.fullmatch(line):
            said = line.strip()
            yield f"{asked.rstrip()} {_WHOLE.get(said.lower().rstrip('.'), said)}"
            asked = None
            continue
        if asked is not None:
            yield asked
        asked = line if line.rstrip().endswith("?") else None
        if asked is None:
            yield line
    if asked is not None:
        yield asked
