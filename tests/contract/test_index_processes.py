"""Several processes answer from the same mapped files while segments are merged and cleared away, and are killed."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from radir_pacs.index import GraphSettings, exact_search, merge, open_generation, partition_folder, remove_unused
from radir_pacs.index.generation import SEGMENTS, generation_names
from radir_pacs.types import F32, I64
from tests.index_material import BUILT_AT, DIM, MODEL, REGION, random_vectors

ROOT = Path(__file__).resolve().parents[2]
TURNS, MOST = 24, 150

READER = """
import json, sys
import numpy as np
from pathlib import Path
from radir_pacs.index import Partition, open_generation
from tests.index_material import DIM, MODEL, REGION
partition, generation = Partition(model_id=MODEL, region=REGION, dim=DIM), None
for line in sys.stdin:
    told = json.loads(line)
    if told["generation"] and (generation is None or generation.name != told["generation"]):
        folder = Path(sys.argv[1]) / told["generation"]
        generation = open_generation(folder, model_id=MODEL, region=REGION, dim=DIM, reuse=generation)
        partition.swap(generation)
    vectors = np.array(told["vectors"], np.float32).reshape(-1, DIM)
    labels, gone = np.array(told["labels"], np.int64), np.array(told["gone"], np.int64)
    partition.apply(labels=labels, vectors=vectors, deleted=gone)
    hits = [partition.search(np.array(query, np.float32), 5) for query in told["queries"]]
    print(json.dumps([partition.count, [hit.labels.tolist() for hit in hits]]), flush=True)
"""


class Archive:
    """What the catalogue does: every vector there was, what is gone, and the generation that answers."""

    def __init__(self) -> None:
        self.vectors: dict[int, F32] = {}
        self.gone: set[int] = set()
        self.generation: str | None = None
        self.held: set[int] = set()  # by the generation or deleted before it
        self.gone_before: set[int] = set()

    @property
    def live(self) -> I64:
        return np.array(sorted(set(self.vectors) - self.gone), np.int64)

    def rows(self, labels: I64) -> F32:
        return np.array([self.vectors[label] for label in labels.tolist()], np.float32).reshape(-1, DIM)

    def feed(self) -> dict[str, Any]:
        """What a process that begins now has to know beyond the generation."""
        new = np.array(sorted(set(self.live.tolist()) - self.held), np.int64)
        gone = sorted(self.gone - self.gone_before)
        vectors = self.rows(new).tolist()
        return {"generation": self.generation, "labels": new.tolist(), "vectors": vectors, "gone": gone}


class Readers:
    """Two processes with the partition open."""

    def __init__(self, folder: Path) -> None:
        self._command = [sys.executable, "-c", READER, str(folder)]
        self.running = [self._start(), self._start()]
        self.new = list(self.running)

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(self._command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def replace_one(self) -> None:
        """Kill one while it has files open, and start another."""
        self._end(self.running.pop(0))
        self.new = [self._start()]
        self.running += self.new

    def ask(self, told: dict[str, Any], gone: list[int]) -> list[Any]:
        """The answers of each. One that has run for longer is told all that is ``gone``, as if it read by itself."""
        answers = []
        for child in self.running:
            assert child.stdin is not None and child.stdout is not None
            child.stdin.write(json.dumps(told if child in self.new else told | {"gone": gone}) + "\n")
            child.stdin.flush()
            answers.append(json.loads(child.stdout.readline()))
        self.new = []
        return answers

    def close(self) -> None:
        for child in self.running:
            self._end(child)

    @staticmethod
    def _end(child: subprocess.Popen[str]) -> None:
        child.kill()
        child.communicate()


def test_they_answer_as_exact_search_does_whatever_happens_to_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = partition_folder(tmp_path, MODEL, REGION)
    random, archive = np.random.default_rng(0), Archive()
    everything = random_vectors(2000, seed=5)
    segments: set[int] = set()
    monkeypatch.setattr("radir_pacs.index.writer._SMALL", 10)
    with closing(Readers(folder)) as readers:
        for turn in range(TURNS):
            first = len(archive.vectors)
            added = range(first, first + int(random.integers(1, 60)))
            archive.vectors |= {label: everything[label] for label in added}
            archive.gone |= set(random.choice(archive.live, len(archive.live) // 20, replace=False).tolist())
            if turn % 2:
                segments.add(merged(folder, archive))
                remove_unused(folder, now_s=1e11, keep=archive.generation)
                assert generation_names(folder) == [archive.generation]
            if turn % 5 == 4:
                readers.replace_one()  # it begins from the generation
            queries = everything[random.integers(0, 2000, 4)]
            told = archive.feed() | {"queries": queries.tolist()}
            for count, answers in readers.ask(told, sorted(archive.gone)):
                assert count == len(archive.live)
                for query, answer in zip(queries, answers, strict=True):
                    truth, _ = exact_search(archive.rows(archive.live), archive.live, query, 5)
                    assert answer == truth.tolist()
    assert max(segments) > 2, "several segments answered at once"


def merged(folder: Path, archive: Archive) -> int:
    """Merge as the worker does; returns how many segments the new generation has."""
    current = None
    if archive.generation:
        current = open_generation(folder / archive.generation, model_id=MODEL, region=REGION, dim=DIM)
    feed = archive.feed()
    labels = np.array(feed["labels"], np.int64)
    manifest = merge(
        folder,
        model_id=MODEL,
        region=REGION,
        dim=DIM,
        generation=current,
        tail=[(labels, archive.rows(labels))],
        gone=np.array(feed["gone"], np.int64),
        built_at=BUILT_AT,
        graph=GraphSettings(from_count=100_000),
        most=MOST,
    )
    archive.generation = manifest.name
    archive.held = set(archive.vectors)
    archive.gone_before = set(archive.gone)
    assert {path.name for path in (folder / SEGMENTS).iterdir()} >= {record.name for record in manifest.segments}
    return len(manifest.segments)
