"""Vectors that change on the disk under an open generation are found, refused, and answered from the catalogue."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from radir_pacs.catalogue import Catalogue
from radir_pacs.config import Settings
from radir_pacs.index import partition_folder
from radir_pacs.index.manifest import VECTORS
from radir_pacs.query.index_check import IndexCheck
from radir_pacs.query.partitions import Partitions
from radir_pacs.types import I64
from tests.catalogue_material import DIM, MODEL, REGIONS, encoded, encoding, register
from tests.index_material import segment_of
from tests.integration.test_workers import merge


@pytest.fixture
def partitions(catalogue: Catalogue, settings: Settings) -> Partitions:
    """Six studies in a published generation of "chest", open in one process."""
    register(catalogue)
    for study in range(6):
        encoded(catalogue, study)
    merge(catalogue, settings.home)
    made = Partitions(catalogue, settings)
    assert made.fresh(MODEL, "chest", dim=DIM).generation is not None
    return made


def vectors_file(catalogue: Catalogue, settings: Settings) -> Path:
    published = catalogue.generations.published(MODEL, "chest")
    assert published is not None
    return segment_of(partition_folder(settings.home, MODEL, "chest") / published.name) / VECTORS


def answer(partitions: Partitions, study: int) -> tuple[I64, float]:
    """(labels, best score) of a search with a study's own vector."""
    query = encoding(study, study).vectors[REGIONS.index("chest")]
    hits = partitions.fresh(MODEL, "chest", dim=DIM).search(query, 6)
    return hits.labels, float(hits.scores[0])


def swap_two_vectors(path: Path) -> None:
    """In place, as damage does: a map of the file shows it at once."""
    vectors = np.memmap(path, "<f4", "r+", shape=(6, DIM))
    vectors[[0, 1]] = vectors[[1, 0]]
    vectors.flush()


def test_altered_vectors_are_refused_without_a_restart(
    catalogue: Catalogue, settings: Settings, partitions: Partitions
) -> None:
    right, _ = answer(partitions, 0)
    swap_two_vectors(vectors_file(catalogue, settings))
    wrong, score = answer(partitions, 0)
    assert wrong[0] != right[0] and score > 0.999, "this is the damage: a wrong case, and sure of itself"
    partitions.check(lambda _: None)
    labels, _ = answer(partitions, 0)
    assert labels.tolist() == right.tolist()
    assert partitions.fresh(MODEL, "chest", dim=DIM).generation is None
    assert catalogue.generations.published(MODEL, "chest") is None
    merge(catalogue, settings.home)
    labels, _ = answer(partitions, 0)
    assert labels.tolist() == right.tolist()
    assert partitions.fresh(MODEL, "chest", dim=DIM).generation is not None


def test_another_process_follows_the_refusal(catalogue: Catalogue, settings: Settings, partitions: Partitions) -> None:
    other = Partitions(catalogue, settings)
    right, _ = answer(other, 0)
    swap_two_vectors(vectors_file(catalogue, settings))
    partitions.check(lambda _: None)
    labels, _ = answer(other, 0)
    assert labels.tolist() == right.tolist()


def test_a_sound_generation_stays(catalogue: Catalogue, settings: Settings, partitions: Partitions) -> None:
    read: list[int] = []
    partitions.check(read.append)
    files = [path for path in vectors_file(catalogue, settings).parent.iterdir() if path.suffix in (".f32", ".i64")]
    assert sum(read) == sum(path.stat().st_size for path in files)
    assert partitions.fresh(MODEL, "chest", dim=DIM).generation is not None


def test_a_generation_that_was_replaced_and_removed_is_no_damage(
    catalogue: Catalogue, settings: Settings, partitions: Partitions
) -> None:
    path = vectors_file(catalogue, settings)
    encoded(catalogue, 7)
    merge(catalogue, settings.home)
    path.unlink()
    partitions.check(lambda _: None)
    assert catalogue.generations.published(MODEL, "chest") is not None


def test_the_thread_finds_it_and_ends(catalogue: Catalogue, settings: Settings, partitions: Partitions) -> None:
    swap_two_vectors(vectors_file(catalogue, settings))
    with IndexCheck(partitions, pause_s=0.01):
        deadline = time.monotonic() + 30
        while catalogue.generations.published(MODEL, "chest") is not None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
