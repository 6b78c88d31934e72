"""The child process that reads a stranger's PDF or CDA: bytes on standard input, text on standard output.

Run by ``radir_pacs.confine``, so that a document which takes it over can answer a wrong text and nothing more. A CDA is
HL7 Clinical Document Architecture Release 2.
"""

from __future__ import annotations

import base64
import io
import logging
import re
import resource
import sys
from xml.etree import ElementTree

_CPU_S = 20
_MOST_PAGES = 500
_NS = "{urn:hl7-org:v3}"
_BLOCKS = frozenset({"paragraph", "br", "item", "tr", "caption", "title", "table", "list", "text"})


def main(confined: bool, arguments: list[str]) -> None:
    """Exit status 1 for a document that cannot be read; what is wrong with it is never said, it may quote a patient."""
    logging.disable()
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_S, _CPU_S + 1))
    media, most_characters = arguments[0], int(arguments[1])
    content = sys.stdin.buffer.read().rstrip(b"\0")  # DICOM values have even length
    try:
        text = pdf_text(content, most_characters) if media == "application/pdf" else cda_text(content, most_characters)
        sys.stdout.buffer.write(text[:most_characters].encode("utf-8", "replace"))
        sys.stdout.buffer.flush()
    except Exception:  # the edge of the process
        sys.exit(1)


def pdf_text(content: bytes, most_characters: int) -> str:
    """The text of the pages, in order."""
    import pypdf

    parts: list[str] = []
    length = 0
    for page in pypdf.PdfReader(io.BytesIO(content)).pages[:_MOST_PAGES]:
        parts.append(page.extract_text())
        length += len(parts[-1])
        if length > most_characters:
            break
    return "\n".join(parts)


def cda_text(content: bytes, most_characters: int) -> str:
    """Titles and narrative of the sections; of a document around another one, that one's text."""
    head = content.upper()
    if b"<!DOCTYPE" in head or b"<!ENTITY" in head:
        raise ValueError("a document type declaration")
    root = ElementTree.fromstring(content)
    if not root.tag.endswith("ClinicalDocument"):
        raise ValueError("no clinical document")
    inner = root.find(f"{_NS}component/{_NS}nonXMLBody/{_NS}text")
    if inner is not None:
        raw = "".join(inner.itertext())
        if inner.get("representation") != "B64":
            return raw
        held = base64.b64decode("".join(raw.split()))
        return pdf_text(held, most_characters) if held.startswith(b"%PDF-") else held.decode("utf-8", "replace")
    parts: list[str] = []
    for section in root.iter(f"{_NS}section"):
        title, text = section.find(f"{_NS}title"), section.find(f"{_NS}text")
        if title is not None and (said := "".join(title.itertext()).strip()):
            parts.append(f"\n{said.rstrip(':').upper()}:\n")
        if text is not None:
            _narrative(text, parts)
    return re.sub(r"\n{3,}", "\n\n", "".join(parts)).strip()


def _narrative(element: ElementTree.Element, parts: list[str]) -> None:
    """The text below an element, a line for each block; without recursion, since nesting is the sender's."""
    stack: list[tuple[ElementTree.Element, bool]] = [(element, False)]
    while stack:
        one, is_end = stack.pop()
        name = one.tag.rpartition("}")[2] if isinstance(one.tag, str) else ""
        if is_end:
            if name in _BLOCKS:
                parts.append("\n")
            elif name in ("td", "th"):
                parts.append("\t")
            if one is not element:
                parts.append(" ".join((one.tail or "").split("\n")))
            continue
        if isinstance(one.tag, str):
            parts.append(" ".join((one.text or "").split("\n")))
        stack.append((one, True))
        if isinstance(one.tag, str):
            stack += [(child, False) for child in reversed(one)]
