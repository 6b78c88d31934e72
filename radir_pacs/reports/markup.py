"""A report's text without its markup: RTF, HTML and CDA, HL7 escapes, entities, odd spaces and line ends.

Lines and words remain, and only these are stored, mined and shown. A plain text stays as it is.
"""

from __future__ import annotations

import html
import re
import unicodedata
from html.parser import HTMLParser

from striprtf.striprtf import rtf_to_text

from radir_pacs.reports.answer_forms import TRACES
from radir_pacs.reports.filled_in import spelled_out

_MOST_RTF = 20  # documents in one text; a report in RTF is one, a row of a table a few
_ROUNDS = 4  # an escape may contain another: "\T\nbsp;" is "&nbsp;" is a space
# What shows that a text is not plain; most are plain. A set of characters, fixed strings and patterns that begin with a
# character are searched for far faster than one pattern of them all.
_SIGN = re.compile(
    r"[&<\\~{\r\t|\x0b\x0c\x85\xa0\xad\u0300-\u036f\ufb00-\ufb04\u2000-\u200f\u2028\u2029\u202f\ufeff\[☐-☒□■○◯●◉✓✔✗✘]"
)
_STRINGS = ("_x000D_", "   ", "...")
_BEGUN = (
    ("*", re.compile(r"\*\S")),
    ("(", re.compile(r"\( ?[xX*]? ?\)")),
    (":", re.compile(r":\s*\n")),
    ("?", re.compile(r"\?\s*\n")),
    ("+", re.compile(r"\n[ \t]*\+ |^\+ ")),
    ("ollowing", re.compile(r"\bthe following\b", re.IGNORECASE)),
    ("OLLOWING", re.compile(r"\bthe following\b", re.IGNORECASE)),
    *TRACES,
)
_SPACES = dict.fromkeys(
    map(ord, "\xa0\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u3000"), " "
)
_NOTHING = dict.fromkeys(map(ord, "\xad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"), None)
_LIGATURES = {0xFB00: "ff", 0xFB01: "fi", 0xFB02: "fl", 0xFB03: "ffi", 0xFB04: "ffl"}
_TRANSLATED = _SPACES | _NOTHING | _LIGATURES
_COMBINING = re.compile(r"[\u0300-\u036f]")
_LINE_END = re.compile(r"\r\n?|_x000D_\n?|[\x0b\x0c\x85\u2028\u2029]")

_RTF = re.compile(r"\{\\rtf\d?")
_STRUCK = re.compile(r"\{\\strike1?[ \\][^{}]*\}|\\strike1? [^{}\\]*(?=\\strike0)")  # struck out is not said
_RTF_GROUP = re.compile(r"\\[\\{}]|[{}]")

# HL7 v2, chapter 2.7: escapes between backslashes; "~" repeats a field, which is a line of a report.
_SEGMENT = re.compile(
    r"^(?:MSH|PID|PV1|ORC|OBR|NTE|ZDS)\|.*$|^OBX\|[^|\n]*\|[A-Z]{2}\|[^|\n]*\|[^|\n]*\|([^|\n]*).*$", re.MULTILINE
)
_HL7 = re.compile(r"\\((?i:\.(?:br|sp|in|ti|fi|nf|ce|sk))|[HNTSRFE]|X[0-9A-Fa-f]{2,8})([+-]?\d*)\\")
_HL7_CHARACTERS = {"T": "&", "S": "^", "R": "~", "F": "|", "E": "\\", "H": "", "N": ""}
_REPETITION = re.compile(r"[ \t]*~(?!\s?\d+(?![.)\d]))[ \t]*")
_WRITTEN_LINE_END = re.compile(
    r"(?:\\r)?\\n(?![a-z])|\\r(?=\s|[A-Z]|$)"
)  # a program's "\n" that was never turned into one

_BLOCKS = frozenset(
    {
        "p",
        "br",
        "div",
        "li",
        "ul",
        "ol",
        "dl",
        "dt",
        "dd",
        "tr",
        "table",
        "tbody",
        "thead",
        "pre",
        "blockquote",
        "section",
        "article",
        "header",
        "footer",
        "hr",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "body",
        "html",
        "title",
        "paragraph",
        "item",
        "list",
        "caption",
        "component",
        "structuredbody",
        "center",
        "form",
        "fieldset",
        "legend",
        "label",
    }
)
_INLINE = frozenset(
    {
        "b",
        "strong",
        "i",
        "em",
        "u",
        "s",
        "strike",
        "del",
        "ins",
        "span",
        "font",
        "a",
        "sub",
        "sup",
        "small",
        "big",
        "td",
        "th",
        "input",
        "content",
        "text",
        "code",
        "tt",
        "style",
        "script",
        "head",
        "meta",
        "link",
        "img",
    }
)
_HEADING_TAGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6", "caption", "legend", "dt", "title"})
_HIDDEN = frozenset({"script", "style", "head", "s", "strike", "del"})  # struck out is not said
_TAG = re.compile(rf"</?(?:{'|'.join(sorted(_BLOCKS | _INLINE, key=len, reverse=True))})\b[^<>]*>", re.IGNORECASE)
_EMPHASIS = re.compile(r"(?<![\w*\[])(\*{1,3})([^\s*][^*\n]{0,80}?)\1(?![\w*\]])")  # Markdown; not "[**Hospital**]"
_STRAY = re.compile(r"<(?!/?[A-Za-z][^<>]*>)")  # not a tag; the parser would search for its end again and again
_ENTITY = re.compile(r"&(?:[A-Za-z]{2,8}|#\d{1,6}|#[xX][0-9A-Fa-f]{1,5});?")


def _is_plain(text: str) -> bool:
    return not (
        _SIGN.search(text)
        or any(string in text for string in _STRINGS)
        or any(begin in text and pattern.search(text) for begin, pattern in _BEGUN)
    )


def plain_text(text: str) -> str:
    """``text`` as lines of words. A second call changes nothing, so offsets into the result stay valid."""
    if _is_plain(text):
        return text
    for _ in range(_ROUNDS):
        undressed = _undressed(text)
        if undressed == text:
            break
        text = undressed
    spelled = spelled_out(text)
    return spelled if spelled == text else spelled_out(spelled)  # "[x]Effusion, no." is an answer without its box


def _undressed(text: str) -> str:
    if _RTF.search(text):
        text = _without_rtf(text)
    if _COMBINING.search(text):
        text = unicodedata.normalize("NFC", text)  # "u" and its dots as one letter, as in the lexicons
    text = _LINE_END.sub("\n", text.translate(_TRANSLATED))
    if "|" in text:
        text = _SEGMENT.sub(lambda segment: segment[1] or "", text)
    if "\\" in text:
        text = _WRITTEN_LINE_END.sub("\n", _HL7.sub(_hl7, text))
    if "~" in text:
        text = _REPETITION.sub("\n", text)
    if "*" in text:
        text = _EMPHASIS.sub(r"\2", text)
    if _TAG.search(text):
        text = _without_tags(text)
    elif "&" in text:
        text = _ENTITY.sub(lambda entity: html.unescape(entity[0]), text)
    return text


def _without_rtf(text: str) -> str:
    """RTF groups as text; a group that is never closed ends with the text, a broken one stays as it is."""
    begin = _RTF.search(text)
    for _ in range(_MOST_RTF):
        if begin is None:
            break
        depth, end = 0, len(text)
        for mark in _RTF_GROUP.finditer(text, begin.start()):
            depth += {"{": 1, "}": -1}.get(mark[0], 0)
            if depth == 0:
                end = mark.end()
                break
        read = rtf_to_text(_STRUCK.sub("", text[begin.start() : end]), errors="ignore")
        text = text[: begin.start()] + read.replace("|", "\t") + text[end:]
        begin = _RTF.search(text, begin.start() + len(read))
    return text


def _hl7(escape: re.Match[str]) -> str:
    name, count = escape[1].upper(), int(escape[2] or 1)
    if name in _HL7_CHARACTERS:
        return _HL7_CHARACTERS[name]
    if name.startswith("X"):
        return bytes.fromhex(name[1:] + escape[2] if len(name + escape[2]) % 2 else name[1:]).decode("latin-1")
    return " " if name in {".IN", ".TI", ".FI", ".NF", ".CE"} and name not in {".CE"} else "\n" * max(1, min(count, 3))


def _without_tags(text: str) -> str:
    reader = _Reader(keeps_lines=not re.search(r"<(?:p|br|div|li|tr|h\d|paragraph|item)\b", text, re.IGNORECASE))
    reader.feed(_STRAY.sub("&lt;", _without_comments(text)))
    reader.close()
    lines = (re.sub(r" *\t *|(?<=\S) {2,}(?=\S)", _gap, line).strip(" ") for line in "".join(reader.parts).split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n")


def _without_comments(text: str) -> str:
    parts, position = [], 0
    while (begin := text.find("<!--", position)) >= 0 and (end := text.find("-->", begin)) >= 0:
        parts.append(text[position:begin])
        position = end + 3
    return "".join([*parts, text[position:]])


def _gap(gap: re.Match[str]) -> str:
    return "\t" if "\t" in gap[0] else " "


class _Reader(HTMLParser):
    """Text with a line per block, a tab between cells, boxes for check boxes, and a colon after headings."""

    def __init__(self, *, keeps_lines: bool) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._keeps_lines = keeps_lines
        self._hidden: list[str] = []
        self._preformatted = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _BLOCKS and tag not in _INLINE:
            self.parts.append(self.get_starttag_text() or "")  # "<RUL>" is somebody's bracket
            return
        if tag in _HIDDEN:
            self._hidden.append(tag)
        if tag == "input":
            given = dict(attrs)
            if given.get("type") in {"checkbox", "radio"}:
                self.parts.append("[x] " if "checked" in given else "[ ] ")
        self._preformatted += tag == "pre"
        self._break(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._hidden and tag == self._hidden[-1]:
            self._hidden.pop()
        if tag in _HEADING_TAGS and self.parts and not "".join(self.parts[-2:]).rstrip().endswith((":", ".", "-")):
            self.parts.append(":")
        self._preformatted -= tag == "pre"
        if tag in {"td", "th"}:
            self.parts.append("\t")
        elif tag != "br":
            self._break(tag)

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.parts.append(data if self._keeps_lines or self._preformatted > 0 else re.sub(r"\s+", " ", data))

    def _break(self, tag: str) -> None:
        if tag not in _BLOCKS:
            return
        if tag in {"p", "div", "table"} and self.parts and self.parts[-1] != "\n\n":
            self.parts.append("\n\n")
        elif tag == "br" or (self.parts and not self.parts[-1].endswith("\n")):
            self.parts.append("\n")
