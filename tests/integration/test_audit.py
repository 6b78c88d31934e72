"""The audit trail: an event per patient revealed, before the answer; nothing changes it unseen."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pydicom
import pytest
import requests

from radir_pacs.callers import AuditEvent, Caller, Role
from radir_pacs.catalogue import AuditRow, Catalogue, Message, PatientMerge, Verdict, audit
from radir_pacs.cli import main
from radir_pacs.config import Settings, to_environment
from radir_pacs.delivery.destination import Destination
from radir_pacs.delivery.send import send_files
from radir_pacs.errors import StorageFailed
from radir_workers.relay import Relay
from tests.catalogue_material import TESTER, add, header
from tests.dicom_files import radiograph
from tests.integration.conftest import Web, part10
from tests.integration.test_web_context_rights import OWN, QUESTION, SIGNED_IN, link
from tests.integration.test_web_context_rights import guarded as guarded

READER = Caller(name="reader", role=Role.RADIOLOGIST, address="192.0.2.7")


def told(catalogue: Catalogue, **wanted: Any) -> list[AuditRow]:
    """Events in the order in which they were written."""
    return list(reversed(catalogue.audit.events(**wanted)))


def test_an_answer_of_cases_is_an_event_for_each(guarded: Web, catalogue: Catalogue) -> None:
    answer = requests.get(f"{guarded.base}/studies/{OWN}/similar", QUESTION, headers=SIGNED_IN, timeout=30)
    shown = [row["0020000D"]["Value"][0] for row in answer.json()]
    assert len(shown) == 2
    (asked,) = told(catalogue, event=AuditEvent.ASKED)
    assert (asked.study_uid, asked.caller, asked.role) == (OWN, "settings", Role.ADMINISTRATOR)
    assert asked.detail["region"] == "left_lung" and asked.detail["cases"] == 2
    events = told(catalogue, event=AuditEvent.CASE_SHOWN)
    assert {event.study_uid for event in events} == set(shown) and len(events) == 2
    assert all(event.detail["like"] == OWN and event.patient_keys for event in events)


def test_a_reader_of_the_sidebar_is_named(guarded: Web, catalogue: Catalogue) -> None:
    cookies = link(guarded, reader="dr.house")
    requests.get(f"{guarded.root}/api/studies/{OWN}/similar", QUESTION, cookies=cookies, timeout=30)
    assert [event.study_uid for event in told(catalogue, event=AuditEvent.LINK_OPENED)] == [OWN]
    events = told(catalogue, event=AuditEvent.CASE_SHOWN)
    assert {(event.caller, event.role) for event in events} == {("dr.house", Role.SIDEBAR)}


def test_what_is_opened_is_recorded_once_in_a_while(guarded: Web, catalogue: Catalogue) -> None:
    for path in ("", "/metadata", "/series", "/instances", "/rendered"):
        requests.get(f"{guarded.base}/studies/{OWN}{path}", headers=SIGNED_IN, timeout=30)
    requests.get(f"{guarded.base}/studies/1.2.999/metadata", headers=SIGNED_IN, timeout=30)
    (event,) = told(catalogue, event=AuditEvent.OPENED, caller="settings")
    assert (event.study_uid, event.address) == (OWN, "127.0.0.1")


def test_a_study_that_came_after_it_was_asked_for_is_recorded_when_it_is_opened(web: Web, catalogue: Catalogue) -> None:
    ds = radiograph()
    path = f"/studies/{ds.StudyInstanceUID}/metadata"
    assert web.get(path).status_code == 404
    web.store(ds)
    assert requests.options(web.base + path, timeout=30).status_code == 200
    assert told(catalogue, event=AuditEvent.OPENED) == []
    assert web.get(path).status_code == 200
    assert [event.study_uid for event in told(catalogue, event=AuditEvent.OPENED)] == [str(ds.StudyInstanceUID)]


def test_a_list_that_is_polled_is_recorded_once_in_a_while(web: Web, catalogue: Catalogue) -> None:
    for _ in range(2):
        web.store(radiograph())
        for _ in range(3):
            assert web.get("/studies").status_code == 200
    assert len(told(catalogue, event=AuditEvent.LISTED)) == 2


def test_every_route_that_names_a_study_is_recorded_or_tells_nothing_about_a_patient(web: Web) -> None:
    """A new route under a study is decided upon here."""
    tells_nothing = {"studies.state", "studies.complete", "studies.pull", "handover.held", "handover.job"}
    recorded_itself = {"similar.similar", "similar.store_similar", "sidebar.similar", "judgements.report", "stow.store"}
    about_judgements = {"judgements.judge", "judgements.judged"}
    known = web_audit_endpoints() | tells_nothing | recorded_itself | about_judgements
    named = {rule.endpoint for rule in web.app.url_map.iter_rules() if "study" in rule.arguments}
    assert named == known & named and known <= {rule.endpoint for rule in web.app.url_map.iter_rules()}
    assert named - known == set()


def web_audit_endpoints() -> set[str]:
    from radir_pacs.web import audit as web_audit

    return set(web_audit._OPENS | web_audit._DELETES)


def test_searches_stores_and_deletions(web: Web, catalogue: Catalogue) -> None:
    ds = radiograph(PatientID="P-1")
    study = str(ds.StudyInstanceUID)
    headers = {"Content-Type": "application/dicom"}
    assert requests.post(web.base + "/studies", part10(ds), headers=headers, timeout=30).status_code == 200
    assert web.get("/studies?PatientID=P-1").status_code == 200
    assert web.get("/studies?PatientID=nobody").status_code == 204
    by_uri = f"{web.root}/wado?requestType=WADO&objectUID={ds.SOPInstanceUID}"
    assert requests.get(by_uri, timeout=30).status_code == 200
    assert requests.delete(f"{web.base}/studies/{study}", timeout=30).status_code == 204
    events = told(catalogue, study_uid=study)
    assert [event.event for event in events] == [
        AuditEvent.STORED,
        AuditEvent.LISTED,
        AuditEvent.OPENED,
        AuditEvent.DELETED,
    ]
    assert all(event.patient_keys == ["\\P-1"] for event in events)
    assert events == told(catalogue, patient_id="P-1"), "found by the patient although the study is gone"


def test_what_cannot_be_recorded_is_not_answered(
    web: Web, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    ds = radiograph()
    web.store(ds)

    def away(*_: object, **__: object) -> None:
        raise StorageFailed("away")

    with monkeypatch.context() as patched:
        patched.setattr("radir_pacs.catalogue.audit.Audit.note_studies", away)
        assert web.get(f"/studies/{ds.StudyInstanceUID}/metadata").status_code >= 500
        assert web.get("/studies").status_code >= 500
    assert web.get(f"/studies/{ds.StudyInstanceUID}/metadata").status_code == 200
    assert len(told(catalogue, event=AuditEvent.OPENED)) == 1, "what failed is recorded when it succeeds"


def test_refusals_are_recorded_once_a_minute(guarded: Web, catalogue: Catalogue) -> None:
    for _ in range(3):
        wrong = {"Authorization": "Bearer wrong"}
        assert requests.get(guarded.base + "/studies", headers=wrong, timeout=30).status_code == 401
    requests.get(guarded.base + "/studies", timeout=30)
    token = catalogue.access_tokens.create("reader", Role.RADIOLOGIST, by=TESTER)
    guarded.app.extensions["radir"].bearers._read_s = float("-inf")
    deleting = requests.delete(
        f"{guarded.base}/studies/{OWN}", headers={"Authorization": f"Bearer {token}"}, timeout=30
    )
    assert deleting.status_code == 403 and catalogue.studies.get(OWN)
    nobody, reader = told(catalogue, event=AuditEvent.REFUSED)
    assert (nobody.role, reader.caller) == (Role.NOBODY, "reader")
    assert reader.detail["route"] == "/dicom-web/studies/<study>", "the route, never the address"


def test_the_address_is_the_clients_behind_a_trusted_proxy(serve: Callable[..., Web], catalogue: Catalogue) -> None:
    ds = radiograph()
    direct, behind = serve(), serve(trusted_proxies=("127.0.0.1",))
    direct.store(ds)
    forged = {"X-Forwarded-For": "203.0.113.9, 192.0.2.44", "Forwarded": "for=203.0.113.1"}
    for web in (direct, behind):
        assert web.get("/studies", headers=forged).status_code == 200
    addresses = [event.address for event in told(catalogue, event=AuditEvent.LISTED)]
    assert addresses == ["127.0.0.1", "192.0.2.44"]


# The chain


@pytest.fixture
def noted(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> Catalogue:
    """Ten events about two studies, in four seals."""
    monkeypatch.setattr(audit, "MOST_PER_SEAL", 3)
    for study in (1, 2):
        key = f"\\p{study}"
        add(catalogue, header(study, patient_key=key, patient_keys=(key,)))
        for _ in range(5):
            catalogue.audit.note(AuditEvent.OPENED, READER, f"2.25.{study}", note="ü")
    while catalogue.audit.seal():
        pass
    return catalogue


def unguarded(database_url: str, statement: str) -> None:
    """What somebody does who has the database's password."""
    with psycopg.connect(database_url) as connection:
        connection.execute("ALTER TABLE audit_event DISABLE TRIGGER USER")
        connection.execute("ALTER TABLE audit_seal DISABLE TRIGGER USER")
        connection.execute(statement.encode())


def test_a_whole_trail_is_whole(noted: Catalogue) -> None:
    chain = noted.audit.verify()
    assert (chain.seals, chain.events, chain.broken_at, chain.found) == (4, 10, None, True)
    noted.audit.note(AuditEvent.STARTED, TESTER)
    open_end = noted.audit.verify()
    assert (chain.unsealed, open_end.unsealed) == (0, 1) and open_end.oldest_s is not None
    assert open_end.digest == chain.digest, "what is not sealed yet changes nothing"
    assert noted.audit.seal() == 1
    longer = noted.audit.verify(chain.digest)
    assert (longer.events, longer.found) == (11, True) and longer.digest != chain.digest
    last = noted.audit.last_seal()
    assert last is not None and last.digest == longer.digest


@pytest.mark.parametrize(
    ("statement", "broken_at"),
    [
        ("UPDATE audit_event SET caller = 'somebody else' WHERE id = 5", 2),
        ("UPDATE audit_event SET at = at + interval '1 microsecond' WHERE id = 1", 1),
        ("UPDATE audit_event SET patient_keys = '{}' WHERE id = 10", 4),
        ("DELETE FROM audit_event WHERE id = 4", 2),
        ("UPDATE audit_event SET seal = 1 WHERE id = 4", 1),
        ("DELETE FROM audit_event WHERE seal = 2", 2),
        ("DELETE FROM audit_event WHERE seal = 2; DELETE FROM audit_seal WHERE id = 2", 2),
    ],
)
def test_what_was_changed_is_found(noted: Catalogue, database_url: str, statement: str, broken_at: int) -> None:
    for part in statement.split(";"):
        unguarded(database_url, part)
    assert noted.audit.verify().broken_at == broken_at


def test_an_end_that_was_cut_off_is_missed_by_who_kept_its_digest(noted: Catalogue, database_url: str) -> None:
    kept = noted.audit.verify().digest
    unguarded(database_url, "DELETE FROM audit_event WHERE seal = 4")
    unguarded(database_url, "DELETE FROM audit_seal WHERE id = 4")
    chain = noted.audit.verify(kept)
    assert (chain.broken_at, chain.found) == (None, False)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_event SET caller = 'x'",
        "UPDATE audit_event SET seal = NULL WHERE seal IS NOT NULL",
        "DELETE FROM audit_event",
        "TRUNCATE audit_event",
        "UPDATE audit_seal SET events = 0",
        "DELETE FROM audit_seal",
    ],
)
def test_the_tables_take_no_changes(noted: Catalogue, database_url: str, statement: str) -> None:
    with psycopg.connect(database_url) as connection, pytest.raises(psycopg.Error, match="append-only"):
        connection.execute(statement.encode())


def test_one_seals_at_a_time(noted: Catalogue, database_url: str) -> None:
    noted.audit.note(AuditEvent.STARTED, TESTER)
    with psycopg.connect(database_url) as other:
        other.execute("SELECT pg_advisory_xact_lock(x'5241445341'::bigint)")
        assert noted.audit.seal() == 0
        other.rollback()
    assert noted.audit.seal() == 1


def test_the_relay_seals_and_its_log_is_a_witness(
    catalogue: Catalogue, blobs: Any, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    catalogue.audit.note(AuditEvent.STARTED, TESTER)
    relay = Relay(catalogue, blobs, settings, ring=lambda job, queue: None)
    with caplog.at_level("INFO"):
        relay.round()
        relay.round()
    (witness,) = [record for record in caplog.records if record.message == "audit trail"]
    assert witness.__dict__["digest"] == catalogue.audit.verify().digest


# Asking it


@pytest.fixture
def command(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in to_environment(settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("radir_pacs.cli.audit.must_run", lambda settings: None)
    yield


def test_who_saw_this_patient_and_what_did_this_caller_see(noted: Catalogue) -> None:
    other = Caller(name="other", role=Role.SERVICE)
    noted.audit.note_studies(AuditEvent.LISTED, other, ["2.25.1", "2.25.2", "2.25.3"])
    assert {event.caller for event in noted.audit.events(patient_id="p1")} == {"reader", "other"}
    assert len(noted.audit.events(caller="other")) == 2, "a study that is not here is not recorded"
    assert noted.audit.events(patient_id="nobody") == ()
    assert noted.audit.events(patient_id="\\p1") == noted.audit.events(patient_id="p1")
    page = noted.audit.events(most=7)
    rest = noted.audit.events(most=7, before=page[-1].id)
    assert [event.id for event in (*page, *rest)] == list(range(12, 0, -1))
    later = datetime.now(UTC) + timedelta(hours=1)
    assert noted.audit.events(since=later) == () and len(noted.audit.events(until=later)) == 12


@pytest.mark.usefixtures("command")
def test_the_commands(noted: Catalogue, database_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "--study", "2.25.1", "--json"]) == 0
    events = json.loads(capsys.readouterr().out)
    assert [event["study_uid"] for event in events] == ["2.25.1"] * 5 and events[0]["address"] == "192.0.2.7"
    assert main(["audit", "--limit", "3"]) == 0
    assert "older ones: --before 9" in capsys.readouterr().out
    assert main(["audit", "verify", "--json"]) == 0
    digest = json.loads(capsys.readouterr().out)["digest"]
    assert main(["audit", "verify", "--expect", digest]) == 0
    assert main(["audit", "verify", "--expect", "00" * 32]) == 1
    assert "cut off" in capsys.readouterr().out
    unguarded(database_url, "UPDATE audit_event SET caller = 'x' WHERE id = 7")
    assert main(["audit", "verify"]) == 1
    assert "seal 3 does not" in capsys.readouterr().out


def test_what_comes_by_dicom_and_hl7_is_recorded(
    catalogue: Catalogue, listen: Callable[..., Destination], tmp_path: Path
) -> None:
    """One event per study and association, of the peer that sent it; one per report and merge."""
    paths = []
    for number in range(4):
        uids = {"StudyInstanceUID": f"1.2.{number % 2}", "SOPInstanceUID": f"1.2.3.{number}"}
        path = tmp_path / f"{number}.dcm"
        pydicom.dcmwrite(path, radiograph(**uids, PatientID=f"P{number % 2}"), enforce_file_format=True)
        paths.append(path)
    send_files(paths, listen(), calling_ae="CT1")
    stored = catalogue.audit.events(event=AuditEvent.STORED, caller="CT1")
    assert sorted((event.study_uid, event.patient_keys) for event in stored) == [
        ("1.2.0", ["\\P0"]),
        ("1.2.1", ["\\P1"]),
    ]
    assert {(event.role, event.address) for event in stored} == {(Role.PEER, "127.0.0.1")}
    message = Message(sender="RIS|HOUSE", control_id="1", kind="ADT^A40", body=b"x")
    merge = PatientMerge(pairs=(("\\P0", "\\P9"),))
    for _ in range(2):
        catalogue.messages.take(message, (merge,), Verdict(answer="AA"))
    (merged,) = catalogue.audit.events(event=AuditEvent.MERGED)
    assert merged.caller == "RIS|HOUSE" and set(merged.patient_keys) == {"\\P0", "\\P9"}


def test_old_events_retire_and_the_chain_stays_whole(
    catalogue: Catalogue, database_url: str, tmp_path: Path, command: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Into a file, by whole seals; what is left verifies alone, and all of it with the file. Nothing else may go."""
    for number in range(4):
        catalogue.audit.note(AuditEvent.OPENED, READER, f"1.2.{number}")
        assert catalogue.audit.seal() == 1
    digest = catalogue.audit.last_seal()
    assert digest is not None
    third = catalogue.audit.events(study_uid="1.2.2")[0].at
    export = tmp_path / "old.jsonl"
    asked = ["audit", "retire", "--until", third.isoformat(), "--out", str(export)]
    assert main(asked) == 0 and main(asked) == 1, "a file that is there is not overwritten"
    assert export.stat().st_mode & 0o777 == 0o600 and len(export.read_text().splitlines()) == 2
    assert [event.study_uid for event in told(catalogue, event=AuditEvent.OPENED)] == ["1.2.2", "1.2.3"]
    catalogue.audit.seal()
    chain = catalogue.audit.verify(digest.digest)
    assert chain.broken_at is None and chain.found and (chain.retired, chain.events) == (2, 3)
    with export.open("rb") as file:
        whole = catalogue.audit.verify(exports=[file])
    assert whole.broken_at is None and (whole.retired, whole.events) == (0, 5)
    changed = tmp_path / "changed.jsonl"
    changed.write_text(export.read_text().replace("1.2.1", "1.2.7"))
    capsys.readouterr()
    assert main(["audit", "verify", "--export", str(changed)]) == 1
    assert "seal 2 does not" in capsys.readouterr().out
    assert main(["audit", "verify", "--export", str(export)]) == 0
    with psycopg.connect(database_url) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("DELETE FROM audit_event WHERE seal = 3")
    with psycopg.connect(database_url) as connection:  # by somebody who owns the database, past `retire`
        connection.execute("UPDATE audit_seal SET retired_at = now() WHERE id = 3")
        connection.execute("DELETE FROM audit_event WHERE seal = 3")
    assert catalogue.audit.verify().broken_at == 3, "no event says that it was exported"
