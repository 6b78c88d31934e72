"""An event as a DICOM audit message (PS3.15 A.5.1): what the trail holds of it, and nothing that is looked up."""

from __future__ import annotations

import base64
import ipaddress
import json
import re
from datetime import UTC
from xml.etree.ElementTree import Element, SubElement, tostring

from radir_pacs.catalogue import AuditRow

from .terms import TOLD, Source, Term

_MACHINE_NAME, _IP_ADDRESS = "1", "2"  # NetworkAccessPointTypeCode
_PERSON, _SYSTEM_OBJECT = "1", "2"  # ParticipantObjectTypeCode
_PATIENT, _REPORT, _SECURITY_RESOURCE, _QUERY = "1", "3", "13", "24"  # ParticipantObjectTypeCodeRole
_PATIENT_NUMBER, _SEARCH_CRITERIA, _URI = "2", "10", "12"  # ParticipantObjectIDTypeCode (RFC 3881 5.5.4)
_MEANINGS = {_PATIENT_NUMBER: "Patient Number", _SEARCH_CRITERIA: "Search Criteria", _URI: "URI"}
_APPLICATION_SERVER = "4"  # AuditSourceTypeCode
_SUCCESS, _MINOR_FAILURE = "0", "4"
_NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, Char
TRAIL = "urn:radir:audit"


def audit_message(row: AuditRow, source: Source) -> bytes:
    """The message as XML, in UTF-8 without a declaration; its time is the event's."""
    told = TOLD[row.event]
    message = Element("AuditMessage")
    outcome = _MINOR_FAILURE if told.failed else _SUCCESS
    at = row.at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    event = SubElement(
        message,
        "EventIdentification",
        {"EventActionCode": told.action, "EventDateTime": at, "EventOutcomeIndicator": outcome},
    )
    _dcm(event, "EventID", told.event)
    if told.kind is not None:
        _dcm(event, "EventTypeCode", told.kind)
    _participants(message, row, source)
    audited = SubElement(message, "AuditSourceIdentification", {"AuditSourceID": source.name})
    SubElement(audited, "AuditSourceTypeCode", {"csd-code": _APPLICATION_SERVER})
    _objects(message, row, source)
    return bytes(tostring(message, encoding="utf-8", xml_declaration=False))


def legal(text: str) -> str:
    """Without the characters that no XML document may hold."""
    return _NOT_IN_XML.sub("\ufffd", text)


def detail_of(row: AuditRow) -> dict[str, str]:
    """What is told beside the event's main fields; ``event``: its number, by which a copy sent twice is known."""
    return {"event": str(row.id), "told_as": row.event, "role": row.role} | {
        name: str(value) for name, value in row.detail.items()
    }


def _participants(message: Element, row: AuditRow, source: Source) -> None:
    """Whoever acted, and our system."""
    is_start = TOLD[row.event].event is Term.APPLICATION_ACTIVITY
    by = {"UserID": legal(row.caller), "UserIsRequestor": "true"}
    if row.address:
        by |= {"NetworkAccessPointID": legal(row.address), "NetworkAccessPointTypeCode": _type_of(row.address)}
    _dcm(SubElement(message, "ActiveParticipant", by), "RoleIDCode", Term.LAUNCHER if is_start else Term.SOURCE)
    ours = {"UserID": source.name, "AlternativeUserID": f"AETITLES={source.name}", "UserIsRequestor": "false"}
    ours |= {"NetworkAccessPointID": source.host, "NetworkAccessPointTypeCode": _MACHINE_NAME}
    us = SubElement(message, "ActiveParticipant", ours)
    _dcm(us, "RoleIDCode", Term.APPLICATION if is_start else Term.DESTINATION)


def _objects(message: Element, row: AuditRow, source: Source) -> None:
    told = TOLD[row.event].event
    detail = detail_of(row)
    if told is Term.QUERY:
        asked = _object(message, row.event, _SYSTEM_OBJECT, _QUERY, _SEARCH_CRITERIA)
        query = json.dumps(dict(row.detail), sort_keys=True, ensure_ascii=False)
        SubElement(asked, "ParticipantObjectQuery").text = _base64(query)
        _details(asked, detail)
    elif told is Term.AUDIT_LOG_USED:
        log = _object(message, TRAIL, _SYSTEM_OBJECT, _SECURITY_RESOURCE, _URI)
        SubElement(log, "ParticipantObjectName").text = "Security Audit Log"  # as PS3.15 A.5.3.2 demands
        _details(log, detail)
    elif row.study_uid is None or told is Term.SECURITY_ALERT:
        node = _object(message, source.name, _SYSTEM_OBJECT, _SECURITY_RESOURCE, Term.NODE_ID)
        SubElement(node, "ParticipantObjectName").text = source.name
        if told is Term.SECURITY_ALERT:
            detail = {"Alert Description": json.dumps(detail, sort_keys=True)}
        _details(node, detail)
    if row.study_uid is not None:
        study = _object(message, row.study_uid, _SYSTEM_OBJECT, _REPORT, Term.STUDY_UID)
        SubElement(study, "ParticipantObjectName")
        if told not in (Term.QUERY, Term.AUDIT_LOG_USED, Term.SECURITY_ALERT):
            _details(study, detail)
    for key in row.patient_keys:
        issuer, _, patient_id = key.rpartition("\\")
        patient = _object(message, patient_id, _PERSON, _PATIENT, _PATIENT_NUMBER)
        SubElement(patient, "ParticipantObjectName")  # the schema wants one; the trail holds no names
        if issuer:
            _details(patient, {"Issuer of Patient ID": issuer})


def _object(message: Element, identity: str, kind: str, role: str, id_kind: str) -> Element:
    made = SubElement(
        message,
        "ParticipantObjectIdentification",
        {
            "ParticipantObjectID": legal(identity),
            "ParticipantObjectTypeCode": kind,
            "ParticipantObjectTypeCodeRole": role,
        },
    )
    if isinstance(id_kind, Term):
        _dcm(made, "ParticipantObjectIDTypeCode", id_kind)
    else:
        _code(made, "ParticipantObjectIDTypeCode", id_kind, "RFC-3881", _MEANINGS[id_kind])
    return made


def _details(parent: Element, detail: dict[str, str]) -> None:
    for name, value in detail.items():
        SubElement(parent, "ParticipantObjectDetail", {"type": legal(name), "value": _base64(value)})


def _dcm(parent: Element, name: str, term: Term) -> None:
    _code(parent, name, term, "DCM", term.meaning)


def _code(parent: Element, name: str, code: str, scheme: str, meaning: str) -> None:
    SubElement(parent, name, {"csd-code": code, "codeSystemName": scheme, "originalText": meaning})


def _base64(text: str) -> str:
    return base64.b64encode(text.encode("utf-8", "replace")).decode()


def _type_of(address: str) -> str:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return _MACHINE_NAME
    return _IP_ADDRESS
