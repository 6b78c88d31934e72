"""The index against its oracle: whatever happens to a partition, it answers as exact search over a dict would."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from hypothesis import HealthCheck, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from radir_pacs.errors import IndexRefused
from radir_pacs.index import (
    Generation,
    Partition,
    exact_search,
    merge,
    open_generation,
    partition_folder,
    remove_unused,
)
from radir_pacs.index.builder import GraphSettings
from radir_pacs.index.generation import generation_names, segment_folder
from radir_pacs.index.manifest import DELETED, MANIFEST, GenerationManifest
from radir_pacs.index.verify import check
from radir_pacs.types import F32, I64
from tests.examples import examples
from tests.index_material import BUILT_AT, difference, live, newest, selecting, sizes, unit

MODEL, REGION, DIM = "tiny-1", "heart", 4
MOST = 12  # vectors of a segment, so that there are several
VECTOR = st.lists(st.sampled_from([-2, -1, 1, 2]), min_size=DIM, max_size=DIM).map(unit)  # few values: many ties
LABELS = st.sets(st.integers(0, 60), max_size=8)
ALLOWED = st.one_of(st.none(), LABELS, LABELS.map(lambda left_out: set(range(200)) - left_out))


def check_here(folder: Path) -> float:
    """The check of a new segment without the child: hundreds of builds, none of them damaged."""
    return check(folder)


def ascending(labels: set[int]) -> I64:
    return np.array(sorted(labels), np.int64)


@dataclass(frozen=True)
class Build:
    """What a merge has read when it begins: the generation, what it lacks, and all that is gone."""

    generation: Generation | None
    tail: tuple[I64, F32]
    gone: I64


class IndexMachine(RuleBasedStateMachine):
    """``truth`` is the catalogue; ``partition`` is under test; ``stale`` is a build that began some steps ago."""

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp(prefix="radir-index-"))
        self.folder = partition_folder(self.home, MODEL, REGION)
        self.truth: dict[int, F32] = {}
        self.partition = Partition(model_id=MODEL, region=REGION, dim=DIM)
        self.history: dict[int, F32] = {}  # every vector there ever was
        self.gone_before_reopening: set[int] = set()  # a new reader is never told of these again
        self.next_label = 0
        self.stale: Build | None = None
        self.damaged: set[Path] = set()
        self.patches: list[Any] = [
            mock.patch("radir_pacs.index.part.ROWS_PER_CANDIDATE", 0.001),  # the graph wherever there is one
            mock.patch("radir_pacs.index.builder.verify_in_child", check_here),
            mock.patch("radir_pacs.durable.sync"),  # no power fails here
            mock.patch("radir_pacs.index.writer._SMALL", 2),
        ]
        for patch in self.patches:
            patch.start()

    def teardown(self) -> None:
        for patch in self.patches:
            patch.stop()
        shutil.rmtree(self.home)

    def vectors(self, labels: I64) -> F32:
        return np.array([self.truth[label] for label in labels.tolist()], np.float32).reshape(-1, DIM)

    @initialize(vectors=st.lists(VECTOR, min_size=15, max_size=40))
    def begin(self, vectors: list[F32]) -> None:
        self.change(vectors, set())
        self.merge(with_graph=True)

    @rule(vectors=st.lists(VECTOR, max_size=5), deleted=LABELS)
    def change(self, vectors: list[F32], deleted: set[int]) -> None:
        """New ids, as the catalogue gives them; ``deleted`` may name ids that are gone already."""
        added = dict(enumerate(vectors, self.next_label))
        self.next_label += len(added)
        deleted = {label for label in deleted if label < self.next_label}
        self.truth = {label: vector for label, vector in (self.truth | added).items() if label not in deleted}
        self.history |= added
        labels = ascending(set(added))
        self.partition.apply(
            labels=labels, vectors=np.array(vectors, np.float32).reshape(-1, DIM), deleted=ascending(deleted)
        )

    @rule()
    def read_all_additions_again(self) -> None:
        labels = ascending(set(self.history) - self.gone_before_reopening)
        vectors = np.array([self.history[label] for label in labels.tolist()], np.float32).reshape(-1, DIM)
        self.partition.apply(labels=labels, vectors=vectors)

    @rule(with_graph=st.booleans(), forget=st.booleans())
    def merge(self, with_graph: bool, forget: bool = False) -> None:
        self.publish(self.reading(), with_graph, forget)
        assert sizes(self.partition).tail == 0
        generation = self.generation()
        assert generation is not None
        assert generation.manifest.count == len(self.truth)
        assert all(len(part) for part in self.partition._snapshot.parts), (
            "a segment without a vector that answers is left out"
        )

    def generation(self) -> Generation | None:
        """The one that answers now."""
        generation = self.partition._snapshot.generation
        assert generation is None or isinstance(generation, Generation)
        return generation

    def reading(self) -> Build:
        generation = self.generation()
        held = {label for segment in generation.segments for label in segment.labels.tolist()} if generation else set()
        tail = ascending(set(self.truth) - held)
        return Build(generation, (tail, self.vectors(tail)), ascending(set(self.history) - set(self.truth)))

    @rule()
    def begin_slow_merge(self) -> None:
        self.stale = self.reading()

    @precondition(lambda self: self.stale is not None)
    @rule(with_graph=st.booleans())
    def end_slow_merge(self, with_graph: bool) -> None:
        assert self.stale is not None
        self.publish(self.stale, with_graph)
        self.stale = None

    def publish(self, begun: Build, with_graph: bool, forget: bool = False) -> None:
        labels, vectors = begun.tail
        manifest = merge(
            self.folder,
            model_id=MODEL,
            region=REGION,
            dim=DIM,
            generation=begun.generation,
            tail=[(labels[at : at + MOST], vectors[at : at + MOST]) for at in range(0, len(labels), MOST)],
            gone=begun.gone,
            built_at=BUILT_AT,
            forget=forget,
            graph=GraphSettings(from_count=1 if with_graph else 1000),
            most=MOST,
        )
        event(f"{min(len(manifest.segments), 4)} segments")
        current = self.generation()
        folder = self.folder / manifest.name
        self.partition.swap(open_generation(folder, model_id=MODEL, region=REGION, dim=DIM, reuse=current))

    @rule()
    def reopen(self) -> None:
        """A new reader: the newest generation, the difference from the catalogue."""
        generation = newest(self.folder, model_id=MODEL, region=REGION, dim=DIM)
        self.partition = Partition(model_id=MODEL, region=REGION, dim=DIM, generation=generation)
        missing, gone = difference(self.partition, ascending(set(self.truth)))
        self.partition.apply(labels=missing, vectors=self.vectors(missing), deleted=gone)
        self.gone_before_reopening = set(self.history) - set(self.truth)
        self.stale = None

    @precondition(lambda self: bool(generation_names(self.folder)))
    @rule(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), data=st.data())
    def damage_the_newest_and_reopen(self, place: float, bit: int, data: st.DataObject) -> None:
        newest = self.folder / generation_names(self.folder)[-1]
        folders = [newest]
        with contextlib.suppress(IndexRefused):  # it was damaged before
            listed = GenerationManifest.from_bytes((newest / MANIFEST).read_bytes()).segments
            folders += [segment_folder(self.folder, record.name) for record in listed]
        files = [path for folder in folders for path in sorted(folder.iterdir()) if path.name != "checked.json"]
        files = [path for path in files if not path.name.startswith(".") and path not in self.damaged]
        if files:
            self.damage(data.draw(st.sampled_from(files)), place, bit)

    def damage(self, path: Path, place: float, bit: int) -> None:
        """Of a file of the newest generation; the same bit turned twice would mend it."""
        newest = generation_names(self.folder)[-1]
        content = bytearray(path.read_bytes())
        if content:
            content[int(place * len(content))] ^= 1 << bit
            path.write_bytes(content)
            self.damaged.add(path)
            self.reopen()
            assert self.partition.generation != newest

    @rule()
    def clear_away(self) -> None:
        """As worker and relay do: the published generation stays, though a newer one stands that is damaged."""
        names, keep = generation_names(self.folder), self.partition.generation
        remove_unused(self.folder, now_s=1e10, keep=keep)
        left = generation_names(self.folder)
        assert left == [name for name in names if name in (keep, names[-1])]
        if self.stale is not None and self.stale.generation is not None and self.stale.generation.name not in left:
            self.stale = None  # after the hour of grace its writer has no lease: whatever it builds is not recorded

    @rule(
        query=VECTOR,
        k=st.one_of(st.integers(1, 8), st.just(50)),
        allowed=ALLOWED,
        excluded=st.one_of(st.none(), LABELS),
    )
    def search(self, query: F32, k: int, allowed: set[int] | None, excluded: set[int] | None) -> None:
        selection = selecting(
            None if allowed is None else ascending(allowed), None if excluded is None else ascending(excluded)
        )
        may = set(self.truth) if allowed is None else set(self.truth) & allowed
        hits = self.partition.search(query, k, selection)
        assert self.partition.candidates(selection) == len(may - (excluded or set()))
        event("exact" if hits.exact else "by the graph")
        labels = ascending(set(self.truth))
        expected, scores = exact_search(self.vectors(labels), labels, query, k, ascending(may - (excluded or set())))
        assert hits.labels.tolist() == expected.tolist()
        assert hits.scores.tolist() == scores.tolist()
        assert hits.generation == self.partition.generation

    @invariant()
    def holds_what_the_catalogue_holds(self) -> None:
        labels, vectors = live(self.partition)
        assert labels.tolist() == sorted(self.truth)
        assert np.array_equal(vectors, self.vectors(labels))
        assert sizes(self.partition).live == self.partition.count == len(labels)


IndexMachine.TestCase.settings = settings(
    max_examples=examples(40), stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
TestIndex = IndexMachine.TestCase


def test_an_older_generation_that_answers_outlives_a_damaged_newer_one() -> None:
    """Found by the machine: it cleared away the generation in use, and the next merge missed a segment."""
    machine = IndexMachine()
    try:
        with mock.patch(f"{__name__}.event"):
            machine.begin([unit([1, 2, -1, number % 5 - 3]) for number in range(30)])
            machine.begin_slow_merge()
            machine.change([unit([2, 1, 1, 1])], {0, 13, 14, 29})
            machine.merge(with_graph=False)
            older, newer = generation_names(machine.folder)
            machine.damage(machine.folder / newer / DELETED, 0.0, 0)
            assert machine.partition.generation == older
            machine.clear_away()
            assert machine.partition.generation == older
            machine.merge(with_graph=False, forget=True)
            machine.holds_what_the_catalogue_holds()
            machine.reopen()
            machine.holds_what_the_catalogue_holds()
    finally:
        machine.teardown()
