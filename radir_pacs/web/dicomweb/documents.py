"""Rendered documents (PS3.18 8.7.4): a structured report as HTML or plain text, an encapsulated PDF as PDF."""

from __future__ import annotations

from flask import Response, render_template, request

from radir_pacs.catalogue import StoredInstance
from radir_pacs.dicom.bulk_data import Span, find_bulk_data
from radir_pacs.dicom.header import read_header
from radir_pacs.dicom.json_model import text, value
from radir_pacs.web import context_rights

from .accept import choose
from .multipart import Body, FileSlice, chunks_of, size_of
from .report_text import person_name, report_lines
from .stored import blob_of

HTML, PLAIN, PDF = "text/html", "text/plain", "application/pdf"
_ENCAPSULATED_PDF = "1.2.840.10008.5.1.4.1.1.104.1"
_STRUCTURED_REPORTS = "1.2.840.10008.5.1.4.1.1.88."
_NOT_REPORTS = frozenset({_STRUCTURED_REPORTS + "59"})  # Key Object Selection: references, no text


def offers_for(instance: StoredInstance) -> tuple[str, ...]:
    """The media types in which the instance can be rendered as a document; empty when it is not a document."""
    if instance.sop_class_uid == _ENCAPSULATED_PDF:
        return (PDF,)
    is_report = instance.sop_class_uid.startswith(_STRUCTURED_REPORTS) and instance.sop_class_uid not in _NOT_REPORTS
    return (HTML, PLAIN) if is_report else ()


def document_response(instance: StoredInstance) -> Response:
    """The document in the form that the request accepts. Raises NotAcceptable, NotFound, DicomRefused, NotInThisLink.

    Unlike a picture it names its patient, so a sidebar's token opens only the documents of its own study.
    """
    context_rights.require_own(instance.study_uid)
    offer, _ = choose(offers_for(instance))
    response = _pdf(instance) if offer == PDF else _report(instance, offer)
    response.set_etag(f"{instance.content_sha256[:32]}-{offer.rpartition('/')[2]}")
    response.headers["Vary"] = "Accept"
    response.make_conditional(request)
    return response


def _pdf(instance: StoredInstance) -> Response:
    """The encapsulated document, without its padding byte (PS3.3 C.24.2)."""
    path = blob_of(instance)
    found = find_bulk_data(path, "00420011")
    declared = value(instance.attributes, "EncapsulatedDocumentLength")
    length = found.length if isinstance(found, Span) else len(found)
    if isinstance(declared, int) and length - 1 <= declared <= length:
        length = declared
    body: Body = FileSlice(path=path, offset=found.offset, length=length) if isinstance(found, Span) else found[:length]
    response = Response(chunks_of(body), content_type=PDF)
    response.content_length = size_of(body)
    response.headers["Content-Disposition"] = f'inline; filename="{instance.sop_uid}.pdf"'
    return response


def _report(instance: StoredInstance, offer: str) -> Response:
    attributes = read_header(blob_of(instance)).attributes
    lines = list(report_lines(attributes))
    title = lines[0].name if lines and lines[0].name else "Structured report"
    about = {
        "Patient": person_name(value(attributes, "PatientName")),
        "Patient ID": text(attributes, "PatientID"),
        "Study date": text(attributes, "StudyDate"),
        "Completion": text(attributes, "CompletionFlag"),
        "Verification": text(attributes, "VerificationFlag"),
    }
    about = {name: found for name, found in about.items() if found}
    if offer == HTML:
        page = render_template("report.html", title=title, about=about, lines=lines[1:])
        return Response(page, content_type=HTML + "; charset=utf-8")
    heading = [title, *(f"{name}: {found}" for name, found in about.items()), ""]
    body = ["  " * (line.depth - 1) + ": ".join(part for part in (line.name, line.value) if part) for line in lines[1:]]
    return Response("\n".join(heading + body) + "\n", content_type=PLAIN + "; charset=utf-8")
