"""One text for several orders: which part of it is each one's, by the titles of the parts or by their order.

``studies.py`` tells the modalities of a text apart; this also tells two studies of one modality apart, which only the
orders that share the text can do: "CT CHEST: … CT ABDOMEN: …", "XR CHEST 08:00: … XR CHEST 14:00: …".
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from radir_pacs.reports.language import READ, language_of
from radir_pacs.reports.lexicon import load
from radir_pacs.reports.lexicon_data import FIRST
from radir_pacs.reports.studies import TextPart, titled_parts

_WORD = re.compile(r"[^\W_]+")


def own_texts(text: str, names: Sequence[str]) -> list[str] | None:
    """The text of each of several studies, given what their orders call them: what is common, and the own part.

    None where the text has not as many titled parts as there are orders; it then is about all of them. Where the names
    tell the parts apart they decide, else, in parts of one modality, the order: the first order's part is the first.
    """
    language = language_of(text)
    lexicon = load(language if language in READ else FIRST)
    parts = titled_parts(text, lexicon.titles, lexicon.headings)
    own = [part for part in parts if part.kinds is not None]
    if len(own) < 2 or len(own) != len(names):
        return None
    by_name = _by_name([text[part.title : part.start] for part in own], names)
    if by_name is None and len({part.kinds for part in own}) > 1:
        return None  # the modality of each study tells its part more surely than the order
    chosen = [own[at] for at in by_name] if by_name is not None else own
    return [_joined(text, [part for part in parts if part.kinds is None or part is mine]) for mine in chosen]


def _by_name(titles: Sequence[str], names: Sequence[str]) -> list[int] | None:
    """For each name the title that has most of its words; None where two are alike or two names take the same one."""
    said = [_words(title) for title in titles]
    found = []
    for name in names:
        likeness = [_likeness(_words(name), words) for words in said]
        best = max(likeness)
        if best == 0 or likeness.count(best) > 1:
            return None
        found.append(likeness.index(best))
    return found if len(set(found)) == len(found) else None


def _likeness(name: frozenset[str], title: frozenset[str]) -> float:
    return len(name & title) / (len(name | title) or 1)


def _words(text: str) -> frozenset[str]:
    return frozenset(_WORD.findall(text.lower()))


def _joined(text: str, parts: Sequence[TextPart]) -> str:
    return "\n\n".join(filter(None, (text[part.title : part.end].strip() for part in parts)))
