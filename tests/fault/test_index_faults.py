"""Power, disk or memory fails in the middle of a build: the last generation remains, nothing incomplete is visible."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from radir_pacs.errors import IndexRefused, SegmentAltered, StorageFailed
from radir_pacs.index import Partition, files, merge, partition_folder, remove_unused
from radir_pacs.index.generation import SEGMENTS, generation_names, open_segment
from radir_pacs.index.graph import Graph
from radir_pacs.index.manifest import DELETED, GRAPH, LABELS, MANIFEST, VECTORS
from tests.index_material import DIM, MODEL, REGION, WITHOUT_GRAPH, newest, opened, publish, random_vectors, segment_of

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 60

BUILDER = """
import sys
from pathlib import Path
from tests.index_material import publish, random_vectors
count = int(sys.argv[2])
while True:
    publish(Path(sys.argv[1]), random_vectors(count, seed=1))
"""

LIMITED_BUILDER = """
import resource, sys
from pathlib import Path
from radir_pacs.errors import StorageFailed
from tests.index_material import publish, random_vectors
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    publish(Path(sys.argv[1]), random_vectors(2000))
except StorageFailed as error:
    print(error)
    sys.exit(3)
"""


def python(program: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def contents(folder: Path) -> set[str]:
    """What stands in a partition's folder."""
    return {path.name for path in folder.iterdir()}


def wait_for(folder: Path, pattern: str, child: subprocess.Popen[str]) -> None:
    """Wait until a file that matches the pattern exists."""
    deadline = time.monotonic() + DEADLINE_S
    while not any(folder.glob(pattern)):
        assert time.monotonic() < deadline, f"no {pattern} within {DEADLINE_S} s"
        assert child.poll() is None, child.communicate()[1]


@pytest.mark.parametrize("stage", [VECTORS, LABELS, GRAPH, MANIFEST, DELETED])
def test_kill_9_in_a_build_leaves_nothing_visible(tmp_path: Path, stage: str) -> None:
    first = publish(tmp_path, random_vectors(20), graph=WITHOUT_GRAPH)
    builder = python(BUILDER, tmp_path, 3000)
    try:
        wait_for(first.parent, f".building-*/{stage}", builder)
    finally:
        builder.send_signal(signal.SIGKILL)
        builder.communicate()
    names = generation_names(first.parent)
    for name in names:
        opened(first.parent / name)
    for segment in (first.parent / SEGMENTS).glob("[0-9a-f]*"):  # one may stand that no generation lists yet
        open_segment(segment, model_id=MODEL, region=REGION, dim=DIM)
    if stage not in (MANIFEST, DELETED):  # a loop may have come round before the last stage was seen
        assert names == [first.name]
    abandoned = list(first.parent.glob(".building-*"))
    assert remove_unused(first.parent, now_s=time.time(), grace_s=3600) == ()  # too young to call abandoned
    removed = remove_unused(first.parent, now_s=time.time() + 7200, grace_s=3600)
    assert {build.name for build in abandoned} <= set(removed)
    assert not list(first.parent.glob(".*"))
    listed = {segment_of(first.parent / name) for name in generation_names(first.parent)}
    assert set((first.parent / SEGMENTS).glob("[0-9a-f]*")) == listed
    assert newest(first.parent) is not None


def test_a_build_that_lives_is_not_cleared_away(tmp_path: Path) -> None:
    folder = partition_folder(tmp_path, MODEL, REGION)
    builder = python(BUILDER, tmp_path, 20_000)
    try:
        wait_for(folder, f".building-*/{VECTORS}", builder)
        builder.send_signal(signal.SIGSTOP)
        (build,) = folder.glob(".building-*")
        assert remove_unused(folder, now_s=time.time() + 1e6) == ()
        assert build.is_dir()
    finally:
        builder.kill()
        builder.communicate()
    assert remove_unused(folder, now_s=time.time() + 1e6) == (build.name,)


@pytest.mark.parametrize("limit_bytes", [1000, 2000 * 8 - 1, 2000 * DIM * 4])  # the last has room for the vectors
def test_a_disk_that_takes_no_more_is_an_error_and_publishes_nothing(tmp_path: Path, limit_bytes: int) -> None:
    first = publish(tmp_path, random_vectors(5), graph=WITHOUT_GRAPH)
    builder = python(LIMITED_BUILDER, tmp_path, limit_bytes)
    output, errors = builder.communicate(timeout=DEADLINE_S)
    assert builder.returncode == 3, errors
    assert REGION in output
    assert str(tmp_path) not in output
    assert contents(first.parent) == {first.name, "segments"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 300 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a small file system cannot be mounted here")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.mark.parametrize("count", [1500, 2000, 10_000])
def test_a_full_disk_is_an_error_and_publishes_nothing(small_disk: Path, count: int) -> None:
    first = publish(small_disk, random_vectors(5), graph=WITHOUT_GRAPH)
    with pytest.raises(StorageFailed):
        publish(small_disk, random_vectors(count))
    assert contents(first.parent) == {first.name, "segments"}
    assert newest(first.parent) is not None


def test_a_graph_damaged_before_it_was_hashed_is_caught_in_the_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bad memory or a bug of the library: the hash is right and the graph is not. This process must not load it."""
    to_bytes, random, ends = Graph.to_bytes, np.random.default_rng(0), []

    def damaged(graph: Graph) -> npt.NDArray[np.uint8]:
        content = to_bytes(graph)
        content[random.integers(0, len(content), 2000)] ^= 0xFF
        return content

    monkeypatch.setattr(Graph, "to_bytes", damaged)
    folder = partition_folder(tmp_path, MODEL, REGION)
    for _ in range(5):
        try:
            generation = opened(publish(tmp_path, random_vectors(1000)))
        except IndexRefused as refusal:
            ends.append(str(refusal))
            continue
        ends.append("published without its graph")
        assert generation.segments[0].graph is None
        partition = Partition(model_id=MODEL, region=REGION, dim=DIM, generation=generation)
        assert partition.search(random_vectors(1000)[3], 1).scores[0] > 0.999
    assert any("crashed" in end or "failed its check" in end for end in ends), ends
    assert not list(folder.glob(".building-*"))


def test_a_check_that_cannot_start_publishes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(IndexRefused, match="no reason given"):
        publish(tmp_path, random_vectors(10))
    assert generation_names(partition_folder(tmp_path, MODEL, REGION)) == []


def test_a_process_without_a_free_descriptor_refuses_no_generation(tmp_path: Path) -> None:
    """It knows nothing of the file; others go on answering from it."""
    folder = publish(tmp_path, random_vectors(64))
    program = """
import resource, sys
from pathlib import Path
from radir_pacs.errors import StorageFailed
from tests.index_material import opened
resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
try:
    opened(Path(sys.argv[1]))
except StorageFailed as error:
    sys.exit(0 if "open files" in str(error) else 1)
sys.exit(2)
"""
    assert python(program, folder).wait(60) == 0
    assert opened(folder).manifest.count == 64


def test_a_process_that_ends_in_good_order_costs_the_next_no_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_SETTLED_NS", 0)  # else a note counts a second after the last change
    folder = publish(tmp_path, random_vectors(64))
    opened(folder)
    program = """
import os, sys
from pathlib import Path
from radir_pacs.index import remove_open_marks
from tests.index_material import opened
opened(Path(sys.argv[1]))
if sys.argv[2] == "released":
    remove_open_marks()
os._exit(0)
"""
    hashed: list[Path] = []
    really = files.check_folder

    def noted(where: Path, *rest: Any) -> None:
        hashed.append(where)
        really(where, *rest)

    monkeypatch.setattr(files, "check_folder", noted)
    for ending, counts in (("released", 0), ("left", 1)):
        assert python(program, folder, ending).wait(60) == 0
        hashed.clear()
        opened(folder)
        assert len(hashed) == counts, ending


def test_bytes_that_changed_since_they_were_opened_are_not_sealed_anew(tmp_path: Path) -> None:
    folder = publish(tmp_path, random_vectors(64))
    generation = opened(folder)
    vectors = np.memmap(segment_of(folder) / VECTORS, "<f4", "r+", shape=(64, DIM))
    vectors[[0, 1]] = vectors[[1, 0]]
    vectors.flush()
    tail = (np.arange(1000, 1064, dtype=np.int64), random_vectors(64, seed=2))
    nothing = np.empty(0, np.int64)
    with pytest.raises(SegmentAltered):
        merge(
            folder.parent,
            model_id=MODEL,
            region=REGION,
            dim=DIM,
            generation=generation,
            tail=[tail],
            gone=nothing,
            built_at=datetime.now(UTC),
        )
    assert generation_names(folder.parent) == [generation.name]
