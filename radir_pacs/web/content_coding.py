"""Content codings (RFC 9110 8.4): gzip for text responses to clients that accept it, and for request bodies.

An inflated body is bounded like any other: a small one that grows beyond the limit is refused as too large.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import IO

from flask import Flask, Response, request

from radir_pacs.errors import BadInput, TooLarge

from .errors import error_response

_GZIP_BITS = zlib.MAX_WBITS | 16
_LEVEL = 4  # headers shrink to a tenth at little cost
_SMALLEST_BYTES = 1024
_CHUNK_BYTES = 256 * 1024
_MOST_MEMBERS = 100_000  # of one body; each costs a copy of what follows it in its chunk, even an empty one
_TEXT = ("application/dicom+json", "application/json", "application/dicom+xml", "application/vnd.sun.wadl+xml")
_XML_PARTS = 'multipart/related; type="application/dicom+xml"'


class InflatingStream:
    """Inflates the gzip body in ``source``: at most ``most_bytes`` in total, one chunk in memory at a time."""

    def __init__(self, source: IO[bytes], most_bytes: int) -> None:
        self._source, self._left = source, most_bytes
        self._inflater = zlib.decompressobj(_GZIP_BITS)
        self._pending = b""
        self._members = 1

    def read(self, size: int = _CHUNK_BYTES) -> bytes:
        """Up to ``size`` bytes, none at the end. Raises BadInput for a damaged body, TooLarge beyond the bound."""
        while True:
            if not self._pending:
                self._pending = self._source.read(_CHUNK_BYTES)
                if not self._pending:
                    if not self._inflater.eof:
                        raise BadInput("the gzip body is truncated")
                    return b""
            if self._inflater.eof:  # a body may be several gzip members one after another (RFC 1952 2.2)
                self._inflater = zlib.decompressobj(_GZIP_BITS)
                self._members += 1
                if self._members > _MOST_MEMBERS:
                    raise BadInput(f"the gzip body has more than {_MOST_MEMBERS} members")
            try:
                out = self._inflater.decompress(self._pending, max(1, min(size, _CHUNK_BYTES)))
            except zlib.error:
                raise BadInput("the gzip body is damaged") from None
            self._pending = self._inflater.unconsumed_tail or self._inflater.unused_data
            self._left -= len(out)
            if self._left < 0:
                raise TooLarge("the inflated body is larger than the limit allows")
            if out:
                return out


def body_stream(most_bytes: int) -> IO[bytes] | InflatingStream:
    """The body of the current request, inflated if it is gzipped."""
    return InflatingStream(request.stream, most_bytes) if _coding() in ("gzip", "x-gzip") else request.stream


def _coding() -> str:
    return request.headers.get("Content-Encoding", "").strip().lower()


def install(app: Flask, inflated: frozenset[str]) -> None:
    """Compress responses, and refuse request bodies in other codings; ``inflated``: endpoints that read gzip."""

    @app.before_request
    def check_coding() -> Response | None:
        known = {"", "identity"} | ({"gzip", "x-gzip"} if request.endpoint in inflated else set())
        if _coding() in known:
            return None
        response = error_response(415, "unsupported_media_type", "This content coding is not supported here.")
        response.headers["Accept-Encoding"] = "gzip" if request.endpoint in inflated else "identity"
        return response

    @app.after_request
    def compress(response: Response) -> Response:
        content_type = response.content_type or ""
        if not content_type.startswith((*_TEXT, _XML_PARTS)) or response.direct_passthrough:
            return response
        response.vary.add("Accept-Encoding")
        is_small = not response.is_streamed and len(response.get_data()) < _SMALLEST_BYTES
        if response.status_code != 200 or is_small or request.accept_encodings.quality("gzip") <= 0:
            return response
        response.headers["Content-Encoding"] = "gzip"
        if response.is_streamed:
            response.response = _compressed(response.response)  # type: ignore[arg-type]
            response.headers.pop("Content-Length", None)
        else:
            response.set_data(b"".join(_compressed([response.get_data()])))
        if response.headers.get("ETag", "").startswith('"'):  # the same content in other bytes (RFC 9110 8.8.1)
            response.headers["ETag"] = "W/" + response.headers["ETag"]
        return response


def _compressed(chunks: Iterable[bytes]) -> Iterator[bytes]:
    deflater = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP_BITS)
    try:
        for chunk in chunks:
            if out := deflater.compress(chunk):
                yield out
        yield deflater.flush()
    finally:
        if hasattr(chunks, "close"):
            chunks.close()
