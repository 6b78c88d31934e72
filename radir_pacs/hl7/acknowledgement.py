"""Answers in original mode: MSH, MSA and, where something is wrong, ERR (HL7 2.9, 2.9.2 and 2.13)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from radir_pacs.catalogue import Verdict

_ERR_FIELDS_FROM = (2, 5)  # ERR-2 to -8 replace ERR-1
_HEAD = b"MSH|^~\\&"
_NAMES = {
    "100": "Segment sequence error",
    "101": "Required field missing",
    "102": "Data type error",
    "200": "Unsupported message type",
    "201": "Unsupported event code",
    "202": "Unsupported processing id",
    "203": "Unsupported version id",
    "204": "Unknown key identifier",
    "207": "Application internal error",
}
_MOST_HEAD = 4096


def acknowledge(raw: bytes, verdict: Verdict, *, new_id: Callable[[], str], now: datetime | None = None) -> bytes:
    """The answer to the message ``raw``, in its separators; its sender's names come back as they were written."""
    line = re.split(rb"[\r\n]", raw.lstrip(b"\xef\xbb\xbf \r\n\t")[:_MOST_HEAD], maxsplit=1)[0]
    usable = line.startswith(b"MSH") and len(line) >= 8 and line[3:4].isascii() and not line[3:4].isalnum()
    fields = line.split(line[3:4]) if usable else _HEAD.split(b"|")
    fields += [b""] * (19 - len(fields))
    f = line[3:4] if usable else b"|"
    marks = fields[1] or b"^~\\&"
    c, e = marks[0:1], marks[2:3] or b"\\"
    kind = fields[8].split(c)
    trigger = kind[1] if len(kind) > 1 else b""
    version = fields[11].split(c)[0] or b"2.5"

    def escaped(text: str) -> bytes:
        said = text.encode("ascii", "replace").replace(e, e + b"E" + e)
        for mark, name in ((f, b"F"), (c, b"S"), (marks[1:2], b"R"), (marks[3:4], b"T")):
            if mark and mark != e:
                said = said.replace(mark, e + name + e)
        return said

    at = (now or datetime.now(UTC)).strftime("%Y%m%d%H%M%S.000+0000").encode()
    structure = c.join([b"ACK", trigger, b"ACK"]) if trigger else b"ACK"
    head = [b"MSH", marks, fields[4], fields[5], fields[2], fields[3], at, b"", structure, new_id().encode()]
    head += [fields[10] or b"P", version]
    msa = [b"MSA", verdict.answer.encode(), fields[9], escaped(verdict.reason)]
    segments = [f.join(head), f.join(msa).rstrip(f)]
    if verdict.answer != "AA":
        segments.append(f.join(_err(verdict, version, c, marks[3:4] or b"&", escaped)))
    return b"".join(segment + b"\r" for segment in segments)


def _err(verdict: Verdict, version: bytes, c: bytes, s: bytes, escaped: Callable[[str], bytes]) -> list[bytes]:
    code = verdict.error_code or "207"
    named = [code.encode(), escaped(_NAMES.get(code, "Error")), b"HL70357"]
    place = [escaped(part) for part in verdict.error_at.split("^")] if verdict.error_at else []
    digits = tuple(int(part) for part in version.split(b".")[:2] if part.isdigit())
    if len(digits) == 2 and digits < _ERR_FIELDS_FROM:
        return [b"ERR", c.join([*(place + [b""] * 3)[:3], s.join(named)])]
    return [b"ERR", b"", c.join(place), c.join(named), b"E", b"", b"", b"", escaped(verdict.reason)]


def acknowledge_batch(raw: bytes, answers: Sequence[bytes]) -> bytes:
    """The answers to a batch as a batch (2.10.3); BHS-12 names the one that is answered."""
    lines = re.split(rb"[\r\n]+", raw.lstrip(b" \r\n\t"))
    head = next((line for line in lines[:2] if line.startswith(b"BHS")), lines[0])
    is_file = lines[0].startswith(b"FHS")
    usable = head[:3] in (b"BHS", b"FHS") and len(head) >= 8
    f = head[3:4] if usable else b"|"
    fields = (head.split(f) if usable else []) + [b""] * 12
    marks = fields[1] or b"^~\\&"
    begin = f.join([b"", marks, fields[4], fields[5], fields[2], fields[3], *[b""] * 5, fields[10]])
    batch = b"BHS" + begin + b"\r" + b"".join(answers) + b"BTS" + f + str(len(answers)).encode() + b"\r"
    return b"FHS" + f + marks + b"\r" + batch + b"FTS" + f + b"1\r" if is_file else batch
