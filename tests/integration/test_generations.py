"""Which build answers for a partition, and when a new one is due."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from radir_pacs.catalogue import Catalogue
from radir_pacs.errors import LeaseLost
from radir_pacs.monitoring.tails import Tails
from radir_pacs.types import JobKind
from tests.catalogue_material import MODEL, claimed, encoded, register


def record(catalogue: Catalogue, name: str, **changes: object) -> None:
    given = {"name": name, "count": 1, "as_of": catalogue.encodings.changes(MODEL, "chest").xid, "manifest": {"n": 1}}
    catalogue.generations.record(MODEL, "chest", **(given | changes))  # type: ignore[arg-type]


def test_the_newest_build_answers(catalogue: Catalogue) -> None:
    register(catalogue)
    assert catalogue.generations.published(MODEL, "chest") is None
    record(catalogue, "g1")
    record(catalogue, "g2")
    published = catalogue.generations.published(MODEL, "chest")
    assert published is not None and (published.name, published.count, published.manifest) == ("g2", 1, {"n": 1})
    assert catalogue.generations.published(MODEL, "heart") is None


def test_a_writer_that_lost_its_lease_records_nothing(catalogue: Catalogue) -> None:
    register(catalogue)
    job = claimed(catalogue, JobKind.INDEX, f"{MODEL}/chest")
    catalogue.jobs.finish(job)
    with pytest.raises(LeaseLost):
        record(catalogue, "g1", job=job)
    assert catalogue.generations.published(MODEL, "chest") is None


def test_a_refused_build_answers_no_more(catalogue: Catalogue) -> None:
    register(catalogue)
    record(catalogue, "g1")
    assert not catalogue.generations.refuse(MODEL, "chest", "g0", reason="not this one")
    assert catalogue.generations.refuse(MODEL, "chest", "g1", reason="altered")
    assert catalogue.generations.published(MODEL, "chest") is None
    record(catalogue, "g2")
    found = catalogue.generations.published(MODEL, "chest")
    assert found is not None and found.name == "g2"


def counts(tails: Tails) -> dict[str, tuple[int, int, int]]:
    """(count of the generation, tail, gone) of each region."""
    return {served.region: (served.count, tail.n_tail, tail.n_gone) for served, tail in tails.survey()}


def test_tails_are_counted_as_they_grow(catalogue: Catalogue) -> None:
    register(catalogue)
    encoded(catalogue, 1)
    encoded(catalogue, 2)
    tails = Tails(catalogue)
    assert counts(tails)["chest"] == counts(tails)["chest"] == (0, 2, 0)
    encoded(catalogue, 3)
    assert counts(tails)["chest"] == (0, 3, 0)
    record(catalogue, "g1", count=3)
    encoded(catalogue, 4)
    catalogue.studies.delete("2.25.1")
    assert counts(tails)["chest"] == counts(Tails(catalogue))["chest"] == (3, 1, 1)
    assert counts(tails)["left_lung"] == (0, 4, 1), "what was deleted from a tail stays counted until its merge"
    assert counts(Tails(catalogue))["left_lung"] == (0, 3, 1)
    register(catalogue, "cxr-next")
    assert counts(tails)["chest"] == (3, 1, 1), "what can be gone back to stays up to date"
    catalogue.models.retire(MODEL, by="test", reason="test")
    assert counts(tails) == {}


def test_what_commits_late_is_counted_once(catalogue: Catalogue, database_url: str) -> None:
    """A transaction that is open during a survey counts in the next one, though later ones have ended before."""
    register(catalogue)
    tails = Tails(catalogue)
    with psycopg.connect(database_url) as slow:
        slow.execute("SELECT pg_current_xact_id()")
        encoded(catalogue, 1)
        assert counts(tails)["chest"] == (0, 0, 0)
    assert counts(tails)["chest"] == (0, 1, 0)
    assert counts(tails)["chest"] == (0, 1, 0)


def test_a_survey_reads_only_what_is_new(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    register(catalogue)
    encoded(catalogue, 1)
    tails = Tails(catalogue)
    counts(tails)
    read: list[str] = []
    generations = catalogue.generations

    def noted(name: str, asked: Callable[..., object]) -> Callable[..., object]:
        def ask(*arguments: object) -> object:
            read.append(name)
            return asked(*arguments)

        return ask

    for name in ("tail", "tails"):
        monkeypatch.setattr(generations, name, noted(name, getattr(generations, name)))
    counts(tails)
    assert read == []
    encoded(catalogue, 2)
    counts(tails)
    assert read == ["tails"]
    record(catalogue, "g1", count=2)
    counts(tails)
    assert read[1:].count("tail") == 1


def test_partitions_without_a_build_are_counted_at_once(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    """As all are after a restore: each count reads every encoding of the archive."""
    register(catalogue)
    for study in (1, 2):
        encoded(catalogue, study)
    asked: list[str] = []
    tails, tail = catalogue.generations.tails, catalogue.generations.tail

    def noted(name: str, way: Callable[..., object]) -> Callable[..., object]:
        def ask(*arguments: object) -> object:
            asked.append(name)
            return way(*arguments)

        return ask

    monkeypatch.setattr(catalogue.generations, "tails", noted("tails", tails))
    monkeypatch.setattr(catalogue.generations, "tail", noted("tail", tail))
    found = counts(Tails(catalogue))
    assert asked == ["tails"] and len(found) > 1
    assert set(found.values()) == {(0, 2, 0)}


def test_a_deletion_is_kept_until_every_generation_took_it_in(catalogue: Catalogue, database_url: str) -> None:
    register(catalogue)
    gone = encoded(catalogue, 1)
    record(catalogue, "g1")
    catalogue.studies.delete("2.25.1")
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE encoding_gone SET at = now() - interval '1 hour'")
    catalogue.generations.prune(gone_keep_s=60, generation_keep_s=60)
    assert catalogue.encodings.changes(MODEL, "chest").gone.tolist() == [gone]
    record(catalogue, "g2", count=0)
    catalogue.generations.prune(gone_keep_s=7200, generation_keep_s=60)
    assert catalogue.encodings.changes(MODEL, "chest").gone.tolist() == [gone]
    catalogue.generations.prune(gone_keep_s=60, generation_keep_s=60)
    assert catalogue.encodings.changes(MODEL, "chest").gone.tolist() == []
