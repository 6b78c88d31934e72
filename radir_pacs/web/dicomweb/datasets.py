"""Data sets as a streamed response: one JSON array, or one XML part each (PS3.18 8.7.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain

import orjson
from flask import Response, current_app, stream_with_context

from .accept import DICOM_JSON, JSON, choose, multipart
from .json_model import Attributes
from .multipart import MultipartWriter, OutgoingPart
from .native_xml import MEDIA_TYPE as DICOM_XML
from .native_xml import to_xml

_PIECE_BYTES = 64 * 1024  # sent at once: each row alone would be a packet and a switch between threads

XML_PARTS = multipart(DICOM_XML)
OFFERS = (DICOM_JSON, JSON, XML_PARTS, DICOM_XML)  # XML is always sent as parts; some clients ask for the bare type


def choose_datasets() -> str:
    """The media type of the response. Raises NotAcceptable."""
    return choose(OFFERS)[0]


def datasets_response(made: Iterable[Callable[[], Attributes]], form: str) -> Response:
    """The data sets in the ``form`` that `choose_datasets` returned; each is made when its turn comes.

    A short answer is made whole, so that it has a length and its connection stays open even in HTTP/1.0.
    """
    if form in (DICOM_JSON, JSON):
        pieces = _json(made)
        first, second = next(pieces), next(pieces, None)
        if second is None:
            return Response(first, content_type=form)
        return Response(stream_with_context(chain((first, second), pieces)), content_type=form)
    parts = (OutgoingPart(content_type=DICOM_XML, body=to_xml(make())) for make in made)
    writer = MultipartWriter(parts, DICOM_XML)
    return Response(stream_with_context(iter(writer)), content_type=writer.content_type)


def _json(made: Iterable[Callable[[], Attributes]]) -> Iterator[bytes]:
    """One array, in pieces of at least ``_PIECE_BYTES`` but for the last."""
    piece, separator = bytearray(), b"["
    for make in made:
        piece += separator + _row(make())
        separator = b",\n"
        if len(piece) >= _PIECE_BYTES:
            yield bytes(piece)
            piece.clear()
    piece += b"[]" if separator == b"[" else b"]"
    yield bytes(piece)


def _row(attributes: Attributes) -> bytes:
    try:
        return orjson.dumps(attributes)
    except TypeError:  # an integer beyond 64 bits, half a surrogate pair: what the slower encoder writes all the same
        return current_app.json.dumps(attributes).encode()
