"""From a sentence to marks: the lexicon's phrases in it, longest first, and the measurements."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from radir_pacs.reports.compounds import Compounds
from radir_pacs.reports.findings import Laterality
from radir_pacs.reports.lexicon import Lexicon
from radir_pacs.reports.lexicon_terms import Cue, Entry
from radir_pacs.reports.sizes import Size, read_sizes
from radir_pacs.reports.tokens import TOKEN, Normaliser


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
        "prior_mm",
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
        self.prior_mm: float | None = None  # its size on an earlier study


_SHORTENED = re.compile(r"\s[a-z\d]")  # after the full stop of an abbreviation
_SIGNS = frozenset("-/.\"“”„‘’`'")  # quotes mean nothing by themselves
_AND = r"-(?:\s*[,/]\s*|\s+\w{1,5}\.?\s+)"
_SUSPENDED = re.compile(rf"{_AND}(?:\w+{_AND})*(\w+)\b(?!-\s)")
_LINKS = frozenset({",", "and", "or", "&", "/"})
_SIDES = frozenset({"left", "right", "bilateral", "both"})
_END = "\n"  # follows the last word, and is none


def read_marks(text: str, lexicon: Lexicon) -> list[Mark]:
    """Marks of one sentence in order."""
    normalise, known = lexicon.normalise, lexicon.normalise.known
    tokens, starts = _tokens(text, normalise.dropped)
    if normalise.compounds is None:
        words = [known.get(token) or normalise(token) for token in tokens]
    else:
        words, tokens, starts = _in_parts(text, tokens, starts, normalise, normalise.compounds)
    if shared := lexicon.data["cues"].get("shared"):
        _repeat_shared(shared, words, tokens, starts)
    words.append(_END)
    marks: list[Mark] = []
    first_words = lexicon.phrases
    i, count = 0, len(tokens)
    while i < count:
        node = first_words.get(words[i])
        i += 1
        if node is None:
            continue
        found, stop, j = None, i, i
        while node is not None:
            if node.entry is not None:
                found, stop = node.entry, j
            if not node:
                break
            node = node.get(words[j])
            j += 1
        if found is None:
            continue
        mark = Mark(found, i - 1, stop - 1, starts[i - 1], starts[stop - 1] + len(tokens[stop - 1]))
        if words[i - 1] == "?" and _doubts_next(text, mark, marks):
            mark.cue = Cue.POSSIBLE_NEXT
        if found.place is not None or found.inner is not None:
            mark.both = _means_both(text[mark.start : mark.end], lexicon.pair_words)
        marks.append(mark)
        i = stop
    if sizes := read_sizes(text, lexicon):
        _add_sizes(sizes, marks, [start + len(token) for start, token in zip(starts, tokens, strict=True)])
    return marks


def _in_parts(
    text: str, tokens: list[str], starts: list[int], normalise: Normaliser, compounds: Compounds
) -> tuple[list[str], list[str], list[int]]:
    """Words in normal form, with compounds as their parts, each where the whole compound stands."""
    words: list[str] = []
    wholes: list[str] = []
    places: list[int] = []
    for token, start in zip(tokens, starts, strict=True):
        parts, end = normalise.all(token), start + len(token)
        if text[end : end + 1] == "-" and (shared := _SUSPENDED.match(text, end)):
            parts = (*parts, *compounds.head(shared[1]))  # "Pleura- oder Perikarderguss"
        words += parts
        wholes += [token] * len(parts)
        places += [start] * len(parts)
    return words, wholes, places


def _tokens(text: str, dropped: frozenset[str]) -> tuple[list[str], list[int]]:
    """The words and signs that may mean something, and where each begins."""
    tokens = TOKEN.findall(text)
    starts: list[int] = []
    end, find = 0, text.find
    for token in tokens:  # faster than matches with their spans; between tokens there is only white space
        start = find(token, end)
        starts.append(start)
        end = start + len(token)
    if _SIGNS.isdisjoint(tokens):
        return tokens, starts
    kept: list[str] = []
    kept_starts: list[int] = []
    for token, start in zip(tokens, starts, strict=True):
        if token in _SIGNS:
            end = start + 1
            apart = text[start - 1 : start].isspace() and text[end : end + 1].isspace()
            if token in "-/" and apart:
                token = ","  # "no pneumothorax / right effusion": like a comma, since "right" opens a statement
            elif token not in "/." or (token == "." and (token in dropped or _SHORTENED.match(text, end))):
                continue
        kept.append(token)
        kept_starts.append(start)
    return kept, kept_starts


def _repeat_shared(shared: Mapping[str, list[str]], words: list[str], tokens: list[str], starts: list[int]) -> None:
    """Repeat a noun that adjectives share, and their side: "left upper and lower lobes" is "left upper lobe and left
    lower lobes". What is repeated has no width."""
    for noun, adjectives in shared.items():
        head = noun.split()
        if head[0] not in words:
            continue
        i = words.index(head[0])
        while i >= 0:
            begin = i
            while begin and (
                words[begin - 1] in adjectives or words[begin - 1] in _LINKS or words[begin - 1] in _SIDES
            ):
                begin -= 1
            i = _expand(head, begin, i, adjectives, words, tokens, starts)
            i = words.index(head[0], i) if head[0] in words[i:] else -1


def _expand(
    head: list[str], begin: int, end: int, adjectives: list[str], words: list[str], tokens: list[str], starts: list[int]
) -> int:
    """Expand the adjectives from ``begin`` up to the noun at ``end``; returns where to look on."""
    side, i = None, begin
    while i < end:
        word = words[i]
        if word in _SIDES:
            side = word
        elif word in adjectives:
            extra = list(head) if words[i + 1] in _LINKS else []
            lacks_side = side is not None and words[i - 1] in _LINKS
            if extra:
                _insert(i + 1, extra, words, tokens, starts)
            if lacks_side and side is not None:
                _insert(i, [side], words, tokens, starts)
            i += len(extra) + lacks_side
            end += len(extra) + lacks_side
        i += 1
    return end + 1


def _insert(at: int, extra: list[str], words: list[str], tokens: list[str], starts: list[int]) -> None:
    where = starts[at - 1] + len(tokens[at - 1])
    words[at:at] = extra
    tokens[at:at] = [""] * len(extra)
    starts[at:at] = [where] * len(extra)


@lru_cache(maxsize=10_000)
def _means_both(phrase: str, pair_words: frozenset[str]) -> bool:
    return not pair_words.isdisjoint(phrase.lower().replace("-", " ").split())


def _doubts_next(text: str, mark: Mark, marks: list[Mark]) -> bool:
    """Whether "?" doubts what follows ("cough ? pneumonia") or what precedes ("pneumonia ? edema ?")."""
    before, after = text[mark.start - 1 : mark.start] if mark.start else "", text[mark.end :].lstrip()[:1]
    if not before or before in "(:;-–/":
        return True
    follows = marks and marks[-1].last == mark.first - 1 and (marks[-1].concept or marks[-1].attribute)
    return before.isspace() and after.isalnum() and not follows


def _add_sizes(sizes: list[Size], marks: list[Mark], ends: list[int]) -> None:
    for start, end, size_mm, prior_mm in sizes:
        first = next((i for i, stop in enumerate(ends) if stop > start), 0)
        mark = Mark(Entry(), first, first, start, end)
        mark.size_mm, mark.prior_mm = size_mm, prior_mm
        position = next((i for i, other in enumerate(marks) if other.start >= start), len(marks))
        while position < len(marks) and marks[position].end <= end:
            marks.pop(position)  # "mm" alone is read as a severity; here it is a unit
        marks.insert(position, mark)
