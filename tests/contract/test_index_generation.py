"""A generation is complete and verified, or it is refused: no damaged file reaches the search (P4)."""

from __future__ import annotations

import json
import math
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
from radir_pacs.index import Partition, build, check_generation, exact_search, files, partition_folder, remove_unused
from radir_pacs.index.builder import publish as publish_generation
from radir_pacs.index.files import check_file
from radir_pacs.index.generation import generation_names, open_segment
from radir_pacs.index.manifest import (
    DELETED,
    GRAPH,
    LABELS,
    MANIFEST,
    VECTORS,
    GenerationManifest,
    SegmentManifest,
    SegmentRecord,
)
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
    segment_of,
    sizes,
)

COUNT = 300
SEGMENT_FILES = (VECTORS, LABELS, GRAPH, MANIFEST)
FILES = (*(f"segment/{name}" for name in SEGMENT_FILES), MANIFEST, DELETED)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generation of one segment, some of whose vectors are gone."""
    folder = publish(tmp_path_factory.mktemp("index"), random_vectors(COUNT))
    generation = opened(folder)
    gone = np.array([7, 10], np.int64)
    (segment,) = generation.segments
    record = SegmentRecord(name=segment.name, count=COUNT, deleted=len(gone))
    where: dict[str, Any] = {"model_id": MODEL, "region": REGION, "dim": DIM, "built_at": BUILT_AT}
    return folder.parent / publish_generation(folder.parent, segments=[record], deleted=gone, **where).name


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    """A copy to damage, under its own name."""
    shutil.copytree(pristine.parent, tmp_path / "copy")
    return tmp_path / "copy" / pristine.name


def file_of(folder: Path, name: str) -> Path:
    """The path of one of FILES."""
    within, _, file = name.rpartition("/")
    return (segment_of(folder) if within else folder) / file


def newest_partition(home: Path, region: str = REGION) -> Partition | None:
    generation = newest(partition_folder(home, MODEL, region), region=region)
    return None if generation is None else Partition(model_id=MODEL, region=region, dim=DIM, generation=generation)


def test_what_was_built_is_what_is_opened(folder: Path) -> None:
    generation = opened(folder)
    (segment,) = generation.segments
    assert np.array_equal(segment.vectors, random_vectors(COUNT))
    assert np.array_equal(segment.labels, labels_of(COUNT))
    assert not segment.vectors.flags.writeable
    assert generation.manifest.built_at == BUILT_AT
    manifest = SegmentManifest.from_bytes((segment_of(folder) / MANIFEST).read_bytes())
    assert manifest.graph is not None
    assert manifest.graph.recall == 1.0
    assert generation.name == folder.name
    assert (generation.deleted.tolist(), generation.manifest.count) == ([7, 10], COUNT - 2)


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
        allowed = labels_of(COUNT)[2:]
        expected, cosines = exact_search(random_vectors(COUNT), labels_of(COUNT), query, 10, allowed)
        assert labels == expected.tolist()
        assert scores == cosines.tolist()


def test_a_generation_may_be_empty_or_without_a_graph(tmp_path: Path) -> None:
    for count in (0, 1, 50):
        generation = opened(publish(tmp_path, random_vectors(count), graph=WITHOUT_GRAPH))
        assert generation.segments[0].graph is None
        partition = Partition(model_id=MODEL, region=REGION, dim=DIM, generation=generation)
        assert len(partition.search(random_vectors(1)[0], 60).labels) == count
    assert [name[:8] for name in generation_names(partition_folder(tmp_path, MODEL, REGION))] == [
        "00000001",
        "00000002",
        "00000003",
    ]


@pytest.mark.parametrize("name", FILES)
def test_any_flipped_bit_is_refused(folder: Path, name: str) -> None:
    path, random = file_of(folder, name), np.random.default_rng(0)
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
    path = file_of(folder, name)
    os.truncate(path, math.ceil(path.stat().st_size * keep) if keep > 1 else int(path.stat().st_size * keep))
    with pytest.raises(IndexRefused):
        opened(folder)


def a_link(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("instead", [lambda path: None, Path.mkdir, os.mkfifo, a_link])
def test_what_is_not_a_file_is_refused(folder: Path, name: str, instead: Callable[[Path], None]) -> None:
    path = file_of(folder, name)
    path.unlink()
    instead(path)
    with pytest.raises(IndexRefused):
        opened(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_link_to_the_very_file_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    """Whoever can change what lies elsewhere could change it after the check."""
    path = file_of(folder, name)
    elsewhere = path.rename(tmp_path / path.name)
    path.symlink_to(elsewhere)
    with pytest.raises(IndexRefused, match="cannot be opened"):
        opened(folder)


@pytest.fixture(scope="module", params=[{"region": "lung"}, {"model_id": "tiny-2"}, {"region": REGION}])
def foreign(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another sound generation: of another region, of another model, and of other vectors."""
    return publish(tmp_path_factory.mktemp("foreign"), random_vectors(COUNT, seed=9), **request.param)


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_generation_is_refused(folder: Path, foreign: Path, name: str) -> None:
    source, target = file_of(foreign, name), file_of(folder, name)
    if name == f"segment/{LABELS}":
        assert source.read_bytes() == target.read_bytes()  # the same labels: nothing to refuse
        return
    shutil.copy(source, target)
    with pytest.raises(IndexRefused):
        opened(folder)


def test_a_segment_of_another_generation_is_refused(folder: Path, foreign: Path) -> None:
    segment = segment_of(folder)
    shutil.rmtree(segment)
    shutil.copytree(segment_of(foreign), segment)
    with pytest.raises(IndexRefused, match="name of another"):
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


def test_a_graph_of_another_library_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("radir_pacs.index.generation.LIBRARY", "another")
    with pytest.raises(IndexRefused, match="written by faiss"):
        opened(folder)


@pytest.mark.parametrize(
    "text",
    [b"", b"null", b"[]", b"{}", b"\xff", b'{"format": 1}', b"[" * 60_000, b" " * (1 << 21), b'{"format": NaN}',
     b'{"format": "radir-index-generation/2", "sha256": 1}',
     b'{"format": "radir-index-generation/2", "sha256": 1, "built_at": 1, "files": {}, "segments": 1}',
     b'{"format": "radir-index-generation/1"}'],
)  # fmt: skip
def test_any_text_for_a_manifest_is_refused(folder: Path, text: bytes) -> None:
    (folder / MANIFEST).write_bytes(text)
    with pytest.raises(IndexRefused):
        opened(folder)


def test_a_sealed_manifest_that_promises_other_files_is_refused(folder: Path) -> None:
    segment = segment_of(folder)
    manifest = SegmentManifest.from_bytes((segment / MANIFEST).read_bytes())
    with pytest.raises(ValueError, match="count x dim"):
        replace(manifest, count=manifest.count + 1)
    altered = replace(manifest, metric="l2")
    (segment / MANIFEST).write_bytes(altered.to_bytes())
    renamed = segment.rename(segment.parent / altered.name)
    with pytest.raises(IndexRefused, match="metric"):
        open_segment(renamed, model_id=MODEL, region=REGION, dim=DIM)


def test_a_sealed_manifest_with_wrong_counts_is_refused(folder: Path) -> None:
    """Another partition's list of what is gone, properly sealed."""
    manifest = GenerationManifest.from_bytes((folder / MANIFEST).read_bytes())
    with pytest.raises(ValueError, match="deleted labels"):
        replace(manifest, segments=())
    (record,) = manifest.segments
    altered = replace(manifest, segments=(replace(record, count=COUNT + 1),))
    (folder / MANIFEST).write_bytes(altered.to_bytes())
    with pytest.raises(IndexRefused, match="other labels"):
        opened(folder.rename(folder.parent / altered.name))


def test_a_refused_generation_is_passed_over_and_rebuilt(tmp_path: Path) -> None:
    vectors = random_vectors(COUNT)
    first = publish(tmp_path, vectors[:200])
    second = publish(tmp_path, vectors)
    graph = segment_of(second) / GRAPH
    graph.write_bytes(b"\0" * graph.stat().st_size)
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
    assert remove_unused(partition_folder(tmp_path, MODEL, REGION), now_s=0) == ()
    folder = publish(tmp_path, random_vectors(3), graph=WITHOUT_GRAPH)
    (segment_of(folder) / VECTORS).unlink()
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
    folder = publish(tmp_path, random_vectors(COUNT), graph=replace(WITH_GRAPH, least_recall=1.1))
    assert not (segment_of(folder) / GRAPH).exists()
    assert opened(folder).segments[0].graph is None


def test_equal_vectors_do_not_count_against_recall(tmp_path: Path) -> None:
    vectors = np.repeat(random_vectors(20), 10, axis=0)
    text = (segment_of(publish(tmp_path, vectors)) / MANIFEST).read_bytes()
    graph = SegmentManifest.from_bytes(text).graph
    assert graph is None or graph.recall is None or graph.recall >= 0.95
    partition = newest_partition(tmp_path)
    assert partition is not None
    assert len(partition.search(vectors[0], 10).labels) == 10


def test_old_generations_go_after_the_grace_and_only_then(tmp_path: Path) -> None:
    folders = [publish(tmp_path, random_vectors(3, seed=turn), graph=WITHOUT_GRAPH) for turn in range(3)]
    segments = [segment_of(folder) for folder in folders]
    for folder, segment, published_s in zip(folders, segments, (1000, 2000, 3000), strict=True):
        os.utime(folder, (published_s, published_s))
        os.utime(segment / MANIFEST, (published_s, published_s))
    parent = folders[0].parent
    assert remove_unused(parent, now_s=2050, grace_s=100) == ()
    reader = opened(folders[0])
    assert remove_unused(parent, now_s=2100, grace_s=100) == (folders[0].name,)
    assert [segment.exists() for segment in segments] == [False, True, True]
    assert np.array_equal(reader.segments[0].vectors, random_vectors(3))  # open files outlive their names
    assert remove_unused(parent, now_s=9e9, grace_s=100) == (folders[1].name,)
    assert generation_names(parent) == [folders[2].name]


def test_refusals_name_no_path(folder: Path) -> None:
    (segment_of(folder) / VECTORS).unlink()
    with pytest.raises(RadirError) as refusal:
        opened(folder)
    assert str(folder.parent) not in str(refusal.value)


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are read in full."""
    read: list[str] = []

    def noted(path: Path, *rest: Any) -> os.stat_result:
        read.append(path.name)
        return check_file(path, *rest)

    monkeypatch.setattr(files, "check_file", noted)
    monkeypatch.setattr(files, "_SETTLED_NS", 0)
    return read


def test_what_was_checked_is_not_read_again_at_opening(folder: Path, checks: list[str]) -> None:
    opened(folder)
    assert set(checks) == {VECTORS, LABELS, GRAPH}, "copied files were never checked here"
    checks.clear()
    opened(folder)
    assert checks == []


@pytest.mark.parametrize("name", [VECTORS, LABELS, GRAPH])
def test_bytes_that_flip_after_the_check_are_never_searched(folder: Path, checks: list[str], name: str) -> None:
    """Also where whoever flips them puts the times of the file back."""
    opened(folder)
    path = segment_of(folder) / name
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(before.st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    for _ in range(2):
        with pytest.raises(IndexRefused, match="altered"):
            opened(folder)


def test_a_process_that_dies_with_a_segment_open_has_it_read_again(folder: Path, checks: list[str]) -> None:
    """A crash may be the sign of damage beneath the file system, which no file's times tell."""
    opened(folder)
    program = """
import os, sys
from pathlib import Path
from tests.index_material import opened
generation = opened(Path(sys.argv[1]))
print("open", flush=True)
sys.stdin.read()
"""
    root = Path(__file__).resolve().parents[2]
    for kill in (False, True):
        child = subprocess.Popen(
            [sys.executable, "-c", program, str(folder)], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert child.stdout is not None and child.stdout.readline() == b"open\n"
        checks.clear()
        opened(folder)
        assert checks == [], "another process has it open"
        if kill:
            child.kill()
        child.communicate(timeout=60)
        checks.clear()
        opened(folder)
        assert bool(checks) == kill
    checks.clear()
    opened(folder)
    assert checks == []


def test_a_note_from_the_moment_of_a_change_is_not_believed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(folder)
    segment = segment_of(folder)
    records = SegmentManifest.from_bytes((segment / MANIFEST).read_bytes()).files
    assert not files.is_noted(segment, records), "the copy was made a moment ago"
    monkeypatch.setattr(files, "_SETTLED_NS", 0)
    assert files.is_noted(segment, records)


@pytest.mark.parametrize("text", [b"", b"null", b"[]", b"{}", b'{"at_ns": 1}', b'{"at_ns": "x", "files": 3}'])
def test_any_text_for_a_note_means_another_check(folder: Path, checks: list[str], text: bytes) -> None:
    (segment_of(folder) / "checked.json").write_bytes(text)
    opened(folder)
    assert checks


def test_the_background_check_reads_every_file(folder: Path) -> None:
    read: list[int] = []
    check_generation(folder, read.append)
    sizes_bytes = [path.stat().st_size for path in (*segment_of(folder).iterdir(), folder / DELETED)]
    assert sum(read) >= sum(sizes_bytes) - sum(
        (segment_of(folder) / name).stat().st_size for name in (MANIFEST, "checked.json")
    )
    for name in (f"segment/{VECTORS}", f"segment/{LABELS}", f"segment/{GRAPH}", DELETED):
        path = file_of(folder, name)
        content = path.read_bytes()
        path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
        with pytest.raises(IndexRefused):
            check_generation(folder, lambda _: None)
        path.write_bytes(content)
