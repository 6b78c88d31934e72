"""Filters are masks by label, and a change costs what changes."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from radir_pacs.index import Allowed, Partition
from radir_pacs.index.label_set import LabelSet
from radir_pacs.index.segment import Segment
from radir_pacs.types import I64
from tests.index_material import DIM, MODEL, REGION, random_vectors

LABELS = st.sets(st.integers(-20, 60), max_size=30)


def ascending(labels: set[int]) -> I64:
    return np.array(sorted(labels), np.int64)


@given(LABELS, st.lists(st.integers(-30, 70)), st.integers(-30, 70), st.integers(0, 60))
def test_a_mask_admits_its_labels_and_no_other(labels: set[int], asked: list[int], base: int, span: int) -> None:
    allowed = Allowed.of(ascending(labels))
    assert allowed.has(np.array(asked, np.int64)).tolist() == [label in labels for label in asked]
    assert allowed.window(base, span).tolist() == [label in labels for label in range(base, base + span)]


def test_only_a_mask_filters() -> None:
    for wrong in (np.ones(3, np.uint8), np.ones((2, 2), np.bool_)):
        with pytest.raises(ValueError, match="mask"):
            Allowed(0, wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("step", [1, 3, 50])  # without gaps, with gaps, far apart
@given(allowed=st.one_of(st.none(), st.sets(st.integers(-5, 1100), max_size=60)), hidden=st.sets(st.integers(0, 19)))
def test_a_segment_lets_through_what_is_allowed_and_not_hidden(
    step: int, allowed: set[int] | None, hidden: set[int]
) -> None:
    labels = np.arange(20, dtype=np.int64) * step + 7
    segment = Segment(labels=labels, vectors=random_vectors(20))
    gone = labels[sorted(hidden)]
    mask = segment.mask(None if allowed is None else Allowed.of(ascending(allowed)), gone)
    expected = [
        row for row, label in enumerate(labels.tolist()) if row not in hidden and (allowed is None or label in allowed)
    ]
    if mask is None:
        assert len(expected) == 20
        return
    assert segment.rows(mask).tolist() == expected
    rows = np.arange(20)
    assert rows[mask[segment.places(rows)]].tolist() == expected
    assert np.count_nonzero(mask) == len(expected)


@given(st.lists(st.sets(st.integers(0, 5000), max_size=2000), max_size=4))
def test_a_label_set_is_a_set(additions: list[set[int]]) -> None:
    known: set[int] = set()
    labels = LabelSet()
    for addition in additions:
        before, labels = labels, labels.plus(ascending(addition))
        assert len(before) == len(known)
        known |= addition
        assert labels.has(np.arange(5001)).tolist() == [label in known for label in range(5001)]
        assert labels.among(np.arange(1000)).tolist() == sorted(label for label in known if label < 1000)
    assert len(labels) == len(known)


def test_what_is_known_changes_nothing_and_a_change_copies_nothing_else() -> None:
    """One of 100,000 is added or deleted: no array as long as the partition is made."""
    count = 100_000
    partition = Partition(model_id=MODEL, region=REGION, dim=DIM)
    labels, vectors = np.arange(count), random_vectors(count)
    partition.apply(labels=labels, vectors=vectors)
    partition.apply(labels=labels[:1] + count, vectors=vectors[:1])  # room is made once
    before = partition._snapshot
    partition.apply()
    partition.apply(labels=labels[5:9], vectors=vectors[5:9])
    assert partition._snapshot is before
    tracemalloc.start()
    partition.apply(labels=labels[:1] + count + 1, vectors=vectors[:1], deleted=labels[7:8])
    assert partition.search(vectors[7], 1).labels[0] != 7
    assert partition.candidates() == partition.count == count + 1
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    before_peak = peak
    tracemalloc.start()
    for label in range(10, 20):
        partition.apply(labels=labels[:1] + count + label, vectors=vectors[:1], deleted=labels[label : label + 1])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000 < before_peak, "a search may take memory for every row, a change may not"
