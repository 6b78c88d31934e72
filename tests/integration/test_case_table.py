"""Filters as masks: what the table of cases lets through is what the catalogue says now, whatever changed when."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any

import numpy as np
import pytest

from radir_pacs.catalogue import Catalogue
from radir_pacs.query import case_table as module
from radir_pacs.query.case_table import CaseTable
from radir_pacs.reports import affirming_path
from radir_pacs.similar_cases import Filters, Match
from radir_pacs.types import ImageKind
from tests.catalogue_material import MODEL, add, encoded, encoding, header, register

CASES: dict[int, dict[str, Any]] = {
    1: {"patient_sex": "F", "patient_age_years": 0.5, "study_date": date(2020, 1, 1), "body_part": "CHEST"},
    2: {"patient_sex": "M", "patient_age_years": 60.0, "study_date": date(2021, 1, 1), "modality": "CR"},
    3: {"patient_key": "|p2"},
    4: {"patient_key": ""},
    5: {"patient_key": ""},
}
EVERY = set(CASES)


def key(tag: str, vr: str, value: str, **more: Any) -> Filters:
    return Filters(keys=(Match(path=(tag,), vr=vr, values=(value,)),), **more)


def scanner(maker: str, model: str) -> dict[str, Any]:
    return {"00080070": {"vr": "LO", "Value": [maker]}, "00081090": {"vr": "LO", "Value": [model]}}


def news(catalogue: Catalogue, table: CaseTable) -> None:
    """What a question brings: everything that changed since the table's last reading."""
    question = catalogue.questions.ask("2.25.1", Filters(), cases={MODEL: table.since}, partitions={})
    table.take(question.cases[MODEL])


class Archive:
    """Studies by label, and what a table lets through, as numbers of studies."""

    def __init__(self, catalogue: Catalogue) -> None:
        register(catalogue)
        self.catalogue = catalogue
        self.labels = {encoded(catalogue, study, **changes): study for study, changes in CASES.items()}
        self.table = CaseTable(MODEL, catalogue)
        self.table.take(catalogue.cases.all(MODEL))

    def passing(self, filters: Filters, said: str | None = None, query: int = 1) -> set[int] | None:
        like = next(label for label, study in self.labels.items() if study == query)
        allowed = self.table.allowed(filters, like=like, said=said)
        if allowed is None:
            return None
        return {self.labels[int(row) + allowed.base] for row in np.flatnonzero(allowed.mask)}


@pytest.fixture
def archive(catalogue: Catalogue) -> Archive:
    return Archive(catalogue)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (Filters(), None),
        (Filters(modalities=frozenset({"CR"})), {2}),
        (Filters(modalities=frozenset({"CR", "DX"})), EVERY),
        (Filters(sexes=frozenset({"F", "O"})), {1}),
        (Filters(sexes=frozenset({"O"})), set()),
        (Filters(age_to=0.0), set()),
        (Filters(age_from=0.0), {1, 2}),
        (Filters(age_from=1, age_to=60), {2}),
        (Filters(study_date_from=date(2020, 6, 1)), {2}),
        (Filters(study_date_to=date(2020, 6, 1)), {1}),
        (Filters(study_date_from=date(2020, 1, 1), study_date_to=date(2020, 1, 1)), {1}),
        (Filters(body_part="chest"), {1}),
        (Filters(with_report=True), set()),
        (Filters(same_scanner=True), set()),  # nobody says what a scanner was
        (key("00100020", "LO", "p2"), {2}),
        (key("00100020", "LO", "p*"), EVERY),
        (key("00100020", "LO", "p*", sexes=frozenset({"M"})), {2}),
    ],
)
def test_filters_let_through(archive: Archive, filters: Filters, expected: set[int] | None) -> None:
    assert archive.passing(filters) == expected


@pytest.mark.parametrize(
    ("change", "filters", "before", "after"),
    [
        (
            lambda catalogue: add(catalogue, header(3, 2, patient_sex="F", modality="CR")),
            Filters(modalities=frozenset({"CR"})),
            {2},
            {2, 3},
        ),
        (
            lambda catalogue: catalogue.reports.add("2.25.3", body="normal", source="csv"),
            Filters(with_report=True),
            set(),
            {3},
        ),
        (lambda catalogue: catalogue.studies.delete("2.25.2"), Filters(age_from=0.0), {1, 2}, {1}),
        (lambda catalogue: catalogue.studies.delete("2.25.2"), key("00100020", "LO", "p*"), EVERY, EVERY - {2}),
        (
            lambda catalogue: add(catalogue, header(4, 2, study_description="Thorax")),
            key("00081030", "LO", "Tho*"),
            set(),
            {4},
        ),
    ],
)
def test_what_changed_counts_from_the_next_question_on(
    archive: Archive, change: Callable[[Catalogue], object], filters: Filters, before: set[int], after: set[int]
) -> None:
    assert archive.passing(filters) == before
    change(archive.catalogue)
    news(archive.catalogue, archive.table)
    assert archive.passing(filters) == after
    fresh = CaseTable(MODEL, archive.catalogue)
    fresh.take(archive.catalogue.cases.all(MODEL))
    archive.table = fresh
    assert archive.passing(filters) == after, "as for a process that starts now"


def test_a_study_encoded_later_is_filtered_as_those_before(archive: Archive) -> None:
    wanted = key("00100020", "LO", "p*", sexes=frozenset({"O"}))
    assert archive.passing(wanted) == set()
    archive.labels[encoded(archive.catalogue, 6, patient_sex="O")] = 6  # a word that the table has not met
    assert archive.passing(wanted) == set(), "not asked yet"
    news(archive.catalogue, archive.table)
    assert archive.passing(wanted) == {6}


def test_findings_follow_the_reports(archive: Archive) -> None:
    said = affirming_path("pneumothorax", "chest")
    assert archive.passing(Filters(), said) == set()
    finding = {
        "concept": "pneumothorax",
        "polarity": "present",
        "kind": "finding",
        "certainty": "certain",
        "regions": ["left_pleura"],
    }
    report_id = archive.catalogue.reports.add("2.25.4", body="Left pneumothorax.", source="csv")
    news(archive.catalogue, archive.table)
    assert archive.passing(Filters(), said) == set()
    archive.catalogue.reports.save_findings(report_id, [finding], "en-test")
    news(archive.catalogue, archive.table)
    assert archive.passing(Filters(), said) == {4}
    archive.catalogue.reports.save_findings(report_id, [], "en-test")
    news(archive.catalogue, archive.table)
    assert archive.passing(Filters(), said) == set()


def test_what_reports_say_is_read_only_where_it_is_explained(archive: Archive) -> None:
    report_id = archive.catalogue.reports.add("2.25.4", body="Left pneumothorax.", source="csv")
    archive.catalogue.reports.save_findings(report_id, [], "en-test")
    questions, labels = archive.catalogue.questions, list(archive.labels)
    owners, said = questions.shown(labels, "2.25.1", Filters(), caller=None)
    assert set(said) == {"2.25.4"}
    assert questions.shown(labels, "2.25.1", Filters(), caller=None, explained=False) == (owners, {})


def test_the_scanner_is_that_of_the_encoded_picture(catalogue: Catalogue) -> None:
    register(catalogue)
    makers = {1: ("Acme", "X1"), 2: ("Acme", "X1"), 3: ("Acme", "X2"), 4: ("Other", "X1")}
    labels = {}
    for study, names in makers.items():
        labels[encoded(catalogue, study, attributes=scanner(*names))] = study
    table = CaseTable(MODEL, catalogue)
    table.take(catalogue.cases.all(MODEL))
    allowed = table.allowed(Filters(same_scanner=True), like=min(labels))
    assert allowed is not None
    assert {labels[int(row) + allowed.base] for row in np.flatnonzero(allowed.mask)} == {1, 2}


def test_earlier_labels_that_come_late_find_room(catalogue: Catalogue) -> None:
    """A transaction that took its number early may commit after later ones."""
    register(catalogue)
    for study in range(1, 9):
        encoded(catalogue, study, patient_sex="FM"[study % 2])
    rows = catalogue.cases.all(MODEL).rows
    table = CaseTable(MODEL, catalogue)
    late, early = catalogue.cases.all(MODEL), catalogue.cases.all(MODEL)
    for changes, part in ((late, rows[4:]), (early, rows[:4])):
        table.take(type(changes)(rows=part, gone=changes.gone, xid=changes.xid))
    allowed = table.allowed(Filters(sexes=frozenset({"F"})), like=-1)
    assert allowed is not None
    assert (np.flatnonzero(allowed.mask) + allowed.base).tolist() == rows["id"][1::2].tolist()


def test_another_models_encodings_are_not_in_the_table(archive: Archive) -> None:
    register(archive.catalogue, "ct-test-0", ImageKind.CT)
    archive.catalogue.encodings.save(encoding(2, 2, "ct-test-0"), revision=1)
    news(archive.catalogue, archive.table)
    assert archive.passing(key("00100020", "LO", "p2")) == set(), "its encoding under the first model went"


def test_an_answer_asked_for_while_cases_changed_is_not_taken_for_a_later_one(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database answers as of its own snapshot; what came meanwhile is asked about at the next question."""
    wanted = key("00100020", "LO", "p*")
    really = archive.catalogue.cases.matching

    def slow(*arguments: Any) -> Any:
        found = really(*arguments)
        monkeypatch.setattr(archive.catalogue.cases, "matching", really)
        archive.labels[encoded(archive.catalogue, 6)] = 6
        news(archive.catalogue, archive.table)
        return found

    monkeypatch.setattr(archive.catalogue.cases, "matching", slow)
    archive.passing(wanted)
    assert archive.passing(wanted) == EVERY | {6}


def test_an_older_reading_that_comes_late_changes_nothing_back(archive: Archive) -> None:
    older = archive.catalogue.cases.news(MODEL, "0")
    assert older is not None
    archive.catalogue.reports.add("2.25.3", body="normal", source="csv")
    news(archive.catalogue, archive.table)
    assert archive.passing(Filters(with_report=True)) == {3}
    archive.table.take(older)
    assert archive.passing(Filters(with_report=True)) == {3}


def test_a_word_learned_after_the_filter_judged_passes_nothing(archive: Archive) -> None:
    archive.table._conditions(Filters(sexes=frozenset({"M"})), like=-1)
    [(column, passes)] = archive.table._conditions(Filters(modalities=frozenset({"CR"})), like=-1)
    archive.labels[encoded(archive.catalogue, 6, modality="MG")] = 6
    news(archive.catalogue, archive.table)
    rows = np.flatnonzero(passes(archive.table._columns[column])) + archive.table._base
    assert {archive.labels[int(row)] for row in rows if int(row) in archive.labels} == {2}


def test_more_changes_than_are_remembered_are_asked_about_in_full(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST_ASKED_AGAIN", 1)
    wanted = key("00100020", "LO", "p*")
    assert archive.passing(wanted) == EVERY
    for study in (6, 7, 8):
        archive.labels[encoded(archive.catalogue, study)] = study
        news(archive.catalogue, archive.table)
    assert archive.passing(wanted) == EVERY | {6, 7, 8}
    assert len(archive.table._changed) <= 1


def test_more_news_than_rows_one_by_one_are_read_packed(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cases", "questions"):
        monkeypatch.setattr(f"radir_pacs.catalogue.{name}.MOST_NEWS", 2)
    since = archive.table.since
    for study in (6, 7, 8):
        encoded(archive.catalogue, study)
    question = archive.catalogue.questions.ask("2.25.1", Filters(), cases={MODEL: since}, partitions={})
    assert question.cases == {} and archive.catalogue.cases.news(MODEL, since) is None


@pytest.mark.parametrize(
    ("query", "filters", "expected"),
    [
        (2, Filters(), {2, 3}),
        (2, Filters(exclude_same_patient=False), {2}),
        (4, Filters(), {4}),  # an unknown patient is nobody's twin
        (1, Filters(exclude_studies=frozenset({"2.25.5"})), {1, 5}),
    ],
)
def test_the_query_and_its_patient_never_answer(
    archive: Archive, query: int, filters: Filters, expected: set[int]
) -> None:
    """Known with the question, and seen again before a hit is shown: an encoding may have come in between."""
    questions, uid = archive.catalogue.questions, f"2.25.{query}"
    excluded = questions.ask(uid, filters, cases={}, partitions={}).excluded
    assert {archive.labels[i] for i in excluded.tolist()} == expected
    assert excluded.dtype == np.int64 and np.all(np.diff(excluded) > 0)
    shown, _ = questions.shown(list(archive.labels), uid, filters, caller=None)
    assert {archive.labels[i] for i in shown} == EVERY - expected
