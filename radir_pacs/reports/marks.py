"""From a sentence to marks: the lexicon's phrases in it, longest first, and the measurements."""

from __future__ import annotations

import re

from radir_pacs.reports.findings import Laterality
from radir_pacs.reports.lexicon import Lexicon
from radir_pacs.reports.lexicon_terms import Cue, Entry
from radir_pacs.reports.tokens import TOKEN

_SIZE = re.compile(
    r"(\d{1,3}(?:[.,]\d{1,2})?)(?:\s*(?:x|×|by|mal|-|to|bis)\s*(\d{1,3}(?:[.,]\d{1,2})?)){0,2}\s*-?\s*(mm|cm|millimet\w*|centimet\w*)\b",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"\d{1,3}(?:[.,]\d{1,2})?")


class Mark:
    """A phrase in a sentence. ``first``/``last`` count words, ``start``/``end`` characters of the whole text."""

    __slots__ = (
        "attribute",
        "both",
        "change",
        "concept",
        "cue",
        "end",
        "entry",
        "first",
        "last",
        "place",
        "side",
        "size_mm",
        "start",
    )

    def __init__(self, entry: Entry, first: int, last: int, start: int, end: int) -> None:
        self.entry = entry
        self.first, self.last, self.start, self.end = first, last, start, end
        self.concept, self.attribute, self.place, self.cue = entry.concept, entry.attribute, entry.place, entry.cue
        self.side: Laterality | None = entry.side
        self.change = entry.change
        self.both = False  # "bibasilar", "apices": the word's form means both sides
        self.size_mm: float | None = None


_SHORTENED = re.compile(r"\s[a-z\d]")  # after the full stop of an abbreviation
_SIGNS = frozenset("-/.\"“”„‘’`'")  # quotes mean nothing by themselves
_AND = r"-(?:\s*[,/]\s*|\s+\w{1,5}\.?\s+)"
_SUSPENDED = re.compile(rf"{_AND}(?:\w+{_AND})*(\w+)\b(?!-\s)")
_DASH = Entry(cue=Cue.COMMA)


def read_marks(text: str, lexicon: Lexicon) -> list[Mark]:
    """Marks of one sentence in order."""
    normalise = lexicon.normalise
    compounds, dropped = normalise.compounds, normalise.dropped
    words: list[str] = []
    spans: list[tuple[int, int]] = []
    for match in TOKEN.finditer(text):
        word = match.group()
        start, end = match.span()
        if word in _SIGNS:
            if compounds is not None and word == "-" and spans and (shared := _SUSPENDED.match(text, start)):
                parts = compounds.head(shared[1])  # "Pleura- oder Perikarderguss"
                words += parts
                spans += [spans[-1]] * len(parts)
            apart = text[start - 1 : start].isspace() and text[end : end + 1].isspace()
            if word in "-/" and apart:
                word = ","  # "no pneumothorax / right effusion": like a comma, since "right" opens a statement
            elif word not in "/." or (word == "." and (word in dropped or _SHORTENED.match(text, end))):
                continue
        if compounds is None:
            words.append(normalise(word))
            spans.append((start, end))
        else:
            parts = normalise.all(word)
            words += parts
            spans += [(start, end)] * len(parts)
    marks: list[Mark] = []
    root, both = lexicon.phrases, lexicon.pair_words
    i, count = 0, len(words)
    while i < count:
        node = root.get(words[i])
        found, stop, j = None, i, i + 1
        while node is not None:
            if node.entry is not None:
                found, stop = node.entry, j
            if j >= count:
                break
            node = node.get(words[j])
            j += 1
        if found is None:
            i += 1
            continue
        mark = Mark(found, i, stop - 1, spans[i][0], spans[stop - 1][1])
        if words[i] == "?" and _doubts_next(text, mark, marks):
            mark.cue = Cue.POSSIBLE_NEXT
        if found.place is not None or found.inner is not None:
            mark.both = not both.isdisjoint(text[mark.start : mark.end].lower().replace("-", " ").split())
        marks.append(mark)
        i = stop
    if "mm" in text or "cm" in text or "imet" in text:
        _add_sizes(text, marks, spans)
    return marks


def _doubts_next(text: str, mark: Mark, marks: list[Mark]) -> bool:
    """Whether "?" doubts what follows ("cough ? pneumonia") or what precedes ("pneumonia ? edema ?")."""
    before, after = text[mark.start - 1 : mark.start] if mark.start else "", text[mark.end :].lstrip()[:1]
    if not before or before in "(:;-–/":
        return True
    follows = marks and marks[-1].last == mark.first - 1 and (marks[-1].concept or marks[-1].attribute)
    return before.isspace() and after.isalnum() and not follows


def _add_sizes(text: str, marks: list[Mark], spans: list[tuple[int, int]]) -> None:
    for match in _SIZE.finditer(text):
        factor = 10.0 if match[3].lower().startswith("c") else 1.0
        size = factor * max(float(number.replace(",", ".")) for number in _NUMBER.findall(match.group()))
        first = next((i for i, (_, end) in enumerate(spans) if end > match.start()), 0)
        mark = Mark(Entry(), first, first, match.start(), match.end())
        mark.size_mm = size
        position = next((i for i, other in enumerate(marks) if other.start >= match.start()), len(marks))
        while position < len(marks) and marks[position].end <= match.end():
            marks.pop(position)  # "mm" alone is read as a severity; here it is a unit
        marks.insert(position, mark)
