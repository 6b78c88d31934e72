"""A FHIR DiagnosticReport (R4; R5 where it differs) as a version of a report.

It is read leniently, and only the dozen paths that matter. Nothing is fetched here: the study is named by an
identifier in the resource or in what it contains. A pull fetches a form that stands elsewhere (`fhir_pull.py`).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from radir_pacs.catalogue import WITHDRAWN, ReportStatus, ReportVersion
from radir_pacs.dicom.uids import is_valid_uid
from radir_pacs.documents import CDA, PDF, media_type, text_of
from radir_pacs.errors import BadInput
from radir_pacs.reasons import ReasonCode
from radir_pacs.reports.markup import plain_text
from radir_pacs.reports.newest import only_adds
from radir_pacs.reports.shared_text import own_texts

SOURCE = "fhir"
_STATUS = {
    "partial": ReportStatus.PRELIMINARY,
    "preliminary": ReportStatus.PRELIMINARY,
    "unknown": ReportStatus.PRELIMINARY,
    "final": ReportStatus.FINAL,
    "modified": ReportStatus.AMENDED,  # R5
    "amended": ReportStatus.AMENDED,
    "corrected": ReportStatus.AMENDED,
    "appended": ReportStatus.AMENDED,  # the resource holds the whole report
    "cancelled": ReportStatus.CANCELLED,
    "entered-in-error": ReportStatus.IN_ERROR,
}
_PREFERRED = ("text/plain", "text/html", "text/rtf", "application/rtf", CDA, PDF)  # forms say the same
_WITHOUT_TEXT = frozenset({"registered", "cancelled", "entered-in-error"})
_OID = "urn:oid:"
_SEMANTIC_TAG = re.compile(r"\s*\((?:finding|disorder|morphologic abnormality|situation)\)$")  # of SNOMED CT
_MOST_ITEMS = 100
_MOST_CHARACTERS = 200
_ORDER_TYPES = frozenset({"ACSN", "FILL", "PLAC"})  # HL7 v2 table 0203

Json = Mapping[str, Any]


def read_diagnostic_report(
    resource: Any, *, sender: str = "", others: Mapping[str, Json] | None = None
) -> tuple[ReportVersion, ...]:
    """A version for each study that the report names; none for a report that is only registered.

    sender: the server it is from, where it names none.

    others: resources that came with it, by what it calls them (``Patient/7``).

    Raises BadInput, whose message names the path and never what stands there.
    """
    if not isinstance(resource, Mapping) or resource.get("resourceType") != "DiagnosticReport":
        raise BadInput("the resource is no DiagnosticReport", reason_code=ReasonCode.MESSAGE_UNSUPPORTED)
    said = _text(resource, "status")
    if said == "registered":
        return ()
    if said not in _STATUS:
        raise BadInput("DiagnosticReport.status is no status of R4 or R5", reason_code=ReasonCode.MESSAGE_INCOMPLETE)
    status = _STATUS[said]
    withdrawn = status in WITHDRAWN
    body = "" if withdrawn else _body(resource)
    if not body and not withdrawn:
        raise BadInput(
            "neither presentedForm.data nor text.div nor conclusion has text", reason_code=ReasonCode.NO_TEXT
        )
    if only_adds(body) and status is not ReportStatus.PRELIMINARY:
        status = ReportStatus.ADDENDUM
    contained = {f"#{one.get('id')}": one for one in _list(resource, "contained")} | dict(others or {})
    studies = [*_targets(resource, "imagingStudy", contained), *_targets(resource, "study", contained)]
    uid, numbers = _study(studies), _numbers(resource, studies, contained)
    keys = _patient_keys(resource, contained)
    document = _document(resource)
    if not document:
        raise BadInput("identifier or id must name the report", reason_code=ReasonCode.MESSAGE_INCOMPLETE)
    if uid is None and not (numbers and keys) and not withdrawn:  # its document tells whose it is
        raise BadInput(
            "no Study Instance UID (imagingStudy.identifier), nor an accession number (basedOn.identifier) with a"
            " patient's identifier (subject.identifier)",
            reason_code=ReasonCode.MESSAGE_INCOMPLETE,
        )
    meta = resource.get("meta")
    meta = meta if isinstance(meta, Mapping) else {}
    sent_at = _time(_text(meta, "lastUpdated"))
    version = ReportVersion(
        source=SOURCE,
        sender=(_text(meta, "source") or sender)[:_MOST_CHARACTERS],
        document=document,
        status=status,
        body=body,
        version_at=_time(_text(resource, "issued")) or sent_at,
        sent_at=sent_at,
        study_uid=uid,
        numbers=numbers if keys else (),
        patient_keys=keys,
    )
    return _for_each_study(version, _named(resource, studies, contained))


@dataclass(frozen=True, kw_only=True)
class _Named:
    """A study as the report names it: by its UID or accession number, and in words."""

    uid: str | None
    number: str
    words: str


def _named(resource: Json, studies: list[Json], contained: Mapping[str, Json]) -> list[_Named]:
    """The studies that the report is about: by UID where there are UIDs, else by accession number."""
    by_uid = {uid: one for one in studies if (uid := _study([one]))}
    if by_uid:
        return [_Named(uid=uid, number="", words=_words(one)) for uid, one in by_uid.items()]
    found: dict[str, str] = {}
    for order in _targets(resource, "basedOn", contained):
        for identifier in _identifiers(order):
            if "ACSN" in _types(identifier) and (value := _text(identifier, "value")[:_MOST_CHARACTERS]):
                found.setdefault(value, _words(order))
    return [_Named(uid=None, number=number, words=words) for number, words in found.items()]


def _words(study: Json) -> str:
    """What a study or an order is called."""
    codes = (_concept(one) for one in _list(study, "code"))
    return _text(study, "display") or _text(study, "description") or next(codes, "")


def _for_each_study(version: ReportVersion, studies: list[_Named]) -> tuple[ReportVersion, ...]:
    """The version for each of the studies; of several with the part of the text that is the study's own, if it has any.

    Each is a part of the report, so that a version about other studies withdraws it from those of the version before.
    """
    parts = tuple(one.uid or one.number for one in studies)
    if len(studies) < 2:
        return (replace(version, part="".join(parts)),)
    texts = own_texts(version.body, [one.words for one in studies]) or [version.body] * len(studies)
    return tuple(
        replace(
            version,
            part=part,
            parts=parts,
            body=text,
            study_uid=one.uid,
            numbers=() if one.uid else (one.number,),
            patient_keys=() if one.uid else version.patient_keys,
        )
        for one, part, text in zip(studies, parts, texts, strict=True)
    )


def _body(resource: Json) -> str:
    """The first form that has text, else narrative and conclusion; and coded conclusions that it does not name."""
    body = _form(resource)
    if not body:
        narrative = resource.get("text")
        body = plain_text(_text(narrative, "div")).strip() if isinstance(narrative, Mapping) else ""
        body = _concluded(body, [_text(resource, "conclusion")])
    return _concluded(body, [_concept(one) for one in _list(resource, "conclusionCode")])


def _form(resource: Json) -> str:
    forms: dict[str, str] = {}
    for form in _list(resource, "presentedForm"):
        kind = _media(form)
        if _text(form, "data") and kind not in forms:
            forms[kind] = _text(form, "data")
    for kind in sorted(forms, key=_preference):
        try:
            content = base64.b64decode("".join(forms[kind].split()), validate=True)
        except (binascii.Error, ValueError):
            raise BadInput("presentedForm.data is no base64", reason_code=ReasonCode.DOCUMENT_UNREADABLE) from None
        body = plain_text(text_of(content, media_type(kind, "", content))).strip()
        if body:
            return body
    return ""


def _preference(kind: str) -> int:
    return _PREFERRED.index(kind) if kind in _PREFERRED else len(_PREFERRED)


def form_elsewhere(resource: Json) -> tuple[str, str] | None:
    """The address and media type of the report's form, where no form is in the resource itself (Attachment.url)."""
    if _text(resource, "status") in _WITHOUT_TEXT:
        return None
    forms = _list(resource, "presentedForm")
    if any(_text(form, "data") for form in forms):
        return None
    found = [(_media(form), _text(form, "url")) for form in forms if _text(form, "url")]
    kind, url = min(found, key=lambda form: _preference(form[0]), default=("", ""))
    return (url, kind) if url else None


def _media(form: Json) -> str:
    return _text(form, "contentType").partition(";")[0].strip().lower()


def _concluded(body: str, conclusions: list[str]) -> str:
    """``body`` and an impression of those conclusions that it does not hold in the same words."""
    known = body.casefold()
    new = [said for one in conclusions if (said := plain_text(one).strip()) and said.casefold() not in known]
    return "\n\n".join(part for part in (body, "IMPRESSION:\n" + "\n".join(new) if new else "") if part)


def _concept(concept: Json) -> str:
    """What a concept is called: by its sender, else by its code system, whose semantic tag says nothing here."""
    displays = (_text(coding, "display") for coding in _list(concept, "coding"))
    display = next((said for said in displays if said), "")
    return _text(concept, "text") or _SEMANTIC_TAG.sub("", display)


def _document(resource: Json) -> str:
    for identifier in _list(resource, "identifier"):
        if _text(identifier, "value") and "ACSN" not in _types(identifier):
            return f"{_text(identifier, 'system')}|{_text(identifier, 'value')}"[:_MOST_CHARACTERS]
    return _text(resource, "id")[:_MOST_CHARACTERS]


def _study(studies: list[Json]) -> str | None:
    for study in studies:
        for identifier in _identifiers(study):
            value = _text(identifier, "value").removeprefix(_OID)
            if is_valid_uid(value) and "." in value:
                return value
        tail = _text(study, "reference").rpartition("/")[2].removeprefix(_OID)
        if is_valid_uid(tail) and tail.count(".") > 1:
            return tail
    return None


def _numbers(resource: Json, studies: list[Json], contained: Mapping[str, Json]) -> tuple[str, ...]:
    """Accession numbers first, then what orders are called."""
    orders = [identifier for one in _targets(resource, "basedOn", contained) for identifier in _identifiers(one)]
    own = [*_identifiers(resource), *(identifier for study in studies for identifier in _identifiers(study))]
    everything = [*orders, *(identifier for identifier in own if _types(identifier) & _ORDER_TYPES)]
    everything.sort(key=lambda identifier: "ACSN" not in _types(identifier))
    found = (_text(identifier, "value") for identifier in everything)
    return tuple(dict.fromkeys(value[:_MOST_CHARACTERS] for value in found if value))


def _patient_keys(resource: Json, contained: Mapping[str, Json]) -> tuple[str, ...]:
    """Without an issuer: the system of an identifier is a URI, which no image names."""
    values = (
        _text(identifier, "value").replace("\\", "")
        for one in _targets(resource, "subject", contained)
        for identifier in _identifiers(one)
    )
    return tuple(dict.fromkeys(f"\\{value[:_MOST_CHARACTERS]}" for value in values if value))


def _targets(resource: Json, path: str, contained: Mapping[str, Json]) -> list[Json]:
    """The references at ``path``, and what they refer to inside the resource."""
    found: list[Json] = []
    for reference in _list(resource, path):
        found.append(reference)
        target = contained.get(_text(reference, "reference"))
        if target is not None:
            found.append(target)
    return found


def _identifiers(item: Json) -> Iterator[Json]:
    yield from _list(item, "identifier")


def _types(identifier: Json) -> frozenset[str]:
    kind = identifier.get("type")
    codings = _list(kind, "coding") if isinstance(kind, Mapping) else []
    return frozenset(_text(coding, "code") for coding in codings)


def _list(item: Json, name: str) -> list[Json]:
    """The objects at a path that may hold one or several."""
    found = item.get(name)
    found = found if isinstance(found, list) else [found]
    return [one for one in found[:_MOST_ITEMS] if isinstance(one, Mapping)]


def _text(item: Json, name: str) -> str:
    found = item.get(name)
    return found if isinstance(found, str) else ""


def _time(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
