"""Whether a line end ends a statement (lists without full stops) or only the line (wrapped prose)."""

from __future__ import annotations

import re

_WRAPPED = 50  # characters; no program wraps prose in a narrower column
_STOPPED = re.compile(r"[.;!?]['\")\]”]*$")
_LABELLED_END = re.compile(r"(?:[:=?|\t]|\s[-–]+\s|\s{2,})\s*(?:no|not|none|yes|without)\s*$", re.IGNORECASE)
_OPEN_END = re.compile(
    r"(?:[,&(+]|\b(?:and|or|nor|and/or|of|the|a|an|in|at|with|without|no|not|for|to|is|are|was|were|has|have|been|be|by|from|on|"
    r"that|which|than|as|but|any|evidence|there|may|could|suggests?|suggesting|represents?|representing|measuring|measures|"
    r"this|these|its|due|consistent|compatible|between|within|along|near|over|into|versus|vs|likely|possible|probable))\s*$",
    re.IGNORECASE,
)
_QUALIFIED_END = re.compile(
    r"\b(?:small|large|mild|moderate|severe|minimal|trace|new|old|stable|left|right|bilateral|both|acute|focal|pleural|"
    r"pulmonary|mediastinal|hilar|apical|basal|basilar|upper|lower|middle|rib|lung)\s*$",
    re.IGNORECASE,
)  # a noun must follow
_OPEN_START = re.compile(
    r"(?:and|or|nor|of|with|without|in|at|on|to|from|is|are|was|were|has|have|which|that|but|by|for|as|than|seen|noted|"
    r"consistent|compatible|suggesting|suggestive|measuring|representing|likely|due|may|could|versus|vs|identified|involving)\b|[,)]"
)
_TRAILING = re.compile(r"[,&]\s*$|\b(?:and|or|nor)\s*$", re.IGNORECASE)
_LEADING = re.compile(r"(?:and|or|nor)\b")
_LABEL_END = re.compile(r"[\w)/ -]{2,60}:\s*$")
_ALONE = re.compile(r"\W*(?:no|none|yes)\W*", re.IGNORECASE)
_LABEL_START = re.compile(r"[A-Z][A-Za-z /()'-]{1,40}?[ \t]*[:=|?]")
_LABEL_LINE = re.compile(r"[A-Za-z][A-Za-z/ -]{2,40}")
_ANSWER_LINE = re.compile(r"(?:no|none|yes|nil|absent|present|negative|positive)[ \t]*\.?[ \t]*(?=\n|$)", re.IGNORECASE)
_LIST_ITEM = re.compile(r"(?:[-•*>]|\d{1,2}[.)])\s")
_WORD = re.compile(r"\S+")


def ends_statement(text: str, begin: int, end: int, following: int, width: int) -> bool:
    """Whether the line end between ``end`` and ``following`` ends the statement that begins at ``begin``.

    ``width``: characters of the paragraph's longest line; where the next word would have fitted, it is not a wrap.
    """
    line = text.rfind("\n", 0, end) + 1
    before = text[max(begin, line) : end].rstrip()
    after = text[following : following + 200]
    if _LIST_ITEM.match(after) or _STOPPED.search(before):
        return True
    if _ANSWER_LINE.match(after) and _LABEL_LINE.fullmatch(before.strip()):
        return False  # a label on one line, its answer on the next
    if _LABELLED_END.search(before):
        return True
    if _ALONE.fullmatch(before) and begin <= line and not (begin == line and after[0].islower()):
        return True
    if _LABEL_START.match(after):
        return True
    if _LABEL_END.search(before) and "\n" not in text[begin:end]:
        return _LABEL_END.fullmatch(after.split("\n", 1)[0]) is not None
    if "\n" in text[end:following].strip(" \t").replace("\n", "", 1):  # an empty line
        if after[0].islower() and _OPEN_END.search(before):
            return False
        return not (_TRAILING.search(before) or _LEADING.match(after))
    if _OPEN_END.search(before) or _OPEN_START.match(after):
        return False
    word = _WORD.match(after)
    wide = width >= _WRAPPED
    if after[0].islower() and (_QUALIFIED_END.search(before) or (wide and text[begin].isupper())):
        return False
    if word is None or len(before) + 1 + len(word[0]) <= width:
        return True
    if after[0].islower() and (wide or text[begin].isupper()):
        return False
    if after[0].islower():
        return True
    if before.isupper() or len(word[0]) < 2 or not word[0][1].islower():
        return not wide  # capitals, acronyms and numbers do not indicate a new sentence
    return True


def widths(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """(end of paragraph, characters of its longest line) for the paragraphs of a section, in order."""
    found = []
    for paragraph in re.finditer(r"(?:[^\n]*\S[^\n]*\n?)+", text[start:end]):
        found.append((start + paragraph.end(), max(map(len, paragraph[0].rstrip().split("\n")))))
    return found
