"""Reports by one intake: versions, statuses, waiting for a study, and patients that merge, on a real Postgres."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import radir_workers.mine_report
from radir_pacs.catalogue import (
    Catalogue,
    Demographics,
    Message,
    OrderLink,
    Outcome,
    PatientMerge,
    PatientUpdate,
    Received,
    ReportStatus,
    ReportVersion,
    Verdict,
)
from radir_pacs.reports import mine
from radir_pacs.similar_cases import Filters
from radir_pacs.types import JobKind
from radir_workers.mine_report import MineReport
from tests.catalogue_material import (
    add,
    claimed,
    encoded,
    header,
    mined_findings,
    owners,
    receive,
    register,
    report_header,
)

STUDY = "2.25.1"
BEGAN = datetime(2026, 3, 1, 8, tzinfo=UTC)


def told(body: str = "", status: ReportStatus = ReportStatus.FINAL, minute: int = 0, **said: Any) -> ReportVersion:
    given: dict[str, Any] = {"source": "hl7", "sender": "RIS", "document": "F1", "study_uid": STUDY}
    return ReportVersion(**(given | said), body=body, status=status, version_at=BEGAN + timedelta(minutes=minute))


def texts(catalogue: Catalogue, study_uid: str = STUDY) -> list[str]:
    return [report.body for report in catalogue.reports.of_study(study_uid)]


def mine_all(catalogue: Catalogue) -> int:
    mined = 0
    for job_id in catalogue.jobs.to_announce(100, kinds=(JobKind.REPORT,)):
        job = catalogue.jobs.claim(job_id, "test")
        assert job is not None
        MineReport(catalogue)(job)
        mined += 1
    return mined


def concepts(catalogue: Catalogue) -> set[tuple[str, str, str]]:
    found = mined_findings(catalogue, STUDY).get(STUDY, ())
    return {(f["concept"], f["polarity"], f["certainty"]) for findings in found for f in findings}


def has_report(catalogue: Catalogue) -> bool:
    with catalogue._database.transaction() as connection:
        row = connection.execute("SELECT has_report FROM study WHERE study_uid = %s", [STUDY]).fetchone()
    assert row is not None
    return bool(row["has_report"])


def test_a_report_lives(catalogue: Catalogue) -> None:
    add(catalogue, header())
    take = catalogue.report_versions.receive
    assert take(told("Pneumothorax?", ReportStatus.PRELIMINARY, 1)) is Received.NEW
    assert take(told("Large pneumothorax.", minute=2)) is Received.REPLACED
    assert take(told("Large pneumothorax.", minute=2)) is Received.SAME
    assert take(told("Perhaps nothing.", ReportStatus.PRELIMINARY, 3)) is Received.LATE
    assert texts(catalogue) == ["Large pneumothorax."]
    assert take(told("Skin fold. No pneumothorax.", ReportStatus.AMENDED, 4)) is Received.REPLACED
    assert take(told("Large pneumothorax.", minute=2)) is Received.LATE, "an old message that was held up"
    assert texts(catalogue) == ["Skin fold. No pneumothorax."]
    mine_all(catalogue)
    assert {(concept, polarity) for concept, polarity, _ in concepts(catalogue)} == {("pneumothorax", "absent")}
    assert has_report(catalogue)
    assert take(told(status=ReportStatus.CANCELLED, minute=5)) is Received.WITHDRAWN
    assert texts(catalogue) == [] and concepts(catalogue) == set() and not has_report(catalogue)
    assert list(catalogue.reports.reported_studies()) == []


def test_a_text_said_again_later_is_not_replaced_by_what_was_said_between(catalogue: Catalogue) -> None:
    add(catalogue, header())
    take = catalogue.report_versions.receive
    take(told("Right.", minute=1))
    assert take(told("Right.", minute=9)) is Received.SAME
    assert take(told("Overtaken.", ReportStatus.AMENDED, 5)) is Received.LATE
    assert texts(catalogue) == ["Right."]


def test_a_withdrawn_text_goes_whoever_brought_it(catalogue: Catalogue) -> None:
    add(catalogue, header())
    catalogue.reports.add(STUDY, body="Large pneumothorax.", source="sr", sop_uid="2.25.1.99.1")
    catalogue.report_versions.receive(told("Large pneumothorax.", minute=1))
    catalogue.report_versions.receive(told("No pneumothorax.", ReportStatus.AMENDED, 2))
    assert texts(catalogue) == ["No pneumothorax."]


def test_an_addendum_that_is_withdrawn_no_longer_contradicts(catalogue: Catalogue) -> None:
    add(catalogue, header())
    catalogue.report_versions.receive(told("Large pneumothorax.", minute=1))
    addendum = told("ADDENDUM: No pneumothorax.", ReportStatus.ADDENDUM, 2, document="F2")
    catalogue.report_versions.receive(addendum)
    mine_all(catalogue)
    assert ("pneumothorax", "present", "historical") in concepts(catalogue)
    catalogue.report_versions.receive(told(status=ReportStatus.IN_ERROR, minute=3, document="F2"))
    assert mine_all(catalogue) == 1
    assert {certainty for _, _, certainty in concepts(catalogue)} == {"certain"}


def test_a_job_does_not_bring_back_what_another_settled(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    add(catalogue, header())
    first = catalogue.reports.add(STUDY, body="Large pneumothorax.", source="sr", sop_uid="2.25.1.99.1")
    slow = claimed(catalogue, JobKind.REPORT, f"report/{first}")

    def meanwhile(text: str, *rest: Any) -> Any:
        """While the first is read, an addendum comes and is mined to its end."""
        monkeypatch.setattr(radir_workers.mine_report, "mine", mine)
        added = catalogue.reports.add(STUDY, body="ADDENDUM: No pneumothorax.", source="sr", sop_uid="2.25.1.99.2")
        MineReport(catalogue)(claimed(catalogue, JobKind.REPORT, f"report/{added}"))
        return mine(text, *rest)

    monkeypatch.setattr(radir_workers.mine_report, "mine", meanwhile)
    MineReport(catalogue)(slow)
    assert ("pneumothorax", "present", "historical") in concepts(catalogue)
    assert ("pneumothorax", "present", "certain") not in concepts(catalogue)


def test_a_job_reads_its_own_report_only(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    add(catalogue, header())
    bodies = [f"Nodule of {number} mm." for number in range(4, 12)]
    ids = [catalogue.reports.add(STUDY, body=body, source="csv") for body in bodies]
    read: list[str] = []

    def counted(text: str, *rest: Any) -> Any:
        read.append(text)
        return mine(text, *rest)

    monkeypatch.setattr(radir_workers.mine_report, "mine", counted)
    for report_id in ids:
        MineReport(catalogue)(claimed(catalogue, JobKind.REPORT, f"report/{report_id}"))
    assert read == bodies


def test_a_corrected_document_without_text_leaves_no_report(catalogue: Catalogue) -> None:
    add(catalogue, header())
    text = {"0040A040": {"vr": "CS", "Value": ["TEXT"]}, "0040A160": {"vr": "UT", "Value": ["Pneumothorax."]}}
    before = report_header(attributes={"0040A730": {"vr": "SQ", "Value": [text]}})
    add(catalogue, before)
    MineReport(catalogue)(claimed(catalogue, JobKind.REPORT, before.sop_uid))
    assert has_report(catalogue)
    after = report_header(attributes={})
    catalogue.corrections.apply(
        after,
        before,
        changed=["ContentSequence"],
        replaces_sha256=catalogue.instances.get(before.sop_uid).content_sha256,
        content_sha256="0" * 64,
        size_bytes=1,
        source="TEST",
        reopens=False,
    )
    MineReport(catalogue)(claimed(catalogue, JobKind.REPORT, before.sop_uid))
    assert texts(catalogue) == [] and not has_report(catalogue)


# -- Waiting --


@pytest.mark.parametrize(
    ("named", "joins"),
    [
        ({"study_uid": STUDY}, True),
        ({"study_uid": None, "numbers": ("A1",), "patient_keys": ("HOSP\\p1",)}, True),
        ({"study_uid": None, "numbers": ("nothing", "A1"), "patient_keys": ("\\p1",)}, True),
        ({"study_uid": "2.25.404", "numbers": ("A1",), "patient_keys": ("\\p9", "\\p1")}, True),
        ({"study_uid": None, "numbers": ("A1",), "patient_keys": ("\\p2",)}, False),
        ({"study_uid": None, "numbers": ("A1",), "patient_keys": ("OTHER\\p1",)}, False),
        ({"study_uid": None, "numbers": ("A2",), "patient_keys": ("\\p1",)}, False),
    ],
)
@pytest.mark.parametrize("study_first", [True, False])
def test_a_report_and_its_study_find_each_other(
    catalogue: Catalogue, named: dict[str, Any], joins: bool, study_first: bool
) -> None:
    study = header(accession_number="A1", patient_key="HOSP\\p1", patient_id="p1")
    if study_first:
        add(catalogue, study)
    received = catalogue.report_versions.receive(told("Clear.", **named))
    assert (received is Received.NEW) == (joins and study_first)
    add(catalogue, study if not study_first else header(number=2, accession_number="A1", patient_key="HOSP\\p1"))
    assert catalogue.report_versions.join_wanted() == (joins and not study_first)
    assert texts(catalogue) == (["Clear."] if joins else [])
    assert catalogue.overview().waiting_reports == (not joins)
    assert catalogue.report_versions.join_wanted() == 0


def test_all_versions_join_and_the_right_one_holds(catalogue: Catalogue) -> None:
    take = catalogue.report_versions.receive
    nameless = {"study_uid": None}
    take(told("First.", ReportStatus.PRELIMINARY, 1, **nameless))
    take(told("Right.", ReportStatus.FINAL, 2))
    take(told("Late.", ReportStatus.PRELIMINARY, 3, **nameless))
    add(catalogue, header())
    assert catalogue.report_versions.join_wanted() == 1
    assert texts(catalogue) == ["Right."]
    assert take(told("Corrected.", ReportStatus.AMENDED, 4, **nameless)) is Received.REPLACED, "its document is known"


def test_a_number_of_two_studies_waits(catalogue: Catalogue) -> None:
    for study in (1, 2):
        add(catalogue, header(study, accession_number="A1", patient_key="\\p1"))
    named: dict[str, Any] = {"study_uid": None, "numbers": ("A1",), "patient_keys": ("\\p1",)}
    assert catalogue.report_versions.receive(told("Clear.", **named)) is Received.WAITING
    assert catalogue.report_versions.receive(told("Clear.", document="F2", study_uid="2.25.2")) is Received.NEW


def test_an_order_leads_a_report_to_its_study(catalogue: Catalogue) -> None:
    named: dict[str, Any] = {"study_uid": None, "numbers": ("ORDER7",), "patient_keys": ("\\p1",)}
    add(catalogue, header(patient_key="\\p1"))
    assert catalogue.report_versions.receive(told("Clear.", **named)) is Received.WAITING
    link = OrderLink(numbers=("ORDER7", "A1"), study_uid=STUDY)
    order = Message(sender="RIS", control_id="1", kind="OMI^O23", body=b"order")
    assert catalogue.messages.take(order, [link], Verdict()).outcome is Outcome.STORED
    assert catalogue.report_versions.join_wanted() == 1
    assert texts(catalogue) == ["Clear."]


def test_a_report_and_a_study_in_the_same_moment_are_found_later(catalogue: Catalogue) -> None:
    """Neither transaction sees the other: the study's trigger runs before the report is committed."""
    study_stored, report_stored = threading.Event(), threading.Event()

    def store_study() -> None:
        with catalogue._database.transaction() as connection:
            connection.execute("INSERT INTO study (study_uid) VALUES (%s)", [STUDY])
            study_stored.set()
            assert report_stored.wait(30)

    thread = threading.Thread(target=store_study)
    thread.start()
    assert study_stored.wait(30)
    assert catalogue.report_versions.receive(told("Clear.")) is Received.WAITING
    report_stored.set()
    thread.join(30)
    assert catalogue.report_versions.join_wanted() == 0
    assert catalogue.report_versions.look_again() == 1
    assert catalogue.report_versions.join_wanted() == 1
    assert texts(catalogue) == ["Clear."]


def test_what_waited_too_long_is_forgotten_and_a_deleted_study_takes_its_versions(catalogue: Catalogue) -> None:
    add(catalogue, header())
    catalogue.report_versions.receive(told("Clear."))
    catalogue.report_versions.receive(told("Whose?", document="F2", study_uid="2.25.404"))
    assert [report.named_study_uid for report in catalogue.report_versions.waiting()] == ["2.25.404"]
    assert catalogue.report_versions.prune(3600) == 0
    catalogue.studies.delete(STUDY)
    assert catalogue.report_versions.prune(0) == 1
    assert catalogue.overview().waiting_reports == 0


# -- Patients --


def excluded(catalogue: Catalogue) -> set[str]:
    """The studies that a search from STUDY leaves out as the same patient's."""
    whose = owners(catalogue, catalogue.questions.ask(STUDY, Filters(), cases={}, partitions={}).excluded)
    return {owner.study.study_uid for owner in whose.values()}


@pytest.fixture
def three(catalogue: Catalogue) -> None:
    register(catalogue)
    for study in (1, 2, 3):
        encoded(catalogue, study, patient_key=f"\\p{study}", patient_name=f"Name^{study}")


def shown(catalogue: Catalogue, study: int) -> tuple[str | None, str | None]:
    found = catalogue.studies.get(f"2.25.{study}")
    return found.patient_id, found.patient_name


def merge(prior: int, into: int, **said: Any) -> PatientMerge:
    return PatientMerge(pairs=((f"\\p{prior}", f"\\p{into}"),), **said)


def test_a_merge_moves_studies_and_is_undone(catalogue: Catalogue, three: None) -> None:
    assert excluded(catalogue) == {"2.25.1"}
    catalogue.patients.merge(merge(1, 2, says=Demographics(name="Name^2")))
    catalogue.patients.merge(merge(1, 2))
    assert excluded(catalogue) == {"2.25.1", "2.25.2"}
    assert shown(catalogue, 1) == ("p2", "Name^2")
    catalogue.patients.merge(merge(2, 3))
    assert excluded(catalogue) == {"2.25.1", "2.25.2", "2.25.3"}
    assert shown(catalogue, 1)[0] == shown(catalogue, 2)[0] == "p3"
    catalogue.patients.merge(merge(1, 2, undone=True))
    assert excluded(catalogue) == {"2.25.1"}
    assert shown(catalogue, 1) == ("p1", "Name^1") and shown(catalogue, 2)[0] == "p3"
    catalogue.patients.merge(merge(2, 3, undone=True))
    assert shown(catalogue, 2) == ("p2", "Name^2")


def test_images_under_an_old_id_follow_and_go_back(catalogue: Catalogue, three: None) -> None:
    catalogue.patients.merge(merge(4, 1))
    encoded(catalogue, 4, patient_key="\\p4")
    assert excluded(catalogue) == {"2.25.1", "2.25.4"} and shown(catalogue, 4)[0] == "p1"
    add(catalogue, header(4, number=2, patient_key="\\p4"))
    assert excluded(catalogue) == {"2.25.1", "2.25.4"}
    catalogue.patients.merge(merge(4, 1, undone=True))
    assert excluded(catalogue) == {"2.25.1"} and shown(catalogue, 4)[0] == "p4"


def test_merges_in_a_circle_end(catalogue: Catalogue, three: None) -> None:
    for prior, into in ((1, 2), (2, 3), (3, 1), (1, 3)):
        catalogue.patients.merge(merge(prior, into))
    assert excluded(catalogue) == {"2.25.1", "2.25.2", "2.25.3"}


def test_a_report_under_a_merged_id_finds_its_study(catalogue: Catalogue) -> None:
    add(catalogue, header(accession_number="A1", patient_key="\\p2"))
    named: dict[str, Any] = {"study_uid": None, "numbers": ("A1",), "patient_keys": ("\\p1",)}
    assert catalogue.report_versions.receive(told("Clear.", **named)) is Received.WAITING
    catalogue.patients.merge(merge(1, 2))
    assert catalogue.report_versions.receive(told("Corrected.", ReportStatus.AMENDED, 1, **named)) is Received.NEW
    assert texts(catalogue) == ["Corrected."]


def test_an_update_renames(catalogue: Catalogue, three: None) -> None:
    catalogue.patients.update(PatientUpdate(keys=("\\p1",), says=Demographics(name="Müller^Änne", sex="F")))
    assert shown(catalogue, 1) == ("p1", "Müller^Änne") and shown(catalogue, 2) == ("p2", "Name^2")


# -- Messages --


def test_a_message_counts_once(catalogue: Catalogue) -> None:
    add(catalogue, header())
    message = Message(sender="RIS", control_id="7", kind="ORU^R01", body=b"one")
    assert catalogue.messages.take(message, [told("Clear.")], Verdict()).outcome is Outcome.STORED
    catalogue.report_versions.receive(told(status=ReportStatus.CANCELLED, minute=1))
    again = catalogue.messages.take(message, [told("Clear.", minute=9)], Verdict())
    assert again.again and again.outcome is Outcome.STORED
    assert texts(catalogue) == [], "a resend changes nothing"
    kept = Message(sender="RIS", control_id="8", kind="ORU^R01", body=b"broken")
    verdict = Verdict(answer="AE", reason="no text", error_code="101", error_at="OBX^1^5")
    assert catalogue.messages.take(kept, [], verdict).outcome is Outcome.KEPT
    assert catalogue.messages.take(kept, [], verdict).verdict == verdict
    [row] = catalogue.messages.kept()
    assert (row.control_id, row.reason, row.times) == ("8", "no text", 2)
    assert catalogue.messages.body(row.id) == b"broken"
    assert catalogue.overview().messages == {Outcome.STORED: 1, Outcome.KEPT: 1}
    assert catalogue.messages.prune(answered_s=3600, kept_s=3600) == 0
    assert catalogue.messages.drop(row.id) == 1
    assert catalogue.messages.prune(answered_s=0, kept_s=3600) == 1


def test_versions_of_a_study_at_once_leave_one(catalogue: Catalogue) -> None:
    add(catalogue, header())
    versions = [told(f"Version {number}.", minute=number) for number in range(12)]
    threads = [threading.Thread(target=catalogue.report_versions.receive, args=(version,)) for version in versions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert texts(catalogue) == ["Version 11."]


def test_a_table_replaces_within_its_study_only(catalogue: Catalogue) -> None:
    for study in (1, 2):
        add(catalogue, header(study))
        receive(catalogue, f"2.25.{study}", "Clear.")
    assert receive(catalogue, "2.25.2", "Nodule.") is Received.REPLACED
    assert (texts(catalogue), texts(catalogue, "2.25.2")) == (["Clear."], ["Nodule."])
