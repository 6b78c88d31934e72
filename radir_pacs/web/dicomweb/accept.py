"""Choosing a media type: the Accept header and the accept query parameter (PS3.18 8.3.3.1, 8.7; RFC 9110 12.5.1)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flask import request

from radir_pacs.errors import BadInput, NotAcceptable

DICOM_JSON = "application/dicom+json"
JSON = "application/json"
DICOM = "application/dicom"
OCTETS = "application/octet-stream"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"

_HEADER_CHARACTERS = 8192
_RANGES = 32
_NAME = re.compile(r"[\w!#$&^.+*-]+/[\w!#$&^.+*-]+\Z", re.ASCII)
_DECODED_PLUS = re.compile(r"(?<=[\w.-]) (?=[\w.-])", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class MediaType:
    """``name`` as ``type/subtype`` in lower case, its parameters with lower-case names, and the weight asked for."""

    name: str
    parameters: Mapping[str, str]
    weight: float = 1.0

    @property
    def part(self) -> str | None:
        """The media type inside a multipart/related one, None when it names none."""
        inner = self.parameters.get("type")
        return inner.lower() if inner else None

    @property
    def transfer_syntax(self) -> str | None:
        return self.parameters.get("transfer-syntax")

    def admits(self, offer: str) -> bool:
        """Whether this range covers ``offer``, written ``a/b`` or ``multipart/related; type=a/b``."""
        name, _, part = offer.partition("; type=")
        if self.name == "*/*":
            return True
        if self.name.endswith("/*"):
            return name.startswith(self.name[:-1])
        return self.name == name and (not part or _covers(self.part, part))

    @property
    def takes_parts(self) -> bool:
        """Whether this range covers multipart/related."""
        return self.name in ("multipart/related", "multipart/*", "*/*")


def _covers(asked: str | None, part: str) -> bool:
    return asked in (None, part, "*/*") or (asked.endswith("/*") and part.startswith(asked[:-1]))


def multipart(part: str) -> str:
    """The offer of parts of media type ``part``."""
    return f"multipart/related; type={part}"


def parse_media_type(text: str) -> MediaType:
    """One media type with its parameters, quoted or, as OHIF writes them, bare. Raises BadInput."""
    name, *rest = (piece.strip() for piece in _split(text, ";"))
    if not _NAME.match(name):
        raise BadInput("a media type is malformed")
    parameters = {}
    for piece in rest:
        key, _, value = piece.partition("=")
        parameters[key.strip().lower()] = value.strip().strip('"')
    try:
        weight = float(parameters.pop("q", "1"))
    except ValueError:
        raise BadInput("a media type has a malformed weight") from None
    if not 0 <= weight <= 1:
        raise BadInput("the weight of a media type is from 0 to 1")
    return MediaType(name=name.lower(), parameters=parameters, weight=weight)


def _split(text: str, separator: str) -> list[str]:
    """``text`` at each ``separator`` outside of double quotes."""
    pieces, start, quoted = [], 0, False
    for at, character in enumerate(text):
        if character == '"':
            quoted = not quoted
        elif character == separator and not quoted:
            pieces.append(text[start:at])
            start = at + 1
    return [*pieces, text[start:]]


def parse_accept(text: str) -> list[MediaType]:
    """The media ranges of an Accept value, best first; an empty value means any type.

    Malformed ranges are skipped: old Java clients send ``*; q=.2`` among good ones. Raises BadInput when no range is
    well-formed, or when there are too many.
    """
    if len(text) > _HEADER_CHARACTERS:
        raise BadInput("the Accept header is too long")
    pieces = [piece for piece in _split(text, ",") if piece.strip()]
    if len(pieces) > _RANGES:
        raise BadInput("the Accept header names too many media types")
    ranges, refused = [], None
    for piece in pieces:
        try:
            ranges.append(parse_media_type(piece))
        except BadInput as error:
            refused = error
    if not ranges:
        if refused is not None:
            raise refused
        ranges = [MediaType(name="*/*", parameters={})]
    return sorted((r for r in ranges if r.weight > 0), key=lambda r: -r.weight)


def asked_for() -> list[MediaType]:
    """What the current request accepts; the query parameter wins over the header (PS3.18 8.3.3.1).

    An unescaped plus sign in a query arrives as a space, which no media type contains.
    """
    parameter = ",".join(request.args.getlist("accept"))
    return parse_accept(_DECODED_PLUS.sub("+", parameter) or request.headers.get("Accept", ""))


def choose(offers: Sequence[str]) -> tuple[str, MediaType]:
    """The best offer for the current request, and the media range that admits it. Raises NotAcceptable."""
    for media_range in asked_for():
        for offer in offers:
            if media_range.admits(offer):
                return offer, media_range
    raise NotAcceptable(f"available here: {', '.join(offers)}")
