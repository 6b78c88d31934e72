"""From a document's bytes to its text. PDF and CDA are read in a child process that can do nothing else."""

from __future__ import annotations

import subprocess
import sys

from radir_pacs.errors import BadInput, TooLarge
from radir_pacs.reasons import ReasonCode

PDF, CDA, HTML, RTF, PLAIN = "application/pdf", "text/xml", "text/html", "text/rtf", "text/plain"
MOST_BYTES = 64 << 20
MOST_CHARACTERS = 1_000_000
_TIMEOUT_S = 30.0
_MEMORY_BYTES = 1 << 30
_SAME = {"application/rtf": RTF, "application/xml": CDA, "application/hl7-cda+xml": CDA, "application/hl7-sda+xml": CDA}
_SUBTYPES = {"PDF": PDF, "HTML": HTML, "RTF": RTF, "PLAIN": PLAIN, "TXT": PLAIN, "XML": CDA, "CDA": CDA}
_BEGINNINGS = ((b"%PDF-", PDF), (b"{\\rtf", RTF), (b"<?xml", CDA), (b"<ClinicalDocument", CDA))
_HTML_BEGINNINGS = (b"<!doctype html", b"<html", b"<p", b"<div")


def media_type(kind: str, subtype: str, content: bytes) -> str:
    """What a document is: by how it begins, else by what its sender says (HL7 tables 0191, 0291, or a media type)."""
    begin = content[:64].lstrip(b"\xef\xbb\xbf \r\n\t")
    for beginning, found in _BEGINNINGS:
        if begin.startswith(beginning):
            return found
    if begin.lower().startswith(_HTML_BEGINNINGS):
        return HTML
    said = (kind if "/" in kind else f"{kind}/{subtype}").partition(";")[0].strip().lower()
    if said in _SAME:
        return _SAME[said]
    return _SUBTYPES.get(subtype.strip().upper().removeprefix("X-HL7-"), said if said.strip("/") else PLAIN)


def text_of(content: bytes, media: str) -> str:
    """The text of a document; HTML and RTF as they are, for `radir_pacs.reports.markup` to undress.

    Empty for a PDF of pictures. Raises BadInput for what cannot be read, TooLarge.
    """
    if len(content) > MOST_BYTES:
        raise TooLarge(f"the document is larger than {MOST_BYTES >> 20} MiB")
    if media in (PDF, CDA):
        return _by_child(content, media)
    if media.startswith("text/"):
        text = _decoded(content)
        if len(text) > 4 * MOST_CHARACTERS:
            raise TooLarge("the document is longer than a report can be")
        return text
    raise BadInput("documents of this type are not read", reason_code=ReasonCode.DOCUMENT_UNREADABLE)


def _decoded(content: bytes) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", "replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")


def _by_child(content: bytes, media: str) -> str:
    arguments = ["radir_pacs.documents.child", str(_MEMORY_BYTES), "0", media, str(MOST_CHARACTERS)]
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-B", "-m", "radir_pacs.confine", *arguments],
            input=content,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BadInput(
            f"the document was not read within {_TIMEOUT_S:.0f} s", reason_code=ReasonCode.DOCUMENT_UNREADABLE
        ) from None
    if done.returncode != 0:
        raise BadInput("the document cannot be read", reason_code=ReasonCode.DOCUMENT_UNREADABLE)
    return done.stdout.decode("utf-8", "replace")[: 4 * MOST_CHARACTERS]
