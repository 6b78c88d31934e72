"""Answers written as programs, forms and hurried people write them, brought into the form "Pneumothorax: no"."""

from __future__ import annotations

import re

_ANSWER = (
    r"yes|no|none|nil|true|false|present|absent|positive|negative|pos|neg|unknown|"
    r"not (?:seen|present|identified|detected|found|evident)|normal|abnormal|"
    r"ja|nein|keine?[rsnm]?|vorhanden|negativ|positiv|nicht (?:vorhanden|nachweisbar|erkennbar)"
)
# "Pneumothorax (Yes/No): No": the choice that a form offers is no answer.
_CHOICE = re.compile(
    r"[ \t]{0,9}[\[(]?\b(?:yes ?/ ?no|no ?/ ?yes|y ?/ ?n|n ?/ ?y|ja ?/ ?nein|nein ?/ ?ja|j ?/ ?n)\b[\])]?"
    r"(?=\s*[:=]\s*\S)",
    re.IGNORECASE,
)
# {"pneumothorax": false, "effusion": "absent"}
_QUOTED_LABEL = re.compile(r"[{,]?\s{0,9}[\"']([A-Za-z][\w /-]{0,60})[\"']\s*:\s*(?=[\"'\w])")
_QUOTED_ANSWER = re.compile(rf"(?<=[:=])\s*[\"'“‘<{{]\s*({_ANSWER})\s*[\"'”’>}}]", re.IGNORECASE)
# "Pneumothorax -> no"; a line that is no more than "Pneumothorax,no" or "Pneumothorax;no"
_ARROW = re.compile(rf"[ \t]{{0,9}}(?<![-=>])(?:[-=]{{1,9}}>|>>+|[→⇒])\s*(?=(?:{_ANSWER})\b)", re.IGNORECASE)
_ROW = re.compile(
    r"^(?P<label>(?!(?:no|not|without|neg|negative|nil)\b)[A-Za-z][\w/()-]*(?: [\w/()-]+){0,5})"
    rf"\s*[,;]\s*(?P<said>{_ANSWER})\s*[.;,]?$",
    re.IGNORECASE | re.MULTILINE,
)
# "Pneumothorax, no. Effusion, yes.": the same, as sentences of one line
_SAID = r"yes|no|none|absent|present|ja|nein|keine?[rs]?"
_PAIRS = re.compile(
    rf"(?:^|(?<=[.;] ))(?P<label>(?!(?:no|not|without|kein|ohne)\b)[^\W\d_][\w/()-]*(?: [\w/()-]+){{0,3}}), "
    rf"(?P<said>{_SAID})(?=[.;](?:\s|$))",
    re.IGNORECASE | re.MULTILINE,
)
# "PTX-, effusion+": signs right behind their words; without a plus they are hyphens ("upper-, middle- and lower-lobe")
_SIGNED = re.compile(r"^(?=.*[A-Za-z]\+\s{0,9}(?:[,;.]|$)).*\w[-+]\s{0,9}[,;].*$", re.MULTILINE)
_SIGN = re.compile(r"(?<=\w)([-+])(?=\s{0,9}(?:[,;]|[.]?\s{0,9}$))")
# "Yes ___ No _X_"
_LINE_BOX = re.compile(r"(?<!_)_+\s?[xX]\s?_+")
_LINE_BOXES = re.compile(r"^.*_\s?[xX]\s?_.*$", re.MULTILINE)
_LINE_EMPTY = re.compile(r"(?<=\b(?:[Yy]es|YES))\s?_{1,}|(?<=\b(?:[Nn]o|NO))\s?_{1,}")
_ASKED = re.compile(
    r"^((?:q(?:uestion)?[.:] *)?(?:is|are|was|were) there\b[^:?.\n]{1,80}):", re.IGNORECASE | re.MULTILINE
)
_REPLY = re.compile(r"(?<=\?)(\s*)a(?:ns|nswer)?[.:]\s*(?=\w)", re.IGNORECASE)

_CHOSEN = re.compile(r"/ ?(?:no?|yes|y|nein|ja)\b", re.IGNORECASE)
_LABELLED = re.compile(r"[:=]\s*[\"'“‘<{]|[\"']\s*:|\bthere\b[^?.\n]{0,80}:", re.IGNORECASE)
_ENDED = rf"\s*(?:(?:{_ANSWER})\s*[.;,]?\s*(?:\n|$)|(?:{_SAID})[.;])"
_POINTED = re.compile(r"[-=]>|>>")
# What a text has that may hold one of these forms: a character, and a pattern that is searched for where it stands;
# one that begins with a fixed character is found far faster.
TRACES = (
    ("/", _CHOSEN),
    (":", _LABELLED),
    ("=", _LABELLED),
    (">", _POINTED),
    ("→", re.compile("→")),
    ("⇒", re.compile("⇒")),
    ("-", re.compile(r"-(?<=\w-)\s*[,;]")),
    ("+", re.compile(r"\w[+]\s*[,;]")),
    ("_", re.compile(r"_\s?x\s?_", re.IGNORECASE)),
    ("?", re.compile(r"\?\s*a\w{0,5}[.:]", re.IGNORECASE)),
    (",", re.compile(rf",{_ENDED}", re.IGNORECASE)),
    (";", re.compile(rf";{_ENDED}", re.IGNORECASE)),
)


def plain_answers(text: str) -> str:
    """The text with its answers in plain form; a second call changes nothing."""
    text = _CHOICE.sub("", text)
    text = _REPLY.sub(r"\1", _ASKED.sub(r"\1?", text))
    text = _QUOTED_ANSWER.sub(r" \1", _QUOTED_LABEL.sub(r"\n\1: ", text))
    text = _ROW.sub(r"\g<label>: \g<said>", _ARROW.sub(": ", text))
    text = _PAIRS.sub(r"\g<label>: \g<said>", text)
    text = _SIGNED.sub(lambda line: _SIGN.sub(r" (\1)", line[0]), text)
    return _LINE_BOXES.sub(lambda line: _LINE_EMPTY.sub(" [ ]", _LINE_BOX.sub(" [x] ", line[0])), text)
