"""Which build answers for a partition, and when a new one is due."""

from __future__ import annotations

import psycopg
import pytest

from radir_pacs.catalogue import Catalogue, PartitionSize
from radir_pacs.errors import LeaseLost
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


def test_partitions_say_what_a_merge_would_take_in(catalogue: Catalogue) -> None:
    register(catalogue)
    encoded(catalogue, 1)
    encoded(catalogue, 2)
    sizes = {size.region: size for size in catalogue.generations.partitions()}
    assert sizes["chest"] == PartitionSize(model_id=MODEL, region="chest", n_generation=0, n_tail=2, n_gone=0)
    record(catalogue, "g1", count=2)
    encoded(catalogue, 3)
    catalogue.studies.delete("2.25.1")
    sizes = {size.region: size for size in catalogue.generations.partitions()}
    assert (sizes["chest"].n_generation, sizes["chest"].n_tail, sizes["chest"].n_gone) == (2, 1, 1)
    assert (sizes["left_lung"].n_generation, sizes["left_lung"].n_tail) == (0, 2)
    register(catalogue, "cxr-next")
    assert catalogue.generations.partitions() == ()


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
