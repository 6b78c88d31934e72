"""Whether a line end ends a statement (lists without full stops) or only the line (wrapped prose)."""

from __future__ import annotations

import re

from radir_pacs.reports.writing import Writing

_WRAPPED = 50  # characters; no program wraps prose in a narrower column
_STOPPED = re.compile(r"[.;!?]['\")\]”]*$")
_BROKEN = re.compile(r"[^\W\d_]{2}-$")
_LABEL_END = re.compile(r"[\w)/ -]{2,60}:\s*$")
_LABEL_START = re.compile(r"[A-ZÄÖÜ][A-Za-zÄÖÜäöüß /()'-]{1,40}?[ \t]*[:=|?]")
_LABEL_LINE = re.compile(r"[A-Za-zÄÖÜäöü][A-Za-zÄÖÜäöüß/ -]{2,40}")
_LIST_ITEM = re.compile(r"(?:[-•*>]|\d{1,2}[.)])\s")
_WORD = re.compile(r"\S+")


def ends_statement(text: str, begin: int, end: int, following: int, width: int, writing: Writing) -> bool:
    """Whether the line end between ``end`` and ``following`` ends the statement that begins at ``begin``.

    ``width``: characters of the paragraph's longest line; where the next word would have fitted, it is not a wrap.
    """
    line = text.rfind("\n", 0, end) + 1
    before = text[max(begin, line) : end].rstrip()
    after = text[following : following + 200]
    if _LIST_ITEM.match(after) or _STOPPED.search(before):
        return True
    if _BROKEN.search(before) and after[0].islower():
        return False  # "effu-", "sion"
    if writing.answer_line.match(after) and _LABEL_LINE.fullmatch(before.strip()):
        return False  # a label on one line, its answer on the next
    if writing.labelled_end.search(before):
        return True
    if writing.alone.fullmatch(before) and begin <= line and not (begin == line and after[0].islower()):
        return True
    if _LABEL_START.match(after):
        return True
    if _LABEL_END.search(before) and "\n" not in text[begin:end]:
        return _LABEL_END.fullmatch(after.split("\n", 1)[0]) is not None
    if "\n" in text[end:following].strip(" \t").replace("\n", "", 1):  # an empty line
        if after[0].islower() and writing.open_end.search(before):
            return False
        return not (writing.trailing.search(before) or writing.leading.match(after))
    if writing.open_end.search(before) or writing.open_start.match(after):
        return False
    word = _WORD.match(after)
    wide = width >= _WRAPPED
    if after[0].islower() and (writing.qualified_end.search(before) or (wide and text[begin].isupper())):
        return False
    if word is None or len(before) + 1 + len(word[0]) <= width:
        return True
    if after[0].islower() and (wide or text[begin].isupper()):
        return False
    if after[0].islower():
        return True
    if before.isupper() or len(word[0]) < 2 or not word[0][1].islower():
        return not wide  # capitals, acronyms and numbers do not indicate a new sentence
    return not (wide and writing.capital_nouns)


def widths(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """(end of paragraph, characters of its longest line) for the paragraphs of a section, in order."""
    found = []
    for paragraph in re.finditer(r"(?:[^\n]*\S[^\n]*\n?)+", text[start:end]):
        found.append((start + paragraph.end(), max(map(len, paragraph[0].rstrip().split("\n")))))
    return found
