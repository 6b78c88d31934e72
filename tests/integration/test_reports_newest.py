"""What holds about a study with amended, preliminary and added reports, in whatever order they arrive."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from radir_pacs.catalogue import Catalogue, Received, ReportStatus
from radir_pacs.reports import PARSER, affirming_path
from radir_pacs.reports.newest import only_adds
from radir_pacs.types import JobKind, JobState
from radir_workers.mine_report import MineReport
from tests.catalogue_material import add, claimed, header, mined_findings, report_header
from tests.catalogue_material import receive as receive_text
from tests.unit.test_reports_sr_text import Json, document, text

STUDY = "2.25.1"


def replacing(number: int) -> Json:
    reference = {"00081155": {"vr": "UI", "Value": [report_header(number=number).sop_uid]}}
    study = {"00081115": {"vr": "SQ", "Value": [{"00081199": {"vr": "SQ", "Value": [reference]}}]}}
    return {"0040A360": {"vr": "SQ", "Value": [study]}}


def sr(body: str, title: str = "Diagnostic imaging report", **further: Any) -> Json:
    return document(text("Findings", body), title=title) | further


def mine_sr(catalogue: Catalogue, number: int, attributes: Json) -> None:
    given = report_header(number=number, attributes=attributes)
    add(catalogue, given)
    job = claimed(catalogue, JobKind.REPORT, given.sop_uid)
    MineReport(catalogue)(job)
    ended = catalogue.jobs.get(job.id)
    assert ended is not None and ended.state is JobState.DONE


def receive(catalogue: Catalogue, body: str) -> Received:
    status = ReportStatus.ADDENDUM if only_adds(body) else ReportStatus.FINAL
    received = receive_text(catalogue, STUDY, body, status=status)
    report = catalogue.reports.of_study(STUDY)[-1]
    MineReport(catalogue)(claimed(catalogue, JobKind.REPORT, f"report/{report.id}"))
    return received


def affirmed(catalogue: Catalogue, concept: str) -> bool:
    """Whether the condition of a search with this finding is met."""
    with catalogue._database.transaction() as connection:
        found = connection.execute(
            "SELECT FROM report WHERE NOT superseded AND findings @? %s::text::jsonpath",
            [affirming_path(concept, "chest")],
        ).fetchall()
    return bool(found)


@pytest.mark.parametrize("order", list(permutations((1, 2, 3))))
def test_of_a_chain_of_amended_documents_the_last_holds(catalogue: Catalogue, order: tuple[int, ...]) -> None:
    add(catalogue, header())
    documents = {
        1: sr("Large right pneumothorax."),
        2: sr("Skin fold. No pneumothorax.") | replacing(1),
        3: sr("Left rib fracture. No pneumothorax.") | replacing(2),
    }
    for number in order:
        mine_sr(catalogue, number, documents[number])
    assert [report.sop_uid for report in catalogue.reports.of_study(STUDY)] == [report_header(number=3).sop_uid]
    assert not affirmed(catalogue, "pneumothorax") and affirmed(catalogue, "fracture")
    assert len(mined_findings(catalogue, STUDY)[STUDY]) == 1


def test_documents_that_replace_each_other_leave_one(catalogue: Catalogue) -> None:
    add(catalogue, header())
    mine_sr(catalogue, 1, sr("Pneumothorax.") | replacing(2))
    mine_sr(catalogue, 2, sr("No pneumothorax.") | replacing(1))
    assert catalogue.reports.of_study(STUDY)


def test_an_amended_document_may_return_to_an_earlier_wording(catalogue: Catalogue) -> None:
    add(catalogue, header())
    mine_sr(catalogue, 1, sr("Pneumothorax."))
    mine_sr(catalogue, 2, sr("No pneumothorax.") | replacing(1))
    mine_sr(catalogue, 3, sr("Pneumothorax.") | replacing(2))
    assert affirmed(catalogue, "pneumothorax")


@pytest.mark.parametrize("first", [1, 2])
def test_a_draft_steps_back(catalogue: Catalogue, first: int) -> None:
    add(catalogue, header())
    partial = {"0040A491": {"vr": "CS", "Value": ["PARTIAL"]}}
    documents = {1: sr("Pneumothorax.") | partial, 2: sr("No pneumothorax.")}
    for number in (first, 3 - first):
        mine_sr(catalogue, number, documents[number])
    assert not affirmed(catalogue, "pneumothorax")


@pytest.mark.parametrize("first", [1, 2])
def test_an_addendum_adds_and_is_believed(catalogue: Catalogue, first: int) -> None:
    add(catalogue, header())
    documents = {
        1: sr("Large right pneumothorax. Cardiomegaly."),
        2: sr("No pneumothorax; a skin fold.", title="Addendum Document") | replacing(1),
    }
    for number in (first, 3 - first):
        mine_sr(catalogue, number, documents[number])
    assert len(catalogue.reports.of_study(STUDY)) == 2
    assert affirmed(catalogue, "cardiomegaly") and not affirmed(catalogue, "pneumothorax")


def test_a_text_replaces_and_an_addendum_adds(catalogue: Catalogue) -> None:
    add(catalogue, header())
    assert receive(catalogue, "Right pneumothorax. Cardiomegaly.") is Received.NEW
    assert affirmed(catalogue, "pneumothorax")
    assert receive(catalogue, "ADDENDUM: No pneumothorax.") is Received.NEW
    assert affirmed(catalogue, "cardiomegaly") and not affirmed(catalogue, "pneumothorax")
    assert receive(catalogue, "Right pneumothorax.") is Received.REPLACED
    assert affirmed(catalogue, "pneumothorax") and not affirmed(catalogue, "cardiomegaly")


def test_a_language_that_is_not_read_is_said(catalogue: Catalogue) -> None:
    add(catalogue, header())
    receive(catalogue, "Pas de pneumothorax.")
    [report] = catalogue.reports.of_study(STUDY)
    assert (report.findings, report.unread_language) == ([], "fr")
    assert catalogue.overview().unread_reports == {"fr": 1}
    receive(catalogue, "No pneumothorax.")
    assert catalogue.overview().unread_reports == {}


def test_what_an_earlier_version_read_is_mined_again(catalogue: Catalogue) -> None:
    add(catalogue, header())
    kept = catalogue.reports.add(STUDY, body="Pneumothorax: None.", source="csv", findings=[], parser="en-1")
    assert catalogue.reports.mine_again(PARSER) == 1
    MineReport(catalogue)(claimed(catalogue, JobKind.REPORT, f"report/{kept}"))
    assert catalogue.reports.of_study(STUDY)[0].parser == PARSER
    assert catalogue.reports.mine_again(PARSER) == 0
