"""A generation is complete and verified, or it is refused: no damaged file reaches the search (P4)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from radir_pacs.errors import IndexRefused, RadirError
from radir_pacs.index import Partition, build, collect, exact_search, partition_folder
from radir_pacs.index.generation import generation_names, read_manifest
from radir_pacs.index.manifest import GRAPH, LABELS, MANIFEST, VECTORS
from tests.index_material import (
    BUILT_AT,
    DIM,
    MODEL,
    REGION,
    WITH_GRAPH,
    WITHOUT_GRAPH,
    difference,
    labels_of,
    live,
    newest,
    opened,
    publish,
    random_vectors,
    sizes,
)

COUNT = 300
FILES = (VECTORS, LABELS, GRAPH, MANIFEST)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish(tmp_path_factory.mktemp("index"), random_vectors(COUNT))


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    """A copy to damage, under its own name."""
    copied: Path = shutil.copytree(pristine, tmp_path / pristine.name)
    return copied


def newest_partition(home: Path, region: str = REGION) -> Partition | None:
    generation = newest(partition_folder(home, MODEL, region), region=region)
    return None if generation is None else Partition(model_id=MODEL, region=region, dim=DIM, generation=generation)


def test_what_was_built_is_what_is_opened(folder: Path) -> None:
    generation = opened(folder)
    assert np.array_equal(generation.vectors, random_vectors(COUNT))
    assert np.array_equal(generation.labels, labels_of(COUNT))
    assert not generation.vectors.flags.writeable
    assert generation.manifest.built_at == BUILT_AT
    assert generation.manifest.graph is not None
    assert generation.manifest.graph.recall == 1.0
    assert generation.name == folder.name


def test_another_process_gives_the_same_answers(folder: Path) -> None:
    program = f"""
import json, sys, numpy as np
from pathlib import Path
from radir_pacs.index import Partition, open_generation
generation = open_generation(Path(sys.argv[1]), model_id={MODEL!r}, region={REGION!r}, dim={DIM})
partition = Partition(model_id={MODEL!r}, region={REGION!r}, dim={DIM}, generation=generation)
queries = np.array(json.loads(sys.stdin.read()), np.float32)
print(json.dumps([(h.labels.tolist(), h.scores.tolist()) for h in (partition.search(q, 10) for q in queries)]))
"""
    queries = random_vectors(5, seed=1)
    child = subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        input=json.dumps(queries.tolist()), capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    for query, (labels, scores) in zip(queries, json.loads(child.stdout), strict=True):
        expected, cosines = exact_search(random_vectors(COUNT), labels_of(COUNT), query, 10)
        assert labels == expected.tolist()
        assert scores == cosines.tolist()


def test_a_generation_may_be_empty_or_without_a_graph(tmp_path: Path) -> None:
    for count in (0, 1, 50):
        generation = opened(publish(tmp_path, random_vectors(count), graph=WITHOUT_GRAPH))
        assert generation.graph is None
        partition = Partition(model_id=MODEL, region=REGION, dim=DIM, generation=generation)
        assert len(partition.search(random_vectors(1)[0], 60).labels) == count
    assert [name[:8] for name in generation_names(partition_folder(tmp_path, MODEL, REGION))] == [
        "00000001",
        "00000002",
        "00000003",
    ]


@pytest.mark.parametrize("name", FILES)
def test_any_flipped_bit_is_refused(folder: Path, name: str) -> None:
    path, random = folder / name, np.random.default_rng(0)
    content = path.read_bytes()
    places = [0, len(content) - 1, *random.integers(0, len(content), 150).tolist()]
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(random.integers(8))
        path.write_bytes(damaged)
        with pytest.raises(IndexRefused):
            opened(folder)
    path.write_bytes(content)
    opened(folder)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("keep", [0.0, 0.3, 0.99, 1.01])
def test_a_file_of_another_length_is_refused(folder: Path, name: str, keep: float) -> None:
    path = folder / name
    os.truncate(path, int(path.stat().st_size * keep))
    with pytest.raises(IndexRefused):
        opened(folder)


def a_link(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("instead", [lambda path: None, Path.mkdir, os.mkfifo, a_link])
def test_what_is_not_a_file_is_refused(folder: Path, name: str, instead: Callable[[Path], None]) -> None:
    (folder / name).unlink()
    instead(folder / name)
    with pytest.raises(IndexRefused):
        opened(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_link_to_the_very_file_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    """Whoever can change what lies elsewhere could change it after the check."""
    elsewhere = (folder / name).rename(tmp_path / name)
    (folder / name).symlink_to(elsewhere)
    with pytest.raises(IndexRefused, match="cannot be opened"):
        opened(folder)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("other", [{"region": "lung"}, {"model_id": "tiny-2"}, {"region": REGION}])
def test_a_file_of_another_generation_is_refused(
    folder: Path, tmp_path: Path, name: str, other: dict[str, Any]
) -> None:
    foreign = publish(tmp_path, random_vectors(COUNT, seed=9), **other)
    if name == LABELS:
        assert (foreign / name).read_bytes() == (folder / name).read_bytes()  # the same labels: nothing to refuse
        return
    shutil.copy(foreign / name, folder / name)
    with pytest.raises(IndexRefused):
        opened(folder)


def test_a_generation_of_another_partition_is_refused(tmp_path: Path) -> None:
    for model_id, region, dim in (("tiny-2", REGION, DIM), (MODEL, "lung", DIM), (MODEL, REGION, DIM + 1)):
        foreign = publish(tmp_path, random_vectors(5, dim=dim), model_id=model_id, region=region, graph=WITHOUT_GRAPH)
        with pytest.raises(IndexRefused, match="another model, region or dimension"):
            opened(foreign)
        copied = tmp_path / "copied" / foreign.name
        shutil.copytree(foreign, copied)
        with pytest.raises(IndexRefused, match="another model, region or dimension"):
            opened(copied)


def test_a_generation_under_another_name_is_refused(folder: Path) -> None:
    renamed = folder.rename(folder.parent / f"00000009-{folder.name[9:]}")
    with pytest.raises(IndexRefused, match="name"):
        opened(renamed)
    with pytest.raises(IndexRefused):
        opened(folder)


def test_a_graph_of_another_hnswlib_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("radir_pacs.index.generation.HNSWLIB_VERSION", "0.9.0")
    with pytest.raises(IndexRefused, match="written by hnswlib"):
        opened(folder)


@pytest.mark.parametrize(
    "text",
    [b"", b"null", b"[]", b"{}", b"\xff", b'{"format": 1}', b"[" * 60_000, b" " * 70_000, b'{"format": NaN}',
     b'{"format": "radir-index-generation/1", "sha256": 1}',
     b'{"format": "radir-index-generation/1", "sha256": 1, "built_at": 1, "files": {}, "graph": 1}',
     b'{"format": "radir-index-generation/2"}'],
)  # fmt: skip
def test_any_text_for_a_manifest_is_refused(folder: Path, text: bytes) -> None:
    (folder / MANIFEST).write_bytes(text)
    with pytest.raises(IndexRefused):
        opened(folder)


def test_a_sealed_manifest_that_promises_other_files_is_refused(folder: Path) -> None:
    manifest = read_manifest(folder)
    with pytest.raises(ValueError, match="count x dim"):
        replace(manifest, count=manifest.count + 1)
    altered = replace(manifest, metric="l2")
    (folder / MANIFEST).write_bytes(altered.to_bytes())
    renamed = folder.rename(folder.parent / altered.name)
    with pytest.raises(IndexRefused, match="metric"):
        opened(renamed)


def test_a_refused_generation_is_passed_over_and_rebuilt(tmp_path: Path) -> None:
    vectors = random_vectors(COUNT)
    first = publish(tmp_path, vectors[:200])
    second = publish(tmp_path, vectors)
    (second / GRAPH).write_bytes(b"\0" * (second / GRAPH).stat().st_size)
    partition = newest_partition(tmp_path)
    assert partition is not None
    assert partition.generation == first.name

    missing, gone = difference(partition, labels_of(COUNT))
    assert (missing.tolist(), gone.tolist()) == (labels_of(COUNT)[200:].tolist(), [])
    partition.apply(labels=missing, vectors=vectors[200:])
    rebuilt = opened(publish(tmp_path, live(partition)[1]))
    partition.swap(rebuilt)
    assert (partition.generation, sizes(partition).tail) == (rebuilt.name, 0)
    assert generation_names(first.parent)[-1] == rebuilt.name


def test_there_may_be_nothing_to_open(tmp_path: Path) -> None:
    assert newest_partition(tmp_path) is None
    assert collect(partition_folder(tmp_path, MODEL, REGION), now_s=0) == ()
    folder = publish(tmp_path, random_vectors(3), graph=WITHOUT_GRAPH)
    (folder / VECTORS).unlink()
    assert newest_partition(tmp_path) is None


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0, 1.01])
def test_vectors_that_cannot_be_searched_are_never_built(tmp_path: Path, bad: float) -> None:
    vectors = random_vectors(5)
    vectors[2] *= bad
    with pytest.raises(ValueError, match="unit length"):
        publish(tmp_path, vectors)
    assert not partition_folder(tmp_path, MODEL, REGION).exists()


def test_labels_must_ascend_and_names_be_plain(tmp_path: Path) -> None:
    where: dict[str, Any] = {"model_id": MODEL, "region": REGION, "built_at": BUILT_AT, "vectors": random_vectors(2)}
    for labels in ([2, 1], [1, 1], [1]):
        with pytest.raises(ValueError, match="ascending"):
            build(tmp_path, labels=np.array(labels, np.int64), **where)
    for name in ("..", "a/b", "", ".hidden", "x" * 200, "line\nbreak"):
        with pytest.raises(ValueError, match="cannot name"):
            partition_folder(tmp_path, MODEL, name)


def test_a_graph_with_poor_recall_is_left_out(tmp_path: Path) -> None:
    generation = opened(publish(tmp_path, random_vectors(COUNT), graph=replace(WITH_GRAPH, least_recall=1.1)))
    assert generation.graph is None
    assert {path.name for path in (partition_folder(tmp_path, MODEL, REGION) / generation.name).iterdir()} == {
        MANIFEST,
        VECTORS,
        LABELS,
    }


def test_equal_vectors_do_not_count_against_recall(tmp_path: Path) -> None:
    vectors = np.repeat(random_vectors(20), 10, axis=0)
    manifest = opened(publish(tmp_path, vectors)).manifest
    assert manifest.graph is None or manifest.graph.recall is None or manifest.graph.recall >= 0.95
    partition = newest_partition(tmp_path)
    assert partition is not None
    assert len(partition.search(vectors[0], 10).labels) == 10


def test_old_generations_go_after_the_grace_and_only_then(tmp_path: Path) -> None:
    folders = [publish(tmp_path, random_vectors(3), graph=WITHOUT_GRAPH) for _ in range(3)]
    for folder, published_s in zip(folders, (1000, 2000, 3000), strict=True):
        os.utime(folder, (published_s, published_s))
    parent = folders[0].parent
    assert collect(parent, now_s=2050, grace_s=100) == ()
    reader = opened(folders[0])
    assert collect(parent, now_s=2100, grace_s=100) == (folders[0].name,)
    assert np.array_equal(reader.vectors, random_vectors(3))  # open files outlive their names
    assert collect(parent, now_s=9e9, grace_s=100) == (folders[1].name,)
    assert generation_names(parent) == [folders[2].name]


def test_refusals_name_no_path(folder: Path) -> None:
    (folder / VECTORS).unlink()
    with pytest.raises(RadirError) as refusal:
        opened(folder)
    assert str(folder.parent) not in str(refusal.value)
