"""Filled-in forms, spelled out: tick boxes, columns and lists become lines such as "Pneumothorax: no".

Nothing here knows a finding: a form is recognised by its boxes, its columns and the words that answer. What was not
ticked where something else was is denied; a form in which nothing is ticked says nothing and stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from radir_pacs.reports.answer_forms import plain_answers
from radir_pacs.reports.lists import answered_below, listed

_YES = r"yes|y|present|positive|pos|seen|true|abnormal|ja|j|vorhanden|nachweisbar|positiv"
_NO = (
    r"no|n|none|nil|absent|negative|neg|not seen|not present|false|normal|nein|keine?[rsnm]?|negativ|fehlt|"
    r"nicht (?:vorhanden|nachweisbar|erkennbar|abgrenzbar)"
)
_OTHER = (
    r"n/?a|not (?:assessed|evaluated|applicable)|unknown|equivocal|possible|indeterminate|unchanged|stable|new|old|"
    r"fraglich|möglich|nicht beurteilbar|unverändert|neu"
)
_SIDES = r"right|left|bilateral|both|r|l|rt|lt|rechts|links|beidseits|beidseitig|bds\.?|re\.?|li\.?"
_EXTENT = rf"{_SIDES}|mild|moderate|severe|small|large|trace|minimal|gering|mäßig|ausgeprägt|klein|groß"
_OPTION = re.compile(rf"[\s,;/|]*(?:{_YES}|{_NO}|{_OTHER}|{_EXTENT})[\s,;/|.]*", re.IGNORECASE)
_ANSWER = re.compile(rf"(?:{_YES}|{_NO}|{_OTHER}|[-+x✓✔✗✘●○0]|\([-+]\))[.]?(?!\w)", re.IGNORECASE)

# A box is ticked, crossed for "no", or empty. A letter in round brackets is a box only if it is an x.
_BOX = re.compile(
    r"\[ ?(?P<square>[xX✓✔*+YyNn-]|) ?\]|\[ {0,3}\]|\( ?(?P<round>[xX✓✔*]) ?\)|\( {0,3}\)|"
    r"(?P<sign>[☐☑☒□■○◯●◉✓✔✗✘])"
)
_TICKED = frozenset("xX✓✔*+Yy☑☒■●◉")
_CROSSED = frozenset("nN-✗✘")
_LIST_MARK = re.compile(r"^\s*(?:[-•*>]|\d{1,2}[.)])?\s*")

_CELLS = re.compile(r"\s*[|\t]\s*")
_GAPS = re.compile(r"\t| {3,}|\s?\.{3,}\s?|\s?_{3,}\s?")
_TITLE = re.compile(r"(?:(?:item|finding|value|result|status|answer)s?|befunde?|ergebnis|wert): ", re.IGNORECASE)
_RULE = re.compile(r"[\s|+:=_-]*")
_COLUMN = re.compile(rf"(?:{_YES}|{_NO}|{_EXTENT})", re.IGNORECASE)
_MARK = re.compile(r"[xX✓✔*●+☑☒■◉]|\([xX]\)|\[[xX]\]")
_SIDE = re.compile(_SIDES, re.IGNORECASE)

_SIGNED = re.compile(r"\s*([-+])\s+(?=\S)")


def spelled_out(text: str) -> str:
    """The text with its forms as statements; a text without forms stays as it is."""
    lines = list(_tables(plain_answers(text).split("\n")))
    ticked = any(_is_ticked(box) for line in lines for box in _BOX.finditer(line))
    return "\n".join(listed(answered_below(_signs(list(_boxes(lines, ticked))))))


def _is_ticked(box: re.Match[str]) -> bool:
    return (box["square"] or box["round"] or box["sign"] or "") in _TICKED


def _is_crossed(box: re.Match[str]) -> bool:
    return (box["square"] or box["sign"] or "") in _CROSSED


def _boxes(lines: list[str], ticked: bool) -> Iterator[str]:
    for line in lines:
        boxes = list(_BOX.finditer(line))
        yield from _form(line, boxes, ticked) if boxes else [line]


def _form(line: str, boxes: list[re.Match[str]], ticked: bool) -> Iterator[str]:
    """The statements of a line with boxes, each before or after a label, or an answer to the line's one label."""
    lead = _LIST_MARK.match(line)
    begin = lead.end() if lead and lead.end() <= boxes[0].start() else 0
    first, last = line[begin : boxes[0].start()], line[boxes[-1].end() :]
    between = [line[a.end() : b.start()] for a, b in pairwise(boxes)]
    if last.strip(" .,;|\t"):
        texts, label = [*between, last], first
    else:
        label, _, option = first.rpartition(":") if ":" in first else ("", "", first)
        if not label and len(boxes) > 1 and _OPTION.fullmatch(between[0]):
            words = first.split()  # "Pneumothorax No [x] Yes [ ]"
            label, option = " ".join(words[:-1]), words[-1] if words else ""
        texts = [option, *between]
        if len(boxes) == 1 and not option.strip():
            texts, label = [label], ""
    label = label.strip(" :?-\t|")
    if label and (len(texts) > 1 or _OPTION.fullmatch(texts[0])):
        yield from _answered(label, boxes, texts)
        return
    for number, (box, text) in enumerate(zip(boxes, texts, strict=True)):
        said = text.strip(" ,;|\t")
        if number == 0 and label:
            said = f"{label}: {said}"
        if _is_ticked(box):
            yield said
        elif said and (_is_crossed(box) or ticked or (box.start() and not last.strip())) and not _denies(said):
            yield f"{said.rstrip(' .:')}: no"
        else:
            yield f"[ ] {said}"


def _answered(label: str, boxes: list[re.Match[str]], texts: list[str]) -> Iterator[str]:
    chosen = [text.strip(" ,;/|.\t") for box, text in zip(boxes, texts, strict=True) if _is_ticked(box)]
    yield f"{label}: {', '.join(filter(None, chosen))}" if any(chosen) else f"[ ] {label}"


def _denies(text: str) -> bool:
    return (
        re.search(
            r"\b(?:no|not|none|without|normal|clear|negative|unremarkable|intact|keine?[rsnm]?|nicht|ohne|unauffällig)\b",
            text,
            re.IGNORECASE,
        )
        is not None
    )


def _tables(lines: list[str]) -> Iterator[str]:
    """Rows of cells as "label: cell, cell"; under a header of answers or sides, each cell is read by its column."""
    header: list[str] = []
    for line in lines:
        cells = _cells(line)
        if cells is None:
            header = [] if line.strip() and not _RULE.fullmatch(line) else header
            yield line
        elif _RULE.fullmatch(line):
            continue
        elif any(_COLUMN.fullmatch(cell) for cell in cells[1:]) and (not cells[0] or not _names_row(cells, header)):
            header = cells
        else:
            yield from _row(cells, header)


def _names_row(cells: list[str], header: list[str]) -> bool:
    """Whether a row of cells is about its first cell: two cells always are, unless the first is a column title."""
    if header:
        return True
    if re.fullmatch(
        r"(?:findings?|observations?|items?|feature|structure|side|diagnos[ei]s|result)s?|"
        r"befunde?|struktur|organ|seite|merkmal|diagnosen?|ergebnis",
        cells[0],
        re.IGNORECASE,
    ):
        return False
    return (
        len(cells) == 2
        or sum(bool(_COLUMN.fullmatch(cell)) for cell in cells[1:]) < len(cells) - 1
        or not all(_SIDE.fullmatch(cell) for cell in cells[1:])
    )


def _cells(line: str) -> list[str] | None:
    """The cells of a table row; None for a line of text, or of boxes and their labels."""
    if _BOX.match(line.lstrip(" \t-•*")):
        return None
    if "|" in line:
        cells = [_TITLE.sub("", cell.strip()) for cell in line.strip().strip("|").split("|")]
        return cells if len(cells) > 1 else None
    if "\t" not in line and "   " not in line and "..." not in line and "___" not in line:
        return None
    cells = [cell.strip() for cell in _GAPS.split(line.strip(" ") if "\t" in line else line.strip())]
    if len(cells) < 2 or cells[0].endswith((".", ";", ",")) or len(cells[0].split()) > 6:
        return None
    if "\t" in line or _ANSWER.match(cells[1]) or _COLUMN.fullmatch(cells[1]):
        return cells
    return None


def _row(cells: list[str], header: list[str]) -> Iterator[str]:
    label, values = cells[0].rstrip(" :?"), cells[1:]
    titles = header[1 : len(cells)] if len(header) >= len(cells) else []
    if not titles:
        said = ", ".join(value for value in values if value)
        yield f"{label}: {said}" if label and said else label or said
        return
    rest = []
    answers = []
    for title, value in zip(titles, values, strict=True):
        if not value:
            continue
        if _COLUMN.fullmatch(title) and _MARK.fullmatch(value):
            answers.append(title)
        elif _SIDE.fullmatch(title):
            yield f"{title} {label}: {value}"
        else:
            rest.append(value)
    if answers or rest:
        yield f"{label}: {', '.join([*answers, *rest])}"


def _signs(lines: list[str]) -> Iterator[str]:
    """Lists of "+ effusion" and "- pneumothorax"; where all items have the same sign, it is only a bullet."""
    signs = [found[1] if (found := _SIGNED.match(line)) else "" for line in lines]
    if not {"+", "-"} <= set(signs):
        yield from lines
        return
    for sign, line in zip(signs, lines, strict=True):
        said = line.strip()[1:].strip() if sign else line
        yield f"{said.rstrip(' .')}: no" if sign == "-" and not _denies(said) else said
