"""From a sentence to marks: the lexicon's phrases in it, longest first, and the measurements."""

from __future__ import annotations

import re
from functools import lru_cache

from radir_pacs.reports.findings import Laterality
from radir_pacs.reports.lexicon import Lexicon
from radir_pacs.reports.lexicon_terms import Cue, Entry
from radir_pacs.reports.sizes import Size, read_sizes
from radir_pacs.reports.tokens import Normaliser, tokens_of


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
_LINKED = _LINKS | _SIDES
_END = "\n"  # follows the last word, and is none


def read_marks(text: str, lexicon: Lexicon) -> list[Mark]:
    """Marks of one sentence in order."""
    words, starts, ends = _words(text, lexicon.normalise)
    for head, adjectives in lexicon.shared:
        if head[0] in words:
            _repeat_shared(head, adjectives, words, starts, ends)
    marks: list[Mark] = []
    begun = list(map(lexicon.phrases.get, words))  # for each word, the phrases that begin with it
    words.append(_END)
    read = 0  # words that belong to a phrase already
    for i, node in enumerate(begun):
        if node is None or i < read:
            continue
        found, stop = node.entry, i + 1
        j = stop
        while node and (node := node.get(words[j])) is not None:
            j += 1
            if node.entry is not None:
                found, stop = node.entry, j
        if found is None:
            continue
        read = stop
        mark = Mark(found, i, stop - 1, starts[i], ends[stop - 1])
        if words[i] == "?" and _doubts_next(text, mark, marks):
            mark.cue = Cue.POSSIBLE_NEXT
        if found.place is not None or found.inner is not None:
            mark.both = _means_both(text[mark.start : mark.end], lexicon.pair_words)
        marks.append(mark)
    if ("mm" in text or "cm" in text or "imet" in text) and (sizes := read_sizes(text, lexicon)):
        _add_sizes(sizes, marks, ends)
    return marks


def _words(text: str, normalise: Normaliser) -> tuple[list[str], list[int], list[int]]:
    """The words and signs that may mean something, in normal form, with where each begins and ends."""
    compounds, dropped = normalise.compounds, normalise.dropped
    tokens, starts, ends = tokens_of(text)
    if "-\n" in text:
        _join_broken(text, tokens, starts, ends, normalise)
    if compounds is None and _SIGNS.isdisjoint(tokens):
        try:
            return list(map(normalise.known.__getitem__, tokens)), starts, ends
        except KeyError:
            return list(map(normalise, tokens)), starts, ends
    words: list[str] = []
    kept_starts: list[int] = []
    kept_ends: list[int] = []
    for token, start, end in zip(tokens, starts, ends, strict=True):
        if token in _SIGNS:
            if compounds is not None and token == "-" and kept_ends and (shared := _SUSPENDED.match(text, start)):
                parts = compounds.head(shared[1])  # "Pleura- oder Perikarderguss"
                words += parts
                kept_starts += [kept_starts[-1]] * len(parts)
                kept_ends += [kept_ends[-1]] * len(parts)
            apart = text[start - 1 : start].isspace() and text[end : end + 1].isspace()
            if token in "-/" and apart:
                token = ","  # "no pneumothorax / right effusion": like a comma, since "right" opens a statement
            elif token not in "/." or (token == "." and (token in dropped or _SHORTENED.match(text, end))):
                continue
        if compounds is None:
            words.append(normalise(token))
            kept_starts.append(start)
            kept_ends.append(end)
        else:
            parts = normalise.all(token)
            words += parts
            kept_starts += [start] * len(parts)
            kept_ends += [end] * len(parts)
    return words, kept_starts, kept_ends


def _join_broken(text: str, tokens: list[str], starts: list[int], ends: list[int], normalise: Normaliser) -> None:
    """Join a word that a line end broke ("effu-", "sion"), where the whole is a word of the lexicon."""
    for i in range(len(tokens) - 2, 0, -1):
        if tokens[i] != "-" or text[ends[i] : ends[i] + 1] != "\n":
            continue
        whole = tokens[i - 1] + tokens[i + 1]
        if normalise.knows(whole):
            tokens[i - 1 : i + 2] = [whole]
            starts[i - 1 : i + 2] = [starts[i - 1]]
            ends[i - 1 : i + 2] = [ends[i + 1]]


def _repeat_shared(
    head: tuple[str, ...], adjectives: frozenset[str], words: list[str], starts: list[int], ends: list[int]
) -> None:
    """Repeat a noun that adjectives share, and their side: "left upper and lower lobes" is "left upper lobe and left
    lower lobes". A repeated noun stands where its adjective stands; a repeated side has no width."""
    i = words.index(head[0])
    while i >= 0:
        begin = i
        while begin and (words[begin - 1] in adjectives or words[begin - 1] in _LINKED):
            begin -= 1
        if begin < i:
            i = _expand(head, begin, i, adjectives, words, starts, ends)
        else:
            i += 1
        i = words.index(head[0], i) if head[0] in words[i:] else -1


def _expand(
    head: tuple[str, ...],
    begin: int,
    end: int,
    adjectives: frozenset[str],
    words: list[str],
    starts: list[int],
    ends: list[int],
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
                _insert(i + 1, extra, words, starts, ends, starts[i])
            if lacks_side and side is not None:
                _insert(i, [side], words, starts, ends, ends[i - 1])
            i += len(extra) + lacks_side
            end += len(extra) + lacks_side
        i += 1
    return end + 1


def _insert(at: int, extra: list[str], words: list[str], starts: list[int], ends: list[int], start: int) -> None:
    words[at:at] = extra
    starts[at:at] = [start] * len(extra)
    ends[at:at] = [ends[at - 1]] * len(extra)


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
