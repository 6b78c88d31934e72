"""Readers see every committed vector, including those committed late, and none that is gone."""

from __future__ import annotations

import contextlib
import time

import numpy as np
import psycopg
import pytest
from psycopg.pq import PipelineStatus

from radir_pacs.catalogue import Catalogue, bulk, cases, encodings
from radir_pacs.catalogue.database import POOL_WAIT_S
from radir_pacs.errors import NotFound
from radir_pacs.reasons import ReasonCode
from radir_pacs.similar_cases import Filters
from radir_pacs.types import ImageKind, StudyState, Urgency
from tests.catalogue_material import DIM, MODEL, REGIONS, add, claimed, encoded, encoding, header, register, serve_model

INSERT = """
INSERT INTO encoding (study_uid, series_uid, sop_uid, model_id, revision, regions, vectors)
VALUES ('2.25.{0}', '1', '1', %s, 1, %s, %s) RETURNING id
"""


def late(connection: psycopg.Connection, study: int) -> int:
    given = encoding(study, study)
    row = connection.execute(INSERT.format(study).encode(), [MODEL, list(REGIONS), given.vectors.tobytes()]).fetchone()
    assert row
    return int(row[0])


def test_a_transaction_that_commits_late_is_not_missed(catalogue: Catalogue, database_url: str) -> None:
    register(catalogue)
    add(catalogue, header(1))
    with psycopg.connect(database_url) as slow:
        first = late(slow, 1)
        second = encoded(catalogue, 2)
        assert second > first
        seen = catalogue.encodings.changes(MODEL, "chest")
        assert seen.ids.tolist() == [second]
        again = catalogue.encodings.changes(MODEL, "chest", seen.xid)
        assert first not in again.ids
        slow.commit()
    after = catalogue.encodings.changes(MODEL, "chest", again.xid)
    assert first in after.ids
    settled = catalogue.encodings.changes(MODEL, "chest", after.xid)
    assert settled.ids.tolist() == [], "once all transactions ended nothing is told twice"


def test_a_delete_that_commits_late_is_not_missed(catalogue: Catalogue, database_url: str) -> None:
    register(catalogue)
    first, second = encoded(catalogue, 1), encoded(catalogue, 2)
    with psycopg.connect(database_url) as slow:
        slow.execute("DELETE FROM study WHERE study_uid = '2.25.1'")
        catalogue.studies.delete("2.25.2")
        seen = catalogue.encodings.changes(MODEL, "chest")
        assert (seen.ids.tolist(), seen.gone.tolist()) == ([first], [second])
        slow.commit()
    after = catalogue.encodings.changes(MODEL, "chest", seen.xid)
    assert first in after.gone


def test_an_encoding_is_not_indexed_before_every_reader_sees_it(catalogue: Catalogue, database_url: str) -> None:
    register(catalogue)
    with psycopg.connect(database_url) as slow:
        slow.execute("INSERT INTO refusal (reason) VALUES ('holds the snapshot back')")
        encoded(catalogue, 1)
        assert catalogue.studies.mark_indexed() == []
        slow.commit()
    assert catalogue.studies.mark_indexed() == ["2.25.1"]


@pytest.mark.parametrize("connections", ["one", "two", "another reader has the second"])
@pytest.mark.parametrize("width", [1, 2, 7, 1000])
def test_any_number_of_ids_is_read_at_a_time(
    catalogue: Catalogue, width: int, connections: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one range is read, the server packs the next: none is missed, and those without a row are no end."""
    monkeypatch.setattr(bulk, "_LONG", 1 if connections != "one" else 1000)
    if connections == "another reader has the second":
        catalogue.encodings._halving.acquire()
    register(catalogue)
    ids = {study: encoded(catalogue, study) for study in range(1, 8)}
    catalogue.studies.delete("2.25.3")
    catalogue.studies.delete("2.25.4")
    left = [study for study in ids if study not in (3, 4)]
    monkeypatch.setattr(encodings, "_AT_ONCE_BYTES", 0)
    monkeypatch.setattr(encodings, "_FEWEST_IDS", width)
    changes = catalogue.encodings.changes(MODEL, REGIONS[0])
    assert changes.ids.tolist() == [ids[study] for study in left]
    np.testing.assert_array_equal(changes.vectors, np.stack([encoding(study, study).vectors[0] for study in left]))
    if connections == "two":
        assert catalogue.encodings._halving.acquire(blocking=False), "the second is free again"


def test_a_reader_is_not_kept_waiting_for_a_second_connection(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All others are in use, as when many regions open after a restart: one does."""
    monkeypatch.setattr(bulk, "_LONG", 1)
    monkeypatch.setattr(encodings, "_FEWEST_IDS", 1)
    monkeypatch.setattr(encodings, "_AT_ONCE_BYTES", 0)
    register(catalogue)
    ids = [encoded(catalogue, study) for study in range(1, 6)]
    database = catalogue.encodings._database
    with contextlib.ExitStack() as stack:
        for _ in range(database._connections - 1):
            stack.enter_context(database.transaction())
        began = time.monotonic()
        assert catalogue.encodings.changes(MODEL, REGIONS[0]).ids.tolist() == ids
        assert time.monotonic() - began < POOL_WAIT_S / 2
    with database.spare() as connection:
        assert connection is not None


def test_a_reader_that_fails_leaves_a_connection_whose_transactions_hold(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was read by a pipeline, which must end before anybody else takes the connection, though the error is held."""
    register(catalogue)
    encoded(catalogue, 1)
    encoded(catalogue, 2)
    monkeypatch.setattr(cases, "_RANGE", 1)
    monkeypatch.setattr(cases, "_PACKED", np.dtype("V7777"))
    database = catalogue.cases._database
    try:
        catalogue.cases.all(MODEL)
    except ValueError:  # the frames of the reader are alive in here
        for _ in range(8):
            with pytest.raises(ZeroDivisionError), database.transaction() as connection:
                assert connection.info.pipeline_status == PipelineStatus.OFF
                connection.execute("INSERT INTO refusal (reason) VALUES ('taken back')")
                raise ZeroDivisionError from None
        with database.transaction() as connection:
            assert connection.execute("SELECT FROM refusal WHERE reason = 'taken back'").fetchall() == []
    else:
        pytest.fail("the packed rows were read all the same")


def test_a_region_is_read_alone(catalogue: Catalogue) -> None:
    register(catalogue)
    encoded(catalogue, 1)
    given = encoding(1, 1)
    for row, region in enumerate(REGIONS):
        changes = catalogue.encodings.changes(MODEL, region)
        assert changes.vectors.dtype == np.float32
        np.testing.assert_array_equal(changes.vectors, given.vectors[row : row + 1])
    assert catalogue.encodings.changes(MODEL, "spleen").vectors.shape == (0, DIM)
    with pytest.raises(NotFound):
        catalogue.encodings.changes("nobody", "chest")


def test_encoding_again_replaces_under_a_new_id(catalogue: Catalogue) -> None:
    register(catalogue)
    old = encoded(catalogue, 1)
    catalogue.encodings.save(encoding(1, seed=7), revision=1)
    changes = catalogue.encodings.changes(MODEL, "chest")
    assert changes.gone.tolist() == [old]
    assert len(changes.ids) == 1 and changes.ids[0] > old
    found = catalogue.encodings.get("2.25.1", MODEL)
    assert found is not None and found.regions == REGIONS
    np.testing.assert_array_equal(found.vectors, encoding(1, seed=7).vectors)
    assert catalogue.encodings.get("2.25.1", "nobody") is None


def test_an_unknown_model_or_another_length_is_refused(catalogue: Catalogue) -> None:
    add(catalogue, header())
    with pytest.raises(NotFound):
        catalogue.encodings.save(encoding(), revision=1)
    serve_model(catalogue, MODEL, ImageKind.CXR, DIM + 1, {})
    with pytest.raises(ValueError, match="length"):
        catalogue.encodings.save(encoding(), revision=1)
    with pytest.raises(NotFound):
        catalogue.encodings.save(encoding(404), revision=1)


def test_a_model_that_begins_to_serve_gets_what_none_could_encode(catalogue: Catalogue) -> None:
    add(catalogue, header(3))
    catalogue.studies.complete_now("2.25.3")
    job = claimed(catalogue, key="2.25.3")
    catalogue.studies.set_state(
        "2.25.3", StudyState.SKIPPED, "said in any words", reason_code=ReasonCode.NO_MODEL, revision=1, job=job
    )
    register(catalogue)
    [job] = catalogue.jobs.claim_studies(9, "test")
    assert (job.key, job.urgency) == ("2.25.3", Urgency.ARCHIVE)
    assert catalogue.encodings.save(encoding(3), 1, job)
    assert catalogue.studies.get("2.25.3").state is StudyState.ENCODED


def test_a_question_outlives_a_server_that_was_started_again(catalogue: Catalogue, database_url: str) -> None:
    """The connections of the pool are dead, and nobody tries them first."""
    register(catalogue)
    label = encoded(catalogue)
    with psycopg.connect(database_url, autocommit=True) as connection:
        ended = connection.execute(
            "SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).fetchone()
    assert ended is not None and ended[0] >= 1
    [answering] = catalogue.questions.ask("2.25.1", Filters(), cases={}, partitions={}).answering
    assert answering.label == label


def test_a_question_about_nobody_leaves_the_connection_as_it_was(catalogue: Catalogue) -> None:
    register(catalogue)
    encoded(catalogue)
    for _ in range(3):
        with pytest.raises(NotFound):
            catalogue.questions.ask("2.25.404", Filters(), cases={}, partitions={})
    assert catalogue.questions.ask("2.25.1", Filters(), cases={}, partitions={}).answering
