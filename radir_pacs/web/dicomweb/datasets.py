"""Data sets as a streamed response: one JSON array, or one XML part each (PS3.18 8.7.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from flask import Response, current_app, stream_with_context

from .accept import DICOM_JSON, JSON, choose, multipart
from .json_model import Attributes
from .multipart import MultipartWriter, OutgoingPart
from .native_xml import MEDIA_TYPE as DICOM_XML
from .native_xml import to_xml

XML_PARTS = multipart(DICOM_XML)
OFFERS = (DICOM_JSON, JSON, XML_PARTS, DICOM_XML)  # XML is always sent as parts; some clients ask for the bare type


def choose_datasets() -> str:
    """The media type of the response. Raises NotAcceptable."""
    return choose(OFFERS)[0]


def datasets_response(made: Iterable[Callable[[], Attributes]], form: str) -> Response:
    """The data sets in the ``form`` that `choose_datasets` returned; each is made when its turn comes."""
    if form in (DICOM_JSON, JSON):
        return Response(stream_with_context(_json(made)), content_type=form)
    parts = (OutgoingPart(content_type=DICOM_XML, body=to_xml(make())) for make in made)
    writer = MultipartWriter(parts, DICOM_XML)
    return Response(stream_with_context(iter(writer)), content_type=writer.content_type)


def _json(made: Iterable[Callable[[], Attributes]]) -> Iterator[bytes]:
    separator = "["
    for make in made:
        yield (separator + current_app.json.dumps(make())).encode()
        separator = ",\n"
    yield b"[]" if separator == "[" else b"]"
