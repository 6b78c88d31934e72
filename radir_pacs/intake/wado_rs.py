"""What a PACS answers to a retrieval of whole instances (WADO-RS, PS3.18 10.4), as it comes, within bounds."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from email.message import Message

from radir_pacs.errors import NotFound, PeerFailed
from radir_pacs.multipart import MultipartReader
from radir_pacs.reasons import ReasonCode

from .bounded_answer import AnswerBounds, BoundedAnswer, bounded_get
from .sources import Pacs

DICOM = "application/dicom"
_ACCEPT = f'multipart/related; type="{DICOM}"; transfer-syntax=*'
_CHUNK_BYTES = 256 * 1024


def instances_at(pacs: Pacs, path: str, bounds: AnswerBounds, *, most: int) -> Generator[Iterable[bytes], None, None]:
    """The body of each instance below the service root's ``path``; it is to be read before the next one is asked for.

    Raises NotFound, PeerFailed, BrokenMultipart, and TooManyParts beyond ``most``.
    """
    with bounded_get(f"{pacs.url.rstrip('/')}/{path}", pacs.headers(_ACCEPT), bounds, ca=pacs.ca) as answer:
        if answer.status == 404:
            raise NotFound("the PACS has no such study")
        if answer.status == 204:
            return
        if answer.status != 200:
            raise PeerFailed(f"the PACS answers with status {answer.status}", reason_code=ReasonCode.PEER_REFUSED)
        yield from _parts(answer, most)


def _parts(answer: BoundedAnswer, most: int) -> Iterator[Iterable[bytes]]:
    """Of a multipart answer, or the one instance of a plain one. Raises PeerFailed, BrokenMultipart, TooManyParts."""
    said = Message()
    said["Content-Type"] = answer.headers.get("Content-Type", "")
    kind = said.get_content_type()
    if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise PeerFailed("the PACS compresses its answer unasked", reason_code=ReasonCode.PEER_BAD_ANSWER)
    if kind == DICOM:
        yield _chunks(answer)
    elif kind == "multipart/related":
        for part in MultipartReader(answer, str(said.get_param("boundary", "")), most_parts=most):
            yield part.body
    else:
        raise PeerFailed("the PACS answers with something else than DICOM", reason_code=ReasonCode.PEER_BAD_ANSWER)


def _chunks(answer: BoundedAnswer) -> Iterator[bytes]:
    while chunk := answer.read(_CHUNK_BYTES):
        yield chunk
