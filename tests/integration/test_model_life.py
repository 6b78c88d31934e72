"""The life of models in the catalogue: one serves, one may encode beside it, and the history says why."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import psycopg
import pytest

from radir_pacs.catalogue import Catalogue
from radir_pacs.catalogue.database import run
from radir_pacs.config import Settings
from radir_pacs.errors import Conflict, NotCovered, NotFound
from radir_pacs.reasons import ReasonCode
from radir_pacs.types import (
    ImageKind,
    ImageTokens,
    Job,
    JobKind,
    KeptTokens,
    ModelChange,
    ModelState,
    StudyState,
    Urgency,
)
from tests.catalogue_material import DIM, MODEL, add, claimed, encoding, header

CXR = ImageKind.CXR
NEXT = "cxr-next-1"


def known(catalogue: Catalogue, model_id: str, kind: ImageKind = CXR) -> None:
    catalogue.models.register(model_id, kind, DIM, {"name": "test"}, by="test", reason="a test", bundle_sha256="0" * 64)


def serving(catalogue: Catalogue, kind: ImageKind = CXR) -> str:
    model = catalogue.models.serving(kind)
    assert model is not None
    return model.model_id


def archive(catalogue: Catalogue, studies: int) -> None:
    """Studies encoded by the first model, which serves."""
    known(catalogue, MODEL)
    catalogue.models.promote(MODEL, by="test", reason="the first")
    for study in range(1, studies + 1):
        add(catalogue, header(study))
        catalogue.studies.complete_now(f"2.25.{study}")
        job = claimed(catalogue, key=f"2.25.{study}")
        assert catalogue.encodings.save(encoding(study, study), 1, job)


def work(catalogue: Catalogue, most: int = 1000) -> list[Job]:
    """Do what is queued for models beside the one that serves; returns the jobs in the order in which they came."""
    done: list[Job] = []
    while jobs := catalogue.jobs.claim_studies(min(8, most - len(done)), "test"):
        for job in jobs:
            assert job.kind is JobKind.REENCODE and job.model_id is not None
            number = int(job.study_uid.rpartition(".")[2])
            catalogue.encodings.save_beside(encoding(number, 100 + number, job.model_id), 1, job)
        done += jobs
    return done


def follow(catalogue: Catalogue) -> None:
    """The next model, in shadow, with everything encoded."""
    known(catalogue, NEXT)
    catalogue.models.set_shadow(NEXT, by="test", reason="a better one")
    while catalogue.reencoding.feed() or work(catalogue):
        pass


def test_nothing_answers_before_it_covers_what_there_is(catalogue: Catalogue) -> None:
    archive(catalogue, 5)
    known(catalogue, NEXT)
    catalogue.models.set_shadow(NEXT, by="test", reason="a better one")
    assert catalogue.reencoding.feed() == 5
    first = catalogue.jobs.claim_studies(1, "test")
    assert [(job.urgency, job.study_uid) for job in first] == [(Urgency.BACKGROUND, "2.25.5")], "the newest first"
    catalogue.jobs.release(first)
    assert len(work(catalogue, most=4)) == 4
    with pytest.raises(NotCovered, match=r"4 of 5 studies, 80\.00 %"):
        catalogue.models.promote(NEXT, by="test", reason="impatience")
    assert serving(catalogue) == MODEL
    progress = catalogue.models.progress(NEXT)
    assert (progress.coverage.encoded, progress.coverage.total, progress.waiting, progress.failed) == (4, 5, 1, 0)
    work(catalogue)
    catalogue.models.promote(NEXT, by="test", reason="it is time")
    assert serving(catalogue) == NEXT


def test_a_rollback_gives_the_same_encodings_and_no_recent_study_is_blind(catalogue: Catalogue) -> None:
    archive(catalogue, 3)
    before = [catalogue.encodings.get(f"2.25.{study}", MODEL) for study in (1, 2, 3)]
    follow(catalogue)
    catalogue.models.promote(NEXT, by="Dr. A", reason="it is better")
    add(catalogue, header(4))  # comes while the next model serves
    catalogue.studies.complete_now("2.25.4")
    assert catalogue.encodings.save(encoding(4, 104, NEXT), 1, claimed(catalogue, key="2.25.4"))
    [beside] = work(catalogue)
    assert (beside.model_id, beside.urgency) == (MODEL, Urgency.BESIDE), "the model before follows"
    model, coverage = catalogue.models.rollback(CXR, by="Dr. B", reason="it is worse")
    assert model.model_id == serving(catalogue) == MODEL
    assert (coverage.encoded, coverage.total) == (4, 4)
    for study, old in zip((1, 2, 3), before, strict=True):
        found = catalogue.encodings.get(f"2.25.{study}", MODEL)
        assert found is not None and old is not None and found.vectors.tobytes() == old.vectors.tobytes()
    with pytest.raises(NotFound, match="no model served"):
        catalogue.models.rollback(CXR, by="Dr. B", reason="once more")
    catalogue.models.promote(NEXT, by="Dr. A", reason="it was right")  # forward again


def test_a_rollback_that_is_asked_for_twice_leads_no_further_back(catalogue: Catalogue) -> None:
    for model_id in (MODEL, NEXT, "cxr-other"):
        known(catalogue, model_id)
        catalogue.models.promote(model_id, by="test", reason="newer")
    model, _ = catalogue.models.rollback(CXR, by="Dr. B", reason="worse", instead_of="cxr-other")
    assert model.model_id == serving(catalogue) == NEXT
    with pytest.raises(Conflict, match=f"{NEXT} began to serve meanwhile, instead of cxr-other"):
        catalogue.models.rollback(CXR, by="Dr. B", reason="worse", instead_of="cxr-other")
    assert serving(catalogue) == NEXT and catalogue.models.history()[-1].model_id == NEXT
    catalogue.models.rollback(CXR, by="Dr. B", reason="worse too")
    assert serving(catalogue) == MODEL, "who does not name what serves goes further back"


def test_of_two_promotions_at_once_one_wins(catalogue: Catalogue) -> None:
    archive(catalogue, 1)
    follow(catalogue)
    with pytest.raises(Conflict, match=f"{NEXT} began to serve meanwhile"):
        for model_id in (NEXT, "cxr-other"):
            known(catalogue, model_id)
            catalogue.models.promote(model_id, by="test", reason="now", least_coverage=0, instead_of=MODEL)
    assert serving(catalogue) == NEXT
    outcomes: list[str] = []

    def promote() -> None:
        try:
            catalogue.models.promote(MODEL, by="test", reason="now", instead_of=NEXT)
            outcomes.append("promoted")
        except Conflict:
            outcomes.append("refused")

    threads = [threading.Thread(target=promote) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["promoted", "refused", "refused", "refused"]
    assert serving(catalogue) == MODEL


def test_a_result_of_the_model_before_takes_nothing_from_the_one_that_serves(catalogue: Catalogue) -> None:
    """A worker that had the study in hand when another model was promoted."""
    archive(catalogue, 1)
    follow(catalogue)
    add(catalogue, header(2))
    catalogue.studies.complete_now("2.25.2")
    in_hand = claimed(catalogue, key="2.25.2")
    catalogue.models.promote(NEXT, by="test", reason="now")
    assert catalogue.encodings.save(encoding(2, 2), 1, in_hand)
    [job] = work(catalogue)
    assert (job.model_id, job.study_uid, job.urgency) == (NEXT, "2.25.2", Urgency.NEW)
    assert catalogue.models.coverage(NEXT).share == 1


def test_a_study_that_changes_leaves_no_vectors_of_what_it_was(catalogue: Catalogue) -> None:
    archive(catalogue, 1)
    follow(catalogue)
    add(catalogue, header(1, number=2))
    catalogue.studies.complete_now("2.25.1")
    assert catalogue.encodings.save(encoding(1, 9), 2, claimed(catalogue, key="2.25.1"))
    assert catalogue.encodings.get("2.25.1", NEXT) is None
    [job] = catalogue.jobs.claim_studies(9, "test")
    assert job.model_id == NEXT
    assert not catalogue.encodings.save_beside(encoding(1, 8, NEXT), 1, job), "of the earlier revision"
    catalogue.studies.set_state("2.25.1", StudyState.QUARANTINED, "broken", revision=2)
    assert catalogue.encodings.get("2.25.1", MODEL) is None


def test_the_archive_is_queued_at_the_pace_that_is_set(settings: Settings, catalogue: Catalogue) -> None:
    archive(catalogue, 3)
    with Catalogue.open(replace(settings, reencode_per_minute=60.0)) as slow:
        known(slow, NEXT)
        slow.models.set_shadow(NEXT, by="test", reason="slowly")
        assert slow.reencoding.feed() <= 1
        with psycopg.connect(catalogue.conninfo) as connection:
            connection.execute("UPDATE model SET fed_at = now() - interval '2.5 s' WHERE fed_below IS NOT NULL")
        assert slow.reencoding.feed() == 2
    assert not catalogue.reencoding.is_done(NEXT)
    while catalogue.reencoding.feed() or work(catalogue):
        pass
    assert catalogue.reencoding.is_done(NEXT) and catalogue.models.coverage(NEXT).share == 1


def test_one_model_of_a_kind_is_in_shadow_and_one_serves(catalogue: Catalogue) -> None:
    archive(catalogue, 1)
    known(catalogue, NEXT)
    known(catalogue, "cxr-other")
    known(catalogue, "ct-1", ImageKind.CT)
    catalogue.models.set_shadow(NEXT, by="test", reason="first")
    with pytest.raises(Conflict, match=f"{NEXT} is in shadow"):
        catalogue.models.set_shadow("cxr-other", by="test", reason="second")
    catalogue.models.set_shadow("ct-1", by="test", reason="another kind")
    with pytest.raises(Conflict, match="serves"):
        catalogue.models.retire(MODEL, by="test", reason="nothing would answer")
    with pytest.raises(Conflict, match="another kind"):
        known(catalogue, NEXT, ImageKind.CT)
    with pytest.raises(NotFound):
        catalogue.models.promote("cxr-none", by="test", reason="a typing error")


def test_what_is_retired_is_cleared_away_and_the_history_stays(catalogue: Catalogue) -> None:
    archive(catalogue, 2)
    follow(catalogue)
    catalogue.models.retire(NEXT, by="Dr. A", reason="no better", evidence="run 7")
    assert catalogue.reencoding.to_prune() == ((NEXT, CXR),)
    catalogue.reencoding.prune(NEXT, CXR)
    assert catalogue.reencoding.to_prune() == ()
    assert catalogue.encodings.get("2.25.1", NEXT) is None and catalogue.encodings.get("2.25.1", MODEL) is not None
    changes = [(event.change, event.who) for event in catalogue.models.history(NEXT)]
    assert [change for change, _ in changes] == [
        ModelChange.REGISTERED, ModelChange.SHADOWED, ModelChange.RETIRED, ModelChange.PRUNED,
    ]  # fmt: skip
    assert changes[2][1] == "Dr. A" and changes[3][1].startswith("rule:")
    retired = catalogue.models.get(NEXT)
    assert retired is not None and retired.state is ModelState.RETIRED and retired.bundle_sha256 is None


@pytest.mark.parametrize(
    "statement", ["UPDATE model_event SET who = 'somebody'", "DELETE FROM model_event", "TRUNCATE model_event"]
)
def test_the_history_is_only_ever_added_to(catalogue: Catalogue, statement: str) -> None:
    archive(catalogue, 0)
    with psycopg.connect(catalogue.conninfo) as connection, pytest.raises(psycopg.errors.RestrictViolation):
        connection.execute(statement.encode())
    assert len(catalogue.models.history()) == 2


def test_what_is_brought_forward_while_it_would_be_cleared_away_stays(catalogue: Catalogue) -> None:
    archive(catalogue, 3)
    follow(catalogue)
    catalogue.models.promote(NEXT, by="test", reason="better")
    catalogue.models.retire(MODEL, by="test", reason="never again")
    [(model_id, kind)] = catalogue.reencoding.to_prune()
    catalogue.models.promote(MODEL, by="test", reason="after all")
    catalogue.reencoding.prune(model_id, kind)
    assert serving(catalogue) == model_id == MODEL and catalogue.models.coverage(MODEL).encoded == 3
    assert all(event.change is not ModelChange.PRUNED for event in catalogue.models.history())


def test_what_is_being_cleared_away_is_not_brought_forward(catalogue: Catalogue, database_url: str) -> None:
    archive(catalogue, 3)
    follow(catalogue)
    catalogue.models.promote(NEXT, by="test", reason="better")
    catalogue.models.retire(MODEL, by="test", reason="never again")
    with psycopg.connect(database_url) as connection:  # a relay that was killed after its first step
        connection.execute("UPDATE model SET bundle_sha256 = NULL WHERE model_id = %s", (MODEL,))
    with pytest.raises(Conflict, match="bundle"):
        catalogue.models.promote(MODEL, by="test", reason="after all")
    [(model_id, kind)] = catalogue.reencoding.to_prune()
    catalogue.reencoding.prune(model_id, kind)
    assert catalogue.models.coverage(MODEL).encoded == 0 and catalogue.reencoding.to_prune() == ()


def test_feeding_and_a_change_of_models_wait_for_each_other_without_a_deadlock(
    catalogue: Catalogue, database_url: str
) -> None:
    archive(catalogue, 3)
    known(catalogue, NEXT)
    catalogue.models.set_shadow(NEXT, by="test", reason="a better one")
    with psycopg.connect(database_url) as changing, ThreadPoolExecutor(1) as pool:
        changing.execute("LOCK TABLE model IN SHARE ROW EXCLUSIVE MODE")
        fed = pool.submit(catalogue.reencoding.feed)
        deadline = time.monotonic() + 30
        while not changing.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone()[0]:  # type: ignore[index]
            assert time.monotonic() < deadline and not fed.done()
        changing.execute("UPDATE model SET coverage = coverage WHERE model_id = %s", (NEXT,))
        changing.commit()
        assert fed.result(30) == 3


def test_a_kind_that_no_model_encoded_is_encoded_when_one_begins_to_serve(catalogue: Catalogue) -> None:
    """Of studies with a radiograph as well: they were not skipped, and nobody would come back to their CT."""
    archive(catalogue, 1)
    add(catalogue, header(2))
    add(catalogue, header(2, series=2, modality="CT"))
    catalogue.studies.complete_now("2.25.2")
    revision = catalogue.studies.revision_of("2.25.2")[1]
    assert catalogue.encodings.save(encoding(2, 2), revision, claimed(catalogue, key="2.25.2"))
    known(catalogue, "ct-1", ImageKind.CT)
    catalogue.models.promote("ct-1", by="test", reason="the first")
    [job] = catalogue.jobs.claim_studies(9, "test")
    assert (job.study_uid, job.model_id, job.urgency) == ("2.25.2", "ct-1", Urgency.ARCHIVE)
    assert catalogue.encodings.save_beside(encoding(2, 7, "ct-1"), revision, job)
    assert {kind for _, kind in catalogue.encodings.models_of_study("2.25.2")} == set(ImageKind)
    known(catalogue, "ct-2", ImageKind.CT)
    catalogue.models.promote("ct-2", by="test", reason="the second", least_coverage=0)
    assert not catalogue.jobs.claim_studies(9, "test"), "from now on the archive is fed as for any model"


def test_a_round_reads_as_much_of_the_archive_as_it_queues(catalogue: Catalogue) -> None:
    archive(catalogue, 0)
    with psycopg.connect(catalogue.conninfo) as connection:
        connection.execute(
            "INSERT INTO study (study_uid, state) SELECT '2.25.' || n, 'INDEXED' FROM generate_series(1, 3000) n"
        )
        connection.execute(
            "INSERT INTO encoding (study_uid, series_uid, sop_uid, model_id, revision, regions, vectors)"
            " SELECT '2.25.' || n, '1', '1.1', %s, 1, '{chest}', '' FROM generate_series(1, 3000) n",
            [MODEL],
        )
        connection.commit()
        connection.autocommit = True
        connection.execute("VACUUM ANALYZE encoding")
    known(catalogue, NEXT)
    catalogue.models.set_shadow(NEXT, by="test", reason="a better one")
    values = {"model_id": NEXT, "kind": CXR, "fed_below": 10**9, "look": 20_000, "room": 5, "urgency": 4}
    with catalogue.reencoding._database.transaction() as connection:
        fed = run(connection, "feed_model", values | {"max_attempts": 3}).fetchone()
        read = connection.execute(
            "SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) AS n FROM pg_stat_xact_user_tables"
            " WHERE relname = 'encoding'"
        ).fetchone()
    assert fed is not None and fed["queued"] == 5 and read is not None
    assert read["n"] < 100, "not all that a round may look at"
    total = 5
    while queued := catalogue.reencoding.feed():
        total += queued
        with psycopg.connect(catalogue.conninfo) as done:
            done.execute("DELETE FROM job WHERE kind = 'reencode'")
    assert total >= 3000, "all of it, in the end"


def test_a_large_model_is_cleared_away_bit_by_bit(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    """A round of the relay takes a few thousand encodings; each reads what it deletes, not what others have."""
    archive(catalogue, 0)
    known(catalogue, NEXT)
    with psycopg.connect(catalogue.conninfo, autocommit=True) as connection:
        connection.execute("INSERT INTO study (study_uid) SELECT '2.25.' || n FROM generate_series(1, 3000) n")
        for model_id, most in ((MODEL, 3000), (NEXT, 300)):
            connection.execute(
                "INSERT INTO encoding (study_uid, series_uid, sop_uid, model_id, revision, regions, vectors)"
                " SELECT '2.25.' || n, '1', '1.1', %s, 1, '{chest}', '' FROM generate_series(1, %s) n",
                [model_id, most],
            )
        connection.execute("VACUUM ANALYZE encoding")
    catalogue.models.retire(NEXT, by="test", reason="no better")
    monkeypatch.setattr("radir_pacs.catalogue.reencoding._PRUNED", 50)
    monkeypatch.setattr("radir_pacs.catalogue.reencoding._PRUNINGS", 2)
    assert not catalogue.reencoding.prune(NEXT, CXR)
    assert catalogue.models.coverage(NEXT).encoded == 200
    assert reads(catalogue, "models_to_prune")[0] == 1 and reads(catalogue, "models_to_prune")[1] <= 300
    rows, read = reads(catalogue, "prune_encodings", model_id=NEXT, limit=50)
    assert rows == 50 and read <= 250, "those to delete, and at most those that were deleted"
    while not catalogue.reencoding.prune(NEXT, CXR):
        assert catalogue.models.coverage(NEXT).encoded < 200
    assert catalogue.models.coverage(NEXT).encoded == 0 and catalogue.models.coverage(MODEL).encoded == 3000
    assert reads(catalogue, "models_to_prune")[0] == 0
    assert reads(catalogue, "models_to_prune")[1] <= 300, "none of what another model has"


def reads(catalogue: Catalogue, query: str, **values: object) -> tuple[int, int]:
    """(rows of a statement, encodings that it read)."""
    counted = (
        b"SELECT coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)), 0)::integer AS n"
        b" FROM pg_stat_xact_user_tables WHERE relname = 'encoding'"
    )
    with catalogue.reencoding._database.transaction() as connection:
        before = connection.execute(counted).fetchone()  # also what transactions before this one have read
        rows = run(connection, query, values).rowcount
        after = connection.execute(counted).fetchone()
    assert before is not None and after is not None
    return rows, after["n"] - before["n"]


def test_tokens_go_with_the_last_model_that_answers_from_them(catalogue: Catalogue) -> None:
    archive(catalogue, 2)
    for model_id in ("head-1", "head-2"):
        manifest = {"encoder": "shared"}
        catalogue.models.register(model_id, CXR, DIM, manifest, by="test", reason="a test", bundle_sha256="0" * 64)
    with psycopg.connect(catalogue.conninfo) as connection:
        connection.execute('UPDATE model SET manifest = \'{"encoder": "other"}\' WHERE model_id = %s', [MODEL])
    tokens = ImageTokens(encoder="shared", kind=CXR, lateral=False, values=np.zeros((2, 4), np.float16))
    kept = [KeptTokens(study_uid=f"2.25.{n}", series_uid="1", sop_uid="1.1", revision=1, tokens=tokens) for n in (1, 2)]
    catalogue.image_tokens.keep(kept)
    for model_id, left in (("head-1", {"shared"}), ("head-2", set())):
        catalogue.models.retire(model_id, by="test", reason="no better")
        assert (model_id, CXR) in catalogue.reencoding.to_prune()
        catalogue.reencoding.prune(model_id, CXR)
        assert set(catalogue.image_tokens.counts()) == left
    assert catalogue.reencoding.to_prune() == ()


def test_what_the_model_that_answers_could_not_encode_is_said_with_its_code(catalogue: Catalogue) -> None:
    archive(catalogue, 1)
    known(catalogue, NEXT)
    catalogue.models.promote(NEXT, by="test", reason="now", least_coverage=0)
    assert catalogue.reencoding.failed("2.25.1") is None
    assert catalogue.reencoding.feed() == 1
    [job] = catalogue.jobs.claim_studies(9, "test")
    catalogue.jobs.fail(job, "no finite number", reason_code=ReasonCode.NO_VECTOR, retry=False)
    failed = catalogue.reencoding.failed("2.25.1")
    assert failed is not None and failed.reason_code is ReasonCode.NO_VECTOR
    assert catalogue.jobs.retry_failed() == 1
    assert catalogue.reencoding.failed("2.25.1") is None, "it is being tried again"
