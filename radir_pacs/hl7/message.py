"""A message as segments and fields (HL7 2.9 chapter 2.6), read tolerantly.

Any separators, line ends and character set; a line that begins with no segment's name goes on with the field before it,
as where a sender left the line breaks of a text alone. Fields are split when they are asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone

from radir_pacs.dicom.character_sets import CharacterSets
from radir_pacs.errors import BadInput

from .character_sets import decoded, reader

MOST_SEGMENTS = 20_000
_LINE_END = re.compile(rb"\r\n|\r|\n")
_NAME = re.compile(r"[A-Z][A-Z0-9]{2}\Z")
_MOST_CONTROL_ID = 199
_MOST_CHARACTER_SETS = 10
_TIME = re.compile(
    r"(\d{4})(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:\.(\d{1,6})\d*)?)?)?)?)?)?\s*([+-]\d{4})?\s*\Z"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Separators:
    """MSH-1 and MSH-2; one that a sender left out is the usual one."""

    field: str = "|"
    component: str = "^"
    repetition: str = "~"
    escape: str = "\\"
    subcomponent: str = "&"


class Segment:
    """One segment; numbers are those of the standard, from 1, in MSH too."""

    def __init__(self, name: str, parts: list[str], message: Message) -> None:
        self.name, self._parts, self._message = name, parts, message

    def raw(self, number: int) -> str:
        """A whole field as it came, escapes and all; empty when it is missing or said to be empty (``""``)."""
        found = self._parts[number] if number < len(self._parts) else ""
        return "" if found == '""' else found

    def repetitions(self, number: int) -> list[str]:
        """A field's repetitions as they came."""
        return self.raw(number).split(self._message.separators.repetition)

    def components(self, number: int, repetition: int = 0) -> list[str]:
        """The components of one repetition as they came."""
        found = self.repetitions(number)
        return (found[repetition] if repetition < len(found) else "").split(self._message.separators.component)

    def text(self, number: int, component: int = 1, subcomponent: int = 1, *, repetition: int = 0) -> str:
        """One subcomponent, unescaped and stripped; empty when it is missing."""
        found = self.components(number, repetition)
        part = found[component - 1] if component <= len(found) else ""
        parts = part.split(self._message.separators.subcomponent)
        said = parts[subcomponent - 1] if subcomponent <= len(parts) else ""
        return "" if said == '""' else self._message.unescaped(said).strip()

    def time(self, number: int) -> datetime | None:
        """A time stamp; without a zone UTC is assumed, since only times of one sender are compared."""
        return parse_time(self.text(number))


class Message:
    """A message; ``segments`` in order, MSH first. Made by `read_message`."""

    def __init__(self, separators: Separators, charset: CharacterSets) -> None:
        self.separators, self.charset = separators, charset
        self.segments: list[Segment] = []

    @property
    def header(self) -> Segment:
        return self.segments[0]

    @property
    def kind(self) -> str:
        """Message code and trigger event, as ``ORU^R01``."""
        return f"{self.header.text(9, 1)}^{self.header.text(9, 2)}".rstrip("^")[:20]

    @property
    def sender(self) -> str:
        """Sending application and facility."""
        return f"{self.header.text(3)}|{self.header.text(4)}".rstrip("|")[:200]

    @property
    def control_id(self) -> str:
        return self.header.text(10)[:_MOST_CONTROL_ID]

    def all(self, *names: str) -> Iterator[Segment]:
        return (segment for segment in self.segments if segment.name in names)

    def first(self, name: str) -> Segment | None:
        return next(self.all(name), None)

    def unescaped(self, text: str) -> str:
        """``text`` with its escapes (2.7) carried out; formatting (2.7.6) as lines and spaces."""
        escape = self.separators.escape
        if not escape or escape not in text:
            return text
        mark = re.escape(escape)
        return re.sub(rf"{mark}([^{mark}\n]{{1,200}}){mark}", self._escape, text)

    def _escape(self, found: re.Match[str]) -> str:
        name, separators = found[1], self.separators
        characters = {
            "F": separators.field,
            "S": separators.component,
            "T": separators.subcomponent,
            "R": separators.repetition,
            "E": separators.escape,
            "H": "",
            "N": "",
        }
        if name in characters:
            return characters[name]
        if name.startswith("."):
            return _formatting(name[1:].lower())
        if name.startswith("X") and len(name) % 2 and re.fullmatch(r"X[0-9A-Fa-f]+", name):
            return decoded(bytes.fromhex(name[1:]), self.charset).replace("\r\n", "\n").replace("\r", "\n")
        if name[0] in "ZCM" and name[1:].isalnum():  # of the sender's own making, or a change of character set
            return ""
        return found[0]  # somebody's backslashes


def _formatting(command: str) -> str:
    count = int(re.sub(r"\D", "", command)[:2] or 1)
    if command.startswith(("br", "sp", "ce")):
        return "\n" * (min(count, 3) if command.startswith("sp") else 1)
    return " " * min(count, 20) if command.startswith("sk") else ""


def read_message(raw: bytes, fallback: str = "ISO_IR 100") -> Message:
    """The message in ``raw``; ``fallback``: a DICOM defined term, for text that names no character set.

    Raises BadInput for what does not begin with MSH, or has too many segments.
    """
    lines = _LINE_END.split(raw.removeprefix(b"\xef\xbb\xbf").strip(b" \r\n\t"))
    if not lines[0].startswith(b"MSH") or len(lines[0]) < 8:
        raise BadInput("the message does not begin with MSH")
    if len(lines) > MOST_SEGMENTS:
        raise BadInput(f"the message has more than {MOST_SEGMENTS} segments")
    field = lines[0][3:4]
    named = (lines[0].split(field) + [b""] * 18)[17].split(lines[0][5:6] if lines[0][5:6] != field else b"\n")
    charset = reader(tuple(name.decode("ascii", "replace") for name in named[:_MOST_CHARACTER_SETS]), fallback)
    head = decoded(lines[0], charset)
    separators = _separators(head)
    message = Message(separators, charset)
    texts: list[list[str]] = []
    for line in lines:
        text = decoded(line, charset)
        parts = text.split(separators.field, 1)
        if _NAME.fullmatch(parts[0].strip()):
            texts.append([text])
        else:
            texts[-1].append(text)
    for text in ("\n".join(lines_of_one).rstrip("\n") for lines_of_one in texts):
        parts = text.split(separators.field)
        name = parts[0].strip()
        if name == "MSH":
            parts.insert(1, separators.field)
        message.segments.append(Segment(name, parts, message))
    return message


def _separators(head: str) -> Separators:
    field = head[3]
    given = head[4:].split(field, 1)[0]
    if field.isalnum() or field.isspace() or not given:
        raise BadInput("MSH names no separators")
    usual = Separators()
    names = ("component", "repetition", "escape", "subcomponent")
    found = dict(zip(names, given, strict=False))
    return Separators(field=field, **{name: found.get(name, getattr(usual, name)) for name in names})


def parse_time(text: str) -> datetime | None:
    """A DTM or TS value (2.A.22); None when it is none."""
    match = _TIME.match(text)
    if match is None:
        return None
    parts = zip(match.groups()[:6], (1, 1, 1, 0, 0, 0), strict=True)
    year, month, day, hour, minute, second = (int(part or default) for part, default in parts)
    micro = int((match[7] or "0").ljust(6, "0"))
    zone = match[8]
    offset = timedelta(hours=int(zone[:3]), minutes=int(zone[0] + zone[3:])) if zone else timedelta(0)
    try:
        return datetime(year, month, day, hour, minute, min(second, 59), micro, timezone(offset)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def parse_day(text: str) -> date | None:
    """The day of a DT or DTM value."""
    match = re.match(r"(\d{4})(\d\d)(\d\d)", text)
    try:
        return date(int(match[1]), int(match[2]), int(match[3])) if match else None
    except ValueError:
        return None
