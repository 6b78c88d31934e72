"""Scopes and withheld patients in the catalogue: each place that applies the rules says the same; the commands."""

from __future__ import annotations

import json
import threading
from datetime import date
from typing import Any

import pytest

from radir_pacs.catalogue import Catalogue
from radir_pacs.catalogue.database import run
from radir_pacs.catalogue.qido import QidoLevel, QidoQuery
from radir_pacs.cli import main
from radir_pacs.index import Allowed
from radir_pacs.query.case_table import CaseTable
from radir_pacs.scopes import Scope, Withheld
from radir_pacs.similar_cases import Filters
from tests.catalogue_material import MODEL, REGIONS, TESTER, add, encoding, header, receive, register
from tests.integration.test_tokens import command  # noqa: F401  (a fixture)


def test_a_merged_patient_stays_withheld(catalogue: Catalogue) -> None:
    for number, key in ((1, "A\\1"), (2, "A\\2")):
        add(catalogue, header(number, patient_key=key, patient_id=key[2:], patient_keys=(key,)))
    catalogue.withheld.add("A\\1", Withheld.FROM_ALL, by=TESTER)
    assert [catalogue.studies.get(f"2.25.{n}").withheld for n in (1, 2)] == [2, 0]
    with catalogue.withheld._database.transaction() as connection:
        connection.execute("INSERT INTO patient_link (prior_key, key) VALUES (%s, %s)", ["A\\1", "A\\2"])
    assert [catalogue.studies.get(f"2.25.{n}").withheld for n in (1, 2)] == [2, 2]


def test_a_study_that_is_being_received_is_withheld_too(catalogue: Catalogue) -> None:
    add(catalogue, header(1, patient_key="A\\1", patient_id="1", patient_keys=("A\\1",)))
    with catalogue.withheld._database.transaction() as connection:  # neither sees what the other has yet to commit
        connection.execute("INSERT INTO study (study_uid, patient_keys) VALUES ('2.25.2', %s)", [["A\\1"]])
        thread = threading.Thread(
            target=catalogue.withheld.add, args=("A\\1", Withheld.FROM_ALL), kwargs={"by": TESTER}
        )
        thread.start()
        thread.join()
    assert [catalogue.studies.get(f"2.25.{n}").withheld for n in (1, 2)] == [2, 0]
    assert catalogue.withheld.look_again() == 1 and catalogue.withheld.look_again() == 0
    assert catalogue.studies.get("2.25.2").withheld == 2


DEPARTMENTS = (("",), ("Radiology",), ("Radiology", "", "Orthopaedics"), ("Orthopaedics",))


def attributes(modality: str, department: str) -> dict[str, Any]:
    """As they are kept of an instance."""
    found = {"00080060": {"vr": "CS", "Value": [modality]}}
    return found | ({"00081040": {"vr": "LO", "Value": [department]}} if department else {})


SCOPES = [
    Scope(departments=frozenset({"Radiology"})),
    Scope(departments=frozenset({"Radiology", "Orthopaedics", "Nobody"})),
    Scope(departments=frozenset({"Orthopaedics"}), modalities=frozenset({"DX", "CT"})),
    Scope(departments=frozenset({"Radiology"}), opened=frozenset({"2.25.4", "2.25.8"})),
    Scope(),
    Scope(sites=frozenset({"A"})),
    Scope(sites=frozenset({"A", "B"})),
    Scope(modalities=frozenset({"DX"})),
    Scope(modalities=frozenset({"DX", "CT"}), sites=frozenset({"B"})),
    Scope(since=date(2024, 5, 1)),
    Scope(until=date(2024, 5, 1)),
    Scope(since=date(2024, 5, 1), until=date(2024, 5, 1)),
    Scope(sees=Withheld.FROM_RESEARCH),
    Scope(sees=Withheld.FROM_NOBODY, sites=frozenset({"A", "B", "TEST"})),
    Scope(sites=frozenset({"A"}), opened=frozenset({"2.25.40", "2.25.41", "2.25.999"})),
    Scope(sees=Withheld.FROM_RESEARCH, since=date(2024, 5, 1), opened=frozenset({"2.25.2", "2.25.5"})),
]


def test_all_three_rules_say_the_same(catalogue: Catalogue, settings: Any) -> None:
    """`Scope.admits`, the columns in memory, `is_in_scope` and QIDO, over studies of every kind."""
    register(catalogue)
    number = 0
    for sites in ((None,), ("A",), ("B",), ("A", "B")):
        for modalities in (("DX",), ("CT", "DX"), ("DX", "SR"), ("SR",)):
            for day in (None, date(2024, 5, 1), date(2024, 4, 30), date(2025, 1, 1)):
                number += 1
                named = DEPARTMENTS[number % len(DEPARTMENTS)]
                for at, (site, modality) in enumerate((s, m) for s in sites for m in modalities):
                    one = header(
                        number,
                        at + 1,
                        study_date=day,
                        modality=modality,
                        patient_key=f"\\p{number}",
                        patient_keys=(f"\\p{number}",),
                        attributes=attributes(modality, named[at % len(named)]),
                    )
                    catalogue.instances.add(
                        one, content_sha256=f"{number:060}{at:04}", size_bytes=1, source="TEST", site=site
                    )
                if number % 3:
                    catalogue.withheld.add(f"\\p{number}", Withheld(number % 3), by=TESTER)
                revision = catalogue.studies.revision_of(f"2.25.{number}")[1]
                assert catalogue.encodings.save(encoding(number, seed=number), revision)
    studies = {uid: catalogue.studies.get(uid) for uid in catalogue.studies.uids()}
    labels = {row: catalogue_label(catalogue, row) for row in studies}
    table = CaseTable(MODEL, catalogue)
    table.take(catalogue.cases.all(MODEL))
    assert len(studies) == 64 and len(REGIONS) == 3
    for scope in SCOPES:
        expected = {uid for uid, study in studies.items() if scope.admits(study)}
        assert scope == Scope() or 0 < len(expected) < len(studies)
        assert catalogue.studies.in_scope(list(studies), scope) == expected, scope
        page = catalogue.qido.search(QidoQuery(level=QidoLevel.STUDY, limit=100, scope=scope))
        assert {row.study.study_uid for row in page.rows} == expected, scope
        mask = table.allowed(Filters(scope=scope), like=0)
        assert {uid for uid, label in labels.items() if passes(mask, label)} == expected, scope
        assert sum(catalogue.overview(scope).studies.values()) == len(expected), scope


def catalogue_label(catalogue: Catalogue, study_uid: str) -> int:
    with catalogue.withheld._database.transaction() as connection:
        row = connection.execute("SELECT id FROM encoding WHERE study_uid = %s", [study_uid]).fetchone()
    assert row is not None
    return int(row["id"])


def passes(allowed: Allowed | None, label: int) -> bool:
    return allowed is None or bool(allowed.mask[label - allowed.base])


def test_a_correction_from_elsewhere_counts_as_sent_from_there(catalogue: Catalogue) -> None:
    add(catalogue, header(1))
    assert catalogue.studies.get("2.25.1").sites == ("TEST",)
    catalogue.corrections.apply(
        header(1, patient_name="Corrected"),
        header(1),
        changed=["PatientName"],
        replaces_sha256=catalogue.instances.get("2.25.1.1.1").content_sha256,
        content_sha256="f" * 64,
        size_bytes=1,
        source="OTHER",
        site="OTHER",
        reopens=False,
    )
    assert catalogue.studies.get("2.25.1").sites == ("OTHER", "TEST")


def test_a_corrected_department_counts_and_the_one_before_does_not(catalogue: Catalogue) -> None:
    before, after = (
        header(1, attributes=attributes("DX", name), modality="DX") for name in ("Radiology", "Orthopaedics")
    )
    add(catalogue, before)
    assert catalogue.studies.get("2.25.1").departments == ("Radiology",)
    catalogue.corrections.apply(
        after,
        before,
        changed=["InstitutionalDepartmentName"],
        replaces_sha256=catalogue.instances.get("2.25.1.1.1").content_sha256,
        content_sha256="f" * 64,
        size_bytes=1,
        source="TEST",
        site="TEST",
        reopens=False,
    )
    assert catalogue.studies.get("2.25.1").departments == ("Orthopaedics",)
    radiology = Scope(departments=frozenset({"Radiology"}))
    assert catalogue.studies.in_scope(["2.25.1"], radiology) == frozenset()


@pytest.mark.usefixtures("command")
def test_the_commands(catalogue: Catalogue, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setattr("radir_pacs.cli.withhold.must_run", lambda settings: None)
    made = [
        "tokens",
        "create",
        "N",
        "--role",
        "researcher",
        "--site",
        "North",
        "--department",
        "Radiology North",
        "--modality",
        "dx",
        "--since",
        "2024-01-01",
    ]
    assert main([*made, "--json"]) == 0
    (row,) = catalogue.access_tokens.all()
    assert row.scope == Scope(
        sites=frozenset({"North"}),
        departments=frozenset({"Radiology North"}),
        modalities=frozenset({"DX"}),
        since=date(2024, 1, 1),
    )
    for wrong in (
        ["--role", "administrator", "--site", "A"],
        ["--role", "researcher", "--names"],
        ["--role", "radiologist", "--department", "A\\B"],
        ["--role", "radiologist", "--department", "A, B"],
        ["--role", "radiologist", "--department", " "],
    ):
        assert main(["tokens", "create", "X", *wrong]) == 1
    assert main(["withhold", "add", "4711", "--from", "research", "--reason", "no consent"]) == 0
    capsys.readouterr()
    assert main(["withhold", "list", "--json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)
    assert listed["patient"] == "\\4711" and listed["withheld_from"] == "research" and listed["studies"] == 0
    assert main(["withhold", "remove", "4711"]) == 0 and catalogue.withheld.all() == ()
    assert main(["withhold", "remove", "4711"]) == 1


def test_withheld_patients_are_not_trained_on(catalogue: Catalogue) -> None:
    for number in (1, 2):
        key = f"\\{number}"
        add(catalogue, header(number, patient_key=key, patient_keys=(key,)))
        assert catalogue.studies.complete_now(f"2.25.{number}")
        receive(catalogue, f"2.25.{number}", "Clear lungs.")
    catalogue.withheld.add("\\1", Withheld.FROM_RESEARCH, by=TESTER)
    assert [study.study_uid for study in catalogue.reports.reported_studies()] == ["2.25.2"]
    assert [study.study_uid for study in catalogue.retraining.studies(MODEL)] == ["2.25.2"]


def test_looking_again_reads_only_what_lately_withheld_patients_have(catalogue: Catalogue) -> None:
    """Every few seconds, whatever a hospital's list of objections holds: with ten thousand it took ten seconds."""
    for number in range(1, 9):
        key = f"A\\{number}"
        add(catalogue, header(number, patient_key=key, patient_id=key[2:], patient_keys=(key,)))
        catalogue.withheld.add(key, Withheld.FROM_RESEARCH, by=TESTER)
    with catalogue.withheld._database.transaction() as connection:
        connection.execute("SET LOCAL track_functions = 'all'")
        connection.execute("SET LOCAL enable_seqscan = off")  # as the planner chooses with more studies than these
        connection.execute(
            "UPDATE withheld_patient SET at = now() - interval '2 hours' WHERE patient_key <> %s", ["A\\1"]
        )
        connection.execute("UPDATE study SET withheld = 0 WHERE study_uid IN ('2.25.1', '2.25.2')")

        def read(within_s: float | None) -> tuple[int, int, int]:
            """(studies withheld, rows of studies read, calls of the function that reads a patient's decision)."""
            counted = b"""SELECT coalesce((SELECT calls FROM pg_stat_xact_user_functions
                    WHERE funcname = 'degree_of_patient'), 0) AS calls,
                (SELECT idx_tup_fetch + seq_tup_read FROM pg_stat_xact_user_tables WHERE relname = 'study') AS read"""
            before = connection.execute(counted).fetchone()
            late = run(connection, "withhold_late", patient_keys=None, within_s=within_s).rowcount
            after = connection.execute(counted).fetchone()
            assert before is not None and after is not None
            return late, after["read"] - before["read"], after["calls"] - before["calls"]

        late, studies, calls = read(3600.0)
        assert late == 1 and studies < 8 and 0 < calls <= 4, "of the one patient alone"
        assert read(3600.0)[0] == 0
        late, _, calls = read(None)
        assert late == 1 and 0 < calls <= 4, "of late studies alone"
        assert read(None)[::2] == (0, 0)
