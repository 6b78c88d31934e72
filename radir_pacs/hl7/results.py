"""Reports: ORU^R01 (HL7 2.9 chapter 7) and MDM with content (chapter 9) as versions for the one intake."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from radir_pacs.catalogue import WITHDRAWN, Deed, ReportStatus, ReportVersion
from radir_pacs.documents import media_type, text_of
from radir_pacs.errors import BadInput
from radir_pacs.reasons import ReasonCode
from radir_pacs.reports.lexicon import is_heading
from radir_pacs.reports.markup import plain_text
from radir_pacs.reports.newest import only_adds
from radir_pacs.reports.shared_text import own_texts

from .message import Message, Segment
from .orders import Order, names_study, orders_of
from .patients import patient_keys
from .unusable import WRONG_TYPE, Unusable, missing

SOURCE = "hl7"
# OBR-25 (table 0123); an order without results yet says nothing of its report.
_NO_RESULTS = frozenset({"O", "I", "S", "N", "Y", "Z"})
_STATUS = {
    "A": ReportStatus.PRELIMINARY,  # some, but not all
    "P": ReportStatus.PRELIMINARY,
    "R": ReportStatus.PRELIMINARY,  # stored, not verified
    "M": ReportStatus.PRELIMINARY,  # corrected, not final
    "F": ReportStatus.FINAL,
    "C": ReportStatus.AMENDED,
    "K": ReportStatus.AMENDED,  # corrected and final (2.8)
    "X": ReportStatus.CANCELLED,
}
_UNSAID = frozenset({"D", "W", "X"})  # OBX-11 (table 0085): deleted, wrong patient, no result
_OBX_DRAFT = frozenset({"P", "R", "S", "I", "B"})
_SUFFIXES = {"IMP": "IMPRESSION", "GDT": "FINDINGS", "ADT": "ADDENDUM", "REC": "RECOMMENDATION"}  # 7.1.4
_WHOLE = "REPORT"  # names no section of it
_CODED = frozenset({"CE", "CWE", "CNE", "CF"})
_TEXT = frozenset({"", "TX", "FT", "ST"})
_FINAL_DOCUMENT = frozenset({"AU", "LA"})  # TXA-17 (table 0271)
_CANCELLED = frozenset({"CA", "UN"})  # TXA-19 (table 0273)
_MDM_CONTENT = frozenset({"T02", "T04", "T06", "T08", "T10", "T11"})
_MOST_CHARACTERS = 200


def deeds_of_oru(message: Message, issuer: str) -> tuple[list[Deed], Unusable | None]:
    """A version for each report in the message; and what is wrong with the first that cannot be used.

    An order without text of its own shares the report of another one: the next, else the one before.
    """
    orders = orders_of(message)
    if not orders:
        raise missing("the OBR segment", "OBR^1")
    _share_reports(orders)
    found: list[tuple[Order, ReportVersion]] = []
    fault: Unusable | None = None
    silent: Unusable | None = None
    for order in orders:
        try:
            version = _version_of(message, order, issuer)
        except Unusable as error:
            if error.reason_code is ReasonCode.NO_TEXT:
                silent = silent or error
            else:
                fault = fault or error
            continue
        if version is not None:
            found.append((order, version))
    return list(_apart(found)), fault or (None if found else silent)


def _apart(found: Sequence[tuple[Order, ReportVersion]]) -> Iterator[ReportVersion]:
    """The versions; each of several with one text has the part that is its own, where the text has a part for each."""
    own: dict[int, str] = {}
    for body in {version.body for _, version in found}:
        sharing = [at for at, (_, version) in enumerate(found) if version.body == body]
        studies = {(found[at][1].study_uid, found[at][1].numbers[:1]) for at in sharing}
        if len(sharing) > 1 and len(studies) == len(sharing):
            texts = own_texts(body, [found[at][0].service for at in sharing])
            own |= zip(sharing, texts, strict=True) if texts else ()
    for at, (_, version) in enumerate(found):
        yield replace(version, body=own[at]) if at in own else version


def _share_reports(orders: list[Order]) -> None:
    """Give the segments of a shared report to each order that names a study by an accession number of its own.

    Each study is then mined for its own part of the text (`radir_pacs/reports/studies.py`).
    """
    told = [order for order in orders if any(not names_study(obx) for obx in order.obx)]
    for at, order in enumerate(orders):
        if order in told or not told or order.obr is None or not order.accession:
            continue
        sharer = next((other for other in orders[at:] if other in told), told[-1])
        if order.accession != sharer.accession:
            order.obx = [*order.obx, *(obx for obx in sharer.obx if not names_study(obx))]


def _version_of(message: Message, order: Order, issuer: str) -> ReportVersion | None:
    """None for an order that has no results yet. Raises Unusable."""
    said = order.obr.text(25).upper() if order.obr is not None else ""
    if said in _NO_RESULTS:
        return None
    status = _STATUS.get(said) or _status_of(order.obx)
    withdrawn = status in WITHDRAWN
    body = "" if withdrawn else body_of(message, order.obx)
    if not body and not withdrawn:
        raise Unusable("the report has no text", ReasonCode.NO_TEXT, error_code="101", at=f"OBX^{order.number}^5")
    if only_adds(body) and status is not ReportStatus.PRELIMINARY:
        status = ReportStatus.ADDENDUM
    document = _order_document(order)
    return _version(message, order, issuer, document=document, status=status, body=body)


def _order_document(order: Order) -> str:
    """The filler's number names its report in all versions, else the placer's, else what names the study."""
    for segment, number in ((order.obr, 3), (order.orc, 3), (order.obr, 2), (order.orc, 2)):
        if segment is not None and segment.text(number):
            return f"{segment.text(number)}|{segment.text(number, 2)}".rstrip("|")[:_MOST_CHARACTERS]
    return next(iter(order.numbers), order.study_uid or "")


def _status_of(obx: list[Segment]) -> ReportStatus:
    """Where OBR-25 is empty."""
    said = {segment.text(11).upper() for segment in obx if not names_study(segment)}
    if said and said <= _UNSAID:
        return ReportStatus.IN_ERROR if said & {"W", "D"} else ReportStatus.CANCELLED
    if said & _OBX_DRAFT:
        return ReportStatus.PRELIMINARY
    return ReportStatus.AMENDED if "C" in said else ReportStatus.FINAL


def deeds_of_mdm(message: Message, issuer: str) -> list[Deed]:
    """The document's version; events without content (T01, T03 …) say nothing of it. Raises Unusable."""
    event = message.header.text(9, 2)
    if event not in _MDM_CONTENT:
        return []
    txa = message.first("TXA")
    if txa is None:
        raise missing("the TXA segment", "TXA^1")
    document = _entity(txa, 12)
    if not document:
        raise missing("the document's number", "TXA^1^12")
    orders = orders_of(message) or [Order()]
    for order in orders:
        order.patient = order.patient or message.first("PID")
    obx = [segment for order in orders for segment in order.obx]
    parent = _entity(txa, 13)
    withdrawn = event == "T11" or txa.text(19) in _CANCELLED
    body = "" if withdrawn else body_of(message, obx)
    if not body and not withdrawn:
        raise Unusable("the document has no text", ReasonCode.NO_TEXT, error_code="101", at="OBX^1^5")
    if withdrawn:
        status = ReportStatus.CANCELLED
    elif event == "T06" or only_adds(body):
        status = ReportStatus.ADDENDUM
    elif txa.text(17) and txa.text(17) not in _FINAL_DOCUMENT:
        status = ReportStatus.PRELIMINARY
    else:
        status = ReportStatus.AMENDED if event in ("T08", "T10") else ReportStatus.FINAL
    if event == "T06" and not only_adds(body):
        body = f"ADDENDUM:\n{body}"
    studies = _studies_of(orders)
    version = partial(
        _version,
        message,
        issuer=issuer,
        document=document,
        status=status,
        body=body,
        at=(txa, (8, 7, 6)),  # edited, transcribed, originated
        replaces=(parent,) if event == "T10" and parent and parent != document else (),
    )
    if len(studies) < 2:
        further = tuple(txa.text(number) for number in (15, 14) if txa.text(number))
        return [version(orders[0], further=further)]
    found = [(order, replace(version(order), part=part, parts=tuple(studies))) for part, order in studies.items()]
    return list(
        _apart(found) if all(order.study_uid or order.accession for order, _ in found) else (v for _, v in found)
    )


def _studies_of(orders: Sequence[Order]) -> dict[str, Order]:
    """The first order of each study that a document names, by what names it."""
    found: dict[str, Order] = {}
    for order in orders:
        named = order.study_uid or order.accession or next(iter(order.numbers), "")
        if named:
            found.setdefault(named[:_MOST_CHARACTERS], order)
    return found


def _entity(segment: Segment, number: int) -> str:
    return f"{segment.text(number)}|{segment.text(number, 2)}".rstrip("|")[:_MOST_CHARACTERS]


def _version(
    message: Message,
    order: Order,
    issuer: str,
    *,
    document: str,
    status: ReportStatus,
    body: str,
    at: tuple[Segment, tuple[int, ...]] | None = None,
    further: tuple[str, ...] = (),
    replaces: tuple[str, ...] = (),
) -> ReportVersion:
    """Raises Unusable when nothing names the study; what is withdrawn is known by its document."""
    keys = patient_keys(order.patient, issuer)
    numbers = tuple(dict.fromkeys((*order.numbers, *further)))
    needs_study = order.study_uid is None and not (document and status in WITHDRAWN)
    if needs_study and not numbers:
        raise missing("an accession number or Study Instance UID", f"OBR^{order.number}^18")
    if needs_study and not keys:
        raise missing("the patient's id", "PID^1^3")
    segment, fields = at or (order.obr, (22,))
    times = [segment.time(number) for number in fields] if segment is not None else []
    sent_at = message.header.time(7)
    return ReportVersion(
        source=SOURCE,
        sender=message.sender,
        document=document,
        status=status,
        body=body,
        version_at=next((time for time in times if time is not None), sent_at),
        sent_at=sent_at,
        replaces=replaces,
        study_uid=order.study_uid,
        numbers=numbers if keys else (),
        patient_keys=keys,
    )


def body_of(message: Message, obx: list[Segment]) -> str:
    """The text of the OBX segments in order, under a heading where their OBX-3 names a section.

    Raises Unusable for a document that cannot be read.
    """
    parts: list[str] = []
    heading = ""
    for number, segment in enumerate(obx, 1):
        if names_study(segment) or segment.text(11).upper() in _UNSAID:
            continue
        text = _text_of(message, segment, number).strip("\n")
        named = _heading(segment)
        if named and named != heading and text.strip():
            if not text.lstrip().upper().startswith(named):
                parts.append(f"\n{named}:")
            heading = named
        parts.append(text)
    return plain_text("\n".join(parts)).strip()


def _heading(obx: Segment) -> str:
    """The section that OBX-3 names, by the suffix of its code or in words; empty where it names none."""
    suffix = obx.text(3, 1, 2).upper() or obx.text(4).upper()
    if suffix in _SUFFIXES:
        return _SUFFIXES[suffix]
    for words in (obx.text(3, 2), obx.text(3, 5), obx.text(3, 1)):
        words = re.sub(r"[^\w ]+", " ", words).strip()
        if words.upper() != _WHOLE and len(words) < 40 and is_heading(words, loosely=False):
            return words.upper()
    return ""


def _text_of(message: Message, obx: Segment, number: int) -> str:
    kind = obx.text(2).upper()
    if kind in _TEXT:
        return "\n".join(message.unescaped(part) for part in obx.repetitions(5))
    if kind in _CODED:
        places = range(len(obx.repetitions(5)))
        said = (
            (
                obx.text(5, 2, repetition=p)
                or obx.text(5, 5, repetition=p)
                or obx.text(5, 9, repetition=p)
                or obx.text(5, 1, repetition=p)
            )
            for p in places
        )
        return "\n".join(text for text in said if text)
    if kind == "ED":
        return "\n".join(_document(obx, place, number) for place in range(len(obx.repetitions(5))))
    return ""  # numbers, references, times: no text


def _document(obx: Segment, place: int, number: int) -> str:
    """ED (2.A.24): source, type, subtype, encoding, data."""
    kind, subtype, encoding = (obx.text(5, part, repetition=place) for part in (2, 3, 4))
    data = "".join(obx.text(5, 5, repetition=place).split()) if encoding.upper() in ("BASE64", "HEX") else ""
    try:
        if encoding.upper() == "BASE64":
            content = base64.b64decode(data + "=" * (-len(data) % 4), validate=True)
        elif encoding.upper() == "HEX":
            content = bytes.fromhex(data)
        else:
            return obx.text(5, 5, repetition=place)
        return text_of(content, media_type(kind, subtype, content))
    except (BadInput, binascii.Error, ValueError) as error:
        reason = str(error) if isinstance(error, BadInput) else "the encoded document is damaged"
        raise Unusable(reason, ReasonCode.DOCUMENT_UNREADABLE, error_code=WRONG_TYPE, at=f"OBX^{number}^5") from None
