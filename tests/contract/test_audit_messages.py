"""Events as DICOM audit messages and as FHIR AuditEvents: the standards' own forms, and nothing but the record."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B.auditevent import AuditEvent as R4AuditEvent
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree
from pydicom.sr.codedict import codes

from radir_pacs.audit_feed.dicom_message import audit_message
from radir_pacs.audit_feed.fhir_event import fhir_event
from radir_pacs.audit_feed.syslog import frame
from radir_pacs.audit_feed.terms import TOLD, Source, Term
from radir_pacs.callers import AuditEvent, Role
from radir_pacs.catalogue import AuditRow

SOURCE = Source(name="RADIR", host="radir.hospital.example")
SCHEMA = etree.RelaxNG(etree.parse(Path(__file__).parent / "audit-message.rng"))
AT = datetime(2026, 3, 1, 8, 30, 15, 123456, tzinfo=UTC)


def row(event: AuditEvent = AuditEvent.OPENED, **changes: Any) -> AuditRow:
    values: dict[str, Any] = {"caller": "Dr. Meyer", "role": Role.RADIOLOGIST, "address": "192.0.2.7"}
    values |= {"study_uid": "1.2.3", "patient_keys": ["NORTH\\4711"], "detail": {"region": "heart", "cases": 2}}
    return AuditRow(**{"id": 17, "at": AT, "event": event, "seal": 3, **values, **changes})


def read(message: bytes) -> Any:
    root = etree.fromstring(message)
    SCHEMA.assertValid(root)
    return root


def code_of(element: Any, path: str) -> str | None:
    found = element.find(path)
    return None if found is None else str(found.get("csd-code"))


@pytest.mark.parametrize("event", list(AuditEvent))
@pytest.mark.parametrize("about", ["study", "patient", "nothing", "merged"])
def test_every_event_has_both_forms(event: AuditEvent, about: str) -> None:
    changes: dict[str, dict[str, Any]] = {
        "study": {},
        "patient": {"study_uid": None},
        "nothing": {"study_uid": None, "patient_keys": [], "detail": {}, "address": ""},
        "merged": {"patient_keys": ["\\1", "NORTH\\2"]},
    }
    given_row = row(event, **changes[about])
    root = read(audit_message(given_row, SOURCE))
    assert code_of(root, "EventIdentification/EventID") == TOLD[event].event
    assert root.find("EventIdentification").get("EventDateTime") == "2026-03-01T08:30:15.123Z"
    patients = root.findall("ParticipantObjectIdentification[@ParticipantObjectTypeCodeRole='1']")
    assert len(patients) == len(given_row.patient_keys)
    resource = fhir_event(given_row, SOURCE)
    R4AuditEvent.model_validate(resource)
    assert b"name" not in json.dumps(resource["entity"][1:]).encode(), "the trail holds no patient's name"


def test_the_codes_are_those_of_the_standard() -> None:
    for term in Term:
        known = [name for name in codes.DCM.dir() if getattr(codes.DCM, name).value == term]
        assert [getattr(codes.DCM, name).meaning for name in known] == [term.meaning], term


def test_a_question_and_a_case_that_was_shown() -> None:
    asked = read(audit_message(row(AuditEvent.ASKED), SOURCE))
    (query,) = asked.findall("ParticipantObjectIdentification[@ParticipantObjectTypeCodeRole='24']")
    assert json.loads(base64.b64decode(query.find("ParticipantObjectQuery").text)) == {"region": "heart", "cases": 2}
    shown = read(audit_message(row(AuditEvent.CASE_SHOWN), SOURCE))
    assert code_of(shown, "EventIdentification/EventID") == "110103"
    study, patient = shown.findall("ParticipantObjectIdentification")
    assert (study.get("ParticipantObjectID"), code_of(study, "ParticipantObjectIDTypeCode")) == ("1.2.3", "110180")
    assert (patient.get("ParticipantObjectID"), code_of(patient, "ParticipantObjectIDTypeCode")) == ("4711", "2")
    client, server = shown.findall("ActiveParticipant")
    assert (client.get("UserID"), client.get("NetworkAccessPointID")) == ("Dr. Meyer", "192.0.2.7")
    assert (server.get("UserID"), server.get("AlternativeUserID")) == ("RADIR", "AETITLES=RADIR")


def test_what_was_refused_is_a_failure_in_both() -> None:
    refused = row(AuditEvent.REFUSED, study_uid=None, patient_keys=[])
    assert read(audit_message(refused, SOURCE)).find("EventIdentification").get("EventOutcomeIndicator") == "4"
    assert fhir_event(refused, SOURCE)["outcome"] == "4"
    assert frame(refused, SOURCE).split(b" ", 1)[1].startswith(b"<84>1 "), "authpriv, warning"


@pytest.mark.parametrize(
    ("event", "code"), [(AuditEvent.EMERGENCY_STARTED, "110127"), (AuditEvent.EMERGENCY_STOPPED, "110138")]
)
def test_a_patient_opened_in_an_emergency(event: AuditEvent, code: str) -> None:
    """A security alert with the reason as its description, the study and the patient; in FHIR the purpose is BTG."""
    opened = row(event, detail={"reason": "no time", "number": 1})
    message = read(audit_message(opened, SOURCE))
    assert code_of(message, "EventIdentification/EventID") == "110113"
    assert code_of(message, "EventIdentification/EventTypeCode") == code
    (detail,) = message.findall(".//ParticipantObjectDetail[@type='Alert Description']")
    assert json.loads(base64.b64decode(detail.get("value")))["reason"] == "no time"
    named = {one.get("ParticipantObjectID") for one in message.findall("ParticipantObjectIdentification")}
    assert named == {"RADIR", "1.2.3", "4711"}
    resource = fhir_event(opened, SOURCE)
    assert [one["code"] for one in resource["purposeOfEvent"][0]["coding"]] == ["BTG"]
    assert "purposeOfEvent" not in fhir_event(row(), SOURCE)


@pytest.mark.parametrize(
    ("event", "interaction", "profile"),
    [
        (AuditEvent.CASE_SHOWN, "read", "PatientRead"),
        (AuditEvent.ASKED, "search", "PatientQuery"),
        (AuditEvent.STORED, "create", "PatientCreate"),
        (AuditEvent.DELETED, "delete", "PatientDelete"),
    ],
)
def test_patterns_of_balp(event: AuditEvent, interaction: str, profile: str) -> None:
    """What the patterns have in common: a RESTful type, client and server, one patient, and the data or the query."""
    resource = fhir_event(row(event), SOURCE)
    assert resource["meta"]["profile"][0].endswith(f"IHE.BasicAudit.{profile}")
    assert resource["type"]["code"] == "rest" and resource["subtype"][0]["code"] == interaction
    assert [agent["type"]["coding"][0]["code"] for agent in resource["agent"]] == ["110153", "110152", "IRCP"]
    assert [agent["requestor"] for agent in resource["agent"]] == [False, False, True]
    roles = [entity["role"]["code"] for entity in resource["entity"]]
    assert roles.count("1") == 1 and ("24" in roles) == (interaction == "search") and "4" in roles
    over_dicom = fhir_event(row(event, role=Role.PEER), SOURCE)
    assert "meta" not in over_dicom and over_dicom["type"]["code"] == TOLD[event].event


@given(caller=st.text(), key=st.text(), value=st.text())
def test_whatever_is_in_the_record_the_message_is_xml(caller: str, key: str, value: str) -> None:
    given_row = row(caller=caller, patient_keys=[key], detail={"route": value})
    assert read(audit_message(given_row, SOURCE)) is not None
    assert R4AuditEvent.model_validate(fhir_event(given_row, SOURCE))


def test_the_frame_counts_octets() -> None:
    made = frame(row(caller="Größe"), Source(name="RAD IR", host="häuser"))
    length, message = made.split(b" ", 1)
    assert int(length) == len(message)
    head, body = message.split(b"\xef\xbb\xbf")
    fields = head.decode("ascii").split(" ")
    assert fields[0] == "<85>1" and fields[1] == "2026-03-01T08:30:15.123Z"
    assert fields[2:4] == ["h_user", "RAD_IR"]
    assert fields[5:7] == ["DICOM+RFC3881", "-"]
    assert read(body).find("ActiveParticipant").get("UserID") == "Größe"
