"""Answers: MSH, MSA and, where something is wrong, ERR (HL7 2.9, chapters 2.9, 2.13.9, 2.13.5 and 2.10.3).

Original mode: one answer, AA, AE or AR. Enhanced mode (MSH-15 or MSH-16 is valued, 2.9.3): the accept acknowledgement
CA, CE or CR where MSH-15 asks for it, then the application's own where MSH-16 does. A message is read and committed
before anything is said of it. So the accept acknowledgement says already what is wrong, and the application's own
follows a CA only, or stands alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
_ACKNOWLEDGEMENTS = frozenset({b"ACK", b"MCF"})  # MCF: the delayed one of 2.1


@dataclass(frozen=True, kw_only=True)
class _Head:
    """The MSH segment of the message that is answered, as far as it has one."""

    separator: bytes
    fields: Sequence[bytes]  # by the standard's number less one

    def field(self, number: int) -> bytes:
        return self.fields[number - 1]

    @property
    def marks(self) -> bytes:
        """Component, repetition, escape and subcomponent separator."""
        return self.field(2) or b"^~\\&"

    def first(self, number: int) -> bytes:
        """The first component of a field; empty where it is said to be empty (``""``)."""
        found = self.field(number).split(self.marks[0:1])[0].strip()
        return b"" if found == b'""' else found

    def is_wanted(self, number: int, is_good: bool) -> bool:
        """Whether MSH-15 or MSH-16 asks for an answer (table 0155); what is no value of the table asks for it."""
        said = self.first(number).upper()
        return said not in (b"", b"NE", b"ER" if is_good else b"SU")


def _head(raw: bytes) -> _Head:
    line = re.split(rb"[\r\n]", raw.lstrip(b"\xef\xbb\xbf \r\n\t")[:_MOST_HEAD], maxsplit=1)[0]
    usable = line.startswith(b"MSH") and len(line) >= 8 and line[3:4].isascii() and not line[3:4].isalnum()
    separator = line[3:4] if usable else b"|"
    fields = line.split(separator) if usable else _HEAD.split(b"|")
    return _Head(separator=separator, fields=[b"MSH", *fields[1:], *[b""] * 20])


def is_acknowledgement(raw: bytes) -> bool:
    """Whether the message is itself an answer, which nobody answers."""
    return _head(raw).first(9).upper() in _ACKNOWLEDGEMENTS


def acknowledgements(
    raw: bytes, verdict: Verdict, *, new_id: Callable[[], str], now: datetime | None = None
) -> list[bytes]:
    """All that is answered to the message ``raw``, in order: one in original mode, none to two in enhanced mode."""
    head = _head(raw)
    if not (head.first(15) or head.first(16)):
        return [acknowledge(raw, verdict, new_id=new_id, now=now)]
    is_good = verdict.answer == "AA"
    found = []
    if is_accept_wanted := head.is_wanted(15, is_good):
        found.append(acknowledge(raw, verdict, code=f"C{verdict.answer[1]}", new_id=new_id, now=now))
    if head.is_wanted(16, is_good) and (is_good or not is_accept_wanted):
        found.append(acknowledge(raw, verdict, new_id=new_id, now=now, wants=b"NE"))
    return found


def acknowledge(
    raw: bytes,
    verdict: Verdict,
    *,
    new_id: Callable[[], str],
    now: datetime | None = None,
    code: str = "",
    wants: bytes = b"",
) -> bytes:
    """One answer to the message ``raw``, in its separators; its sender's names come back as they were written.

    ``code``: MSA-1, where it is not the verdict's own. ``wants``: MSH-15 and MSH-16 of the answer.
    """
    head = _head(raw)
    f, marks = head.separator, head.marks
    c, e = marks[0:1], marks[2:3] or b"\\"
    kind = head.field(9).split(c)
    trigger = kind[1] if len(kind) > 1 else b""
    version = head.first(12) or b"2.5"

    def escaped(text: str) -> bytes:
        said = text.encode("ascii", "replace").replace(e, e + b"E" + e)
        for mark, name in ((f, b"F"), (c, b"S"), (marks[1:2], b"R"), (marks[3:4], b"T")):
            if mark and mark != e:
                said = said.replace(mark, e + name + e)
        return said

    at = (now or datetime.now(UTC)).strftime("%Y%m%d%H%M%S.000+0000").encode()
    structure = c.join([b"ACK", trigger, b"ACK"]) if trigger else b"ACK"
    msh = [b"MSH", marks, head.field(5), head.field(6), head.field(3), head.field(4), at, b"", structure]
    msh += [new_id().encode(), head.field(11) or b"P", version]
    if wants:
        msh += [b"", b"", wants, wants]
    msa = [b"MSA", (code or verdict.answer).encode(), head.field(10), escaped(verdict.reason)]
    segments = [f.join(msh), f.join(msa).rstrip(f)]
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
