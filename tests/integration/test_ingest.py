"""The same input has one effect (P2); only new images re-open a study."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Any

import psycopg
import pytest

from radir_pacs.catalogue import Catalogue, Stored
from radir_pacs.config import Settings
from radir_pacs.errors import BadInput, Conflict, NotFound, StorageFailed
from radir_pacs.types import JobKind, StudyState
from tests.catalogue_material import add, encoded, encoding, header, register, report_header
from tests.integration.listening import wait_for


def test_an_instance_is_stored_once(catalogue: Catalogue) -> None:
    assert add(catalogue, header()) is Stored.STORED
    before = catalogue.studies.revision_of("2.25.1")
    assert add(catalogue, header()) is Stored.SAME
    assert catalogue.studies.revision_of("2.25.1") == before == (StudyState.RECEIVING, 1)
    assert catalogue.studies.get("2.25.1").instance_count == 1


def test_many_senders_of_one_instance_store_it_once(catalogue: Catalogue) -> None:
    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(lambda _: add(catalogue, header()), range(24)))
    assert outcomes.count(Stored.STORED) == 1
    assert catalogue.studies.revision_of("2.25.1")[1] == 1


def test_processes_that_store_one_study_at_once_agree(settings: Settings, catalogue: Catalogue) -> None:
    """Two groups, each with a connection of its own, on new series and the same instances."""
    with Catalogue.open(settings) as another, ThreadPoolExecutor(16) as pool:
        sent = [(one, series, number) for number in range(10) for series in range(3) for one in (catalogue, another)]
        outcomes = list(pool.map(lambda each: add(each[0], header(1, each[1], each[2] + 100 * each[1])), sent))
    assert (outcomes.count(Stored.STORED), outcomes.count(Stored.SAME)) == (30, 30)
    study = catalogue.studies.get("2.25.1")
    assert (study.series_count, study.instance_count, catalogue.studies.revision_of("2.25.1")[1]) == (3, 30, 30)


def test_a_study_that_is_locked_delays_only_its_own_instances(settings: Settings, catalogue: Catalogue) -> None:
    add(catalogue, header())
    with psycopg.connect(catalogue.conninfo) as elsewhere, ThreadPoolExecutor(4) as pool:
        elsewhere.execute("SELECT FROM study WHERE study_uid = '2.25.1' FOR UPDATE")
        waiting = [pool.submit(add, catalogue, header(1, 1, number)) for number in (2, 3)]
        assert [add(catalogue, header(2, 1, number)) for number in (1, 2, 3)] == [Stored.STORED] * 3
        assert not any(one.done() for one in waiting)
        elsewhere.rollback()
        assert [one.result(20) for one in waiting] == [Stored.STORED] * 2


def test_nothing_is_committed_before_its_file_is_durable(catalogue: Catalogue) -> None:
    def not_durable() -> None:
        raise StorageFailed("the disk is full")

    given: dict[str, Any] = {"content_sha256": "0" * 64, "size_bytes": 1, "source": "TEST"}
    with pytest.raises(StorageFailed, match="disk is full"):
        catalogue.instances.add(header(), durable=not_durable, **given)
    with pytest.raises(NotFound):
        catalogue.studies.get("2.25.1")
    assert add(catalogue, header(2)) is Stored.STORED  # the connection that was given up is replaced


def test_many_senders_of_one_study_are_all_counted(catalogue: Catalogue) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: add(catalogue, header(1, n % 3, n)), range(40)))
    study = catalogue.studies.get("2.25.1")
    assert (study.series_count, study.instance_count, catalogue.studies.revision_of("2.25.1")[1]) == (3, 40, 40)


@pytest.mark.parametrize(
    "other",
    [
        {"content": "another"},
        {"study_uid": "2.25.7"},
        {"series_uid": "2.25.1.7"},
    ],
)
def test_the_same_uid_with_other_content_or_parent_is_a_conflict(catalogue: Catalogue, other: dict[str, Any]) -> None:
    add(catalogue, header())
    content = other.pop("content", "2.25.1.1.1")
    with pytest.raises(Conflict):
        add(catalogue, header(**other), content)
    assert catalogue.studies.get("2.25.1").instance_count == 1
    with pytest.raises(NotFound):
        catalogue.studies.get("2.25.7")


def test_a_series_cannot_belong_to_two_studies(catalogue: Catalogue) -> None:
    add(catalogue, header())
    with pytest.raises(Conflict):
        add(catalogue, header(2, series_uid="2.25.1.1"))
    with pytest.raises(NotFound):
        catalogue.studies.get("2.25.2")


def test_later_instances_fill_gaps_and_change_nothing_else(catalogue: Catalogue) -> None:
    add(catalogue, header(study_date=date(2020, 1, 2)))
    add(catalogue, header(number=2, study_date=date(2021, 1, 1), patient_sex="F", modality="CR"))
    study = catalogue.studies.get("2.25.1")
    assert (study.study_date, study.patient_sex, study.modalities) == (date(2020, 1, 2), "F", ("CR", "DX"))


def test_a_late_image_reopens_an_encoded_study(catalogue: Catalogue) -> None:
    register(catalogue)
    encoded(catalogue)
    assert catalogue.studies.mark_indexed() == ["2.25.1"]
    add(catalogue, header(number=2))
    assert catalogue.studies.revision_of("2.25.1") == (StudyState.RECEIVING, 2)
    assert len(catalogue.encodings.changes("cxr-test-0", "chest").ids) == 1, (
        "the old vectors answer until new ones come"
    )
    assert catalogue.studies.complete_quiet(0) == ["2.25.1"]
    assert not catalogue.encodings.save(encoding(seed=9), revision=1), "a result of the old revision is dropped"
    assert catalogue.encodings.save(encoding(seed=9), revision=2)
    assert catalogue.studies.get("2.25.1").state is StudyState.ENCODED


def test_a_late_image_lifts_a_quarantine(catalogue: Catalogue) -> None:
    add(catalogue, header())
    catalogue.studies.set_state("2.25.1", StudyState.QUARANTINED, "no pixels")
    assert catalogue.studies.get("2.25.1").reason == "no pixels"
    add(catalogue, header(number=2))
    study = catalogue.studies.get("2.25.1")
    assert (study.state, study.reason) == (StudyState.RECEIVING, None)


def test_a_report_joins_without_reopening(catalogue: Catalogue) -> None:
    register(catalogue)
    encoded(catalogue)
    add(catalogue, report_header())
    assert catalogue.studies.revision_of("2.25.1") == (StudyState.ENCODED, 1)
    kinds = {count.kind for count in catalogue.overview().jobs}
    assert kinds == {JobKind.ENCODE, JobKind.REPORT}


def test_our_own_objects_wake_nobody(catalogue: Catalogue) -> None:
    register(catalogue)
    encoded(catalogue)
    for own in (report_header(), header(number=2)):
        catalogue.instances.add(own, content_sha256="0" * 64, size_bytes=1, source="PACS", wakes=False)
    assert catalogue.studies.revision_of("2.25.1") == (StudyState.ENCODED, 1)
    assert {count.kind for count in catalogue.overview().jobs} == {JobKind.ENCODE}


@pytest.mark.parametrize(
    "hostile",
    [
        {"patient_name": "A\x00B"},
        {"study_description": "\ud800"},
        {"frames": 2**40},
        {"attributes": {"00100010": {"Value": ["\x00"]}}},
        {"attributes": {"00100010": {"Value": [float("nan")]}}},
    ],
)
def test_what_postgres_cannot_hold_is_bad_input(catalogue: Catalogue, hostile: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        add(catalogue, header(**hostile))
    with pytest.raises(NotFound):
        catalogue.studies.get("2.25.1")


def test_a_refusal_is_noted(catalogue: Catalogue) -> None:
    catalogue.refusals.add("2.25.9", "too deep", 0xC000, "PEER")
    catalogue.refusals.add(None, "no header", None, "PEER")
    assert catalogue.overview().refusals_last_day == 2


def test_another_instance_of_a_study_writes_no_index_of_studies(catalogue: Catalogue, database_url: str) -> None:
    """Else each slice of a CT would enter its study into every index anew (heap-only tuples, Postgres's README.HOT)."""
    for number in range(1, 41):
        add(catalogue, header(1, 1, number))
    counted = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'study'"
    with psycopg.connect(database_url, autocommit=True) as connection:

        def updates() -> tuple[int, int]:
            row = connection.execute(counted).fetchone()
            assert row is not None
            return row[0], row[1]

        wait_for(lambda: updates()[0] >= 39)  # a backend tells its figures when it rests
        every, heap_only = updates()
    assert heap_only >= 0.9 * every
