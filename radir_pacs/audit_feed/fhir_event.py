"""An event as a FHIR R4 AuditEvent, after the patterns of IHE BALP where it is one of them.

What was done over HTTP with the studies of a known patient is a RESTful read, search, create or delete there, with
DICOM's code as a second subtype; all else is told by DICOM's codes, as R4 has them.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import re
from datetime import UTC
from typing import Any

from radir_pacs.callers import Role
from radir_pacs.catalogue import AuditRow

from .dicom_message import TRAIL, detail_of
from .terms import TOLD, Source, Term

DCM = "http://dicom.nema.org/resources/ontology/DCM"
_NOT_IN_A_STRING = re.compile(r"[^\S \r\n\t]")
_ENTITY_TYPE = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
_ENTITY_ROLE = "http://terminology.hl7.org/CodeSystem/object-role"
_BALP = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit"
_REST = {
    "system": "http://terminology.hl7.org/CodeSystem/audit-event-type",
    "code": "rest",
    "display": "RESTful Operation",
}
_INTERACTIONS = {  # DICOM's event: the interaction, and the pattern of BALP for a known patient
    Term.INSTANCES_ACCESSED: ("read", "PatientRead"),
    Term.QUERY: ("search", "PatientQuery"),
    Term.INSTANCES_TRANSFERRED: ("create", "PatientCreate"),
    Term.STUDY_DELETED: ("delete", "PatientDelete"),
}
_BREAK_GLASS = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-ActReason",
    "code": "BTG",
    "display": "break the glass",
}
_NOT_OVER_HTTP = frozenset({Role.PEER, Role.COMMAND})
_MACHINE_NAME, _IP_ADDRESS = "1", "2"  # http://hl7.org/fhir/network-type
_SYSTEM_OBJECT = {"system": _ENTITY_TYPE, "code": "2", "display": "System Object"}
_PERSON = {"system": _ENTITY_TYPE, "code": "1", "display": "Person"}
_ROLES = {"1": "Patient", "4": "Domain Resource", "13": "Security Resource", "24": "Query"}


def fhir_event(row: AuditRow, source: Source) -> dict[str, Any]:
    """The resource, without an id: the repository gives it one."""
    told = TOLD[row.event]
    pattern = _INTERACTIONS.get(told.event) if row.role not in _NOT_OVER_HTTP else None
    kinds = [_dcm(told.kind)] if told.kind else []
    if pattern is None:
        head: dict[str, Any] = {"type": _dcm(told.event)}
    else:
        interaction = {"system": "http://hl7.org/fhir/restful-interaction", "code": pattern[0], "display": pattern[0]}
        head = {"type": _REST}
        kinds = [interaction, _dcm(told.event)]
        if row.patient_keys:
            head["meta"] = {"profile": [f"{_BALP}.{pattern[1]}"]}
    resource = {
        "resourceType": "AuditEvent",
        **head,
        **({"subtype": kinds} if kinds else {}),
        "action": told.action,
        "recorded": row.at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "outcome": "4" if told.failed else "0",
        **({"purposeOfEvent": [{"coding": [_BREAK_GLASS]}]} if told.breaks_glass else {}),
        "agent": _agents(row, source),
        "source": {
            "observer": {"display": source.name},
            "type": [
                {
                    "system": "http://terminology.hl7.org/CodeSystem/security-source-type",
                    "code": "4",
                    "display": "Application Server",
                }
            ],
        },
        "entity": _entities(row),
    }
    return {name: _printed(value) for name, value in resource.items()}


def _printed(value: Any) -> Any:
    """The same with spaces in place of the white space that a FHIR string may not have (R4 2.24.0.1)."""
    if isinstance(value, str):
        return _NOT_IN_A_STRING.sub(" ", value)
    if isinstance(value, dict):
        return {name: _printed(inner) for name, inner in value.items()}
    return [_printed(inner) for inner in value] if isinstance(value, list) else value


def _agents(row: AuditRow, source: Source) -> list[dict[str, Any]]:
    """The client, our server and, where it is one who can be named, the user."""
    is_start = TOLD[row.event].event is Term.APPLICATION_ACTIVITY
    client: dict[str, Any] = {
        "type": {"coding": [_dcm(Term.LAUNCHER if is_start else Term.SOURCE)]},
        "who": {"display": row.address or row.caller or str(row.role)},
        "requestor": False,
    }
    if row.address:
        client["network"] = {"address": row.address, "type": _network(row.address)}
    server = {
        "type": {"coding": [_dcm(Term.APPLICATION if is_start else Term.DESTINATION)]},
        "who": {"display": source.name},
        "requestor": False,
        "network": {"address": source.host, "type": _MACHINE_NAME},
    }
    user = {
        "type": {
            "coding": [
                {
                    "system": "http://terminology.hl7.org/CodeSystem/v3-ParticipationType",
                    "code": "IRCP",
                    "display": "information recipient",
                }
            ]
        },
        "who": {"display": row.caller or str(row.role)},
        "requestor": True,
    }
    return [client, server, user]


def _entities(row: AuditRow) -> list[dict[str, Any]]:
    told = TOLD[row.event].event
    entities: list[dict[str, Any]] = []
    if told is Term.QUERY:
        query = json.dumps(dict(row.detail), sort_keys=True, ensure_ascii=False).encode("utf-8", "replace")
        entities.append(_entity("24", query=base64.b64encode(query).decode()))
    elif told is Term.AUDIT_LOG_USED:
        entities.append(_entity("13", what={"identifier": {"value": TRAIL}}, name="Security Audit Log"))
    if row.study_uid is not None:
        uid = {"system": "urn:dicom:uid", "value": f"urn:oid:{row.study_uid}"}
        entities.append(_entity("4", what={"identifier": uid}))
    if not entities:
        entities.append(_entity("13"))
    entities[0]["detail"] = [{"type": name, "valueString": value or "-"} for name, value in detail_of(row).items()]
    if row.patient_keys:
        first, *others = row.patient_keys
        patient = {"type": _PERSON, "role": _role("1"), "what": {"type": "Patient", "identifier": _identifier(first)}}
        if others:  # the pattern has one patient; what was merged into it is the same person
            patient["detail"] = [{"type": "also known as", "valueString": key} for key in others]
        entities.append(patient)
    return entities


def _identifier(key: str) -> dict[str, Any]:
    issuer, _, patient_id = key.rpartition("\\")
    found: dict[str, Any] = {"value": patient_id or "-"}
    return found | ({"assigner": {"display": issuer}} if issuer else {})


def _entity(role: str, **more: Any) -> dict[str, Any]:
    return {"type": _SYSTEM_OBJECT, "role": _role(role), **more}


def _role(code: str) -> dict[str, str]:
    return {"system": _ENTITY_ROLE, "code": code, "display": _ROLES[code]}


def _dcm(term: Term) -> dict[str, str]:
    return {"system": DCM, "code": str(term), "display": term.meaning}


def _network(address: str) -> str:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return _MACHINE_NAME
    return _IP_ADDRESS
