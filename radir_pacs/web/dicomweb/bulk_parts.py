"""Bulk data sent along with metadata (PS3.18 8.6.1.2): spooled to one file and found by their Content-Location."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from radir_pacs.errors import BadInput, TooLarge
from radir_pacs.multipart import MimePart
from radir_pacs.storage.blobs import IncomingBlob

from .accept import OCTETS, MediaType, parse_media_type
from .multipart import FileSlice, chunks_of


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One part: where its body is in the spool, and its declared media type."""

    offset: int
    length: int
    media_type: MediaType


@dataclass(kw_only=True)
class BulkParts:
    """The bulk data of one request. Parts with the same location belong together, like the frames of an image.

    ``left_bytes``: how much may still be taken out in all, since many instances may name one part and copy it.
    """

    spool: IncomingBlob
    left_bytes: int
    places: dict[str, list[Piece]] = field(default_factory=dict)

    def add(self, part: MimePart) -> None:
        """Spool the body of ``part``. Raises BadInput, StorageFailed."""
        place = _place(part.headers)
        if place is None:
            raise BadInput("a part of bulk data has no Content-Location")
        offset = self.spool.size_bytes
        for chunk in part.body:
            self.spool.write(chunk)
        sent_as = parse_media_type(part.headers.get("content-type", OCTETS))
        piece = Piece(offset=offset, length=self.spool.size_bytes - offset, media_type=sent_as)
        self.places.setdefault(place, []).append(piece)

    def at(self, uri: str) -> Sequence[Piece]:
        """The parts at ``uri``. Raises TooLarge; BadInput if there are none: nothing is fetched from elsewhere."""
        pieces = self.places.get(uri.strip())
        if not pieces:
            raise BadInput("bulk data that the metadata names is not in the request")
        self.left_bytes -= sum(piece.length for piece in pieces)
        if self.left_bytes < 0:
            raise TooLarge("the instances of the request are larger than the limit allows, all together")
        return pieces

    def chunks(self, piece: Piece) -> Iterator[bytes]:
        return chunks_of(FileSlice(path=self.spool.path, offset=piece.offset, length=piece.length))


def _place(headers: Mapping[str, str]) -> str | None:
    if "content-location" in headers:
        return headers["content-location"].strip()
    if "content-id" in headers:  # RFC 2392
        return "cid:" + headers["content-id"].strip().strip("<>")
    return None
