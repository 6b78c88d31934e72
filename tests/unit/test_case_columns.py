"""Columns of codes: as narrow as the words allow, and filters over few and many of them."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from radir_pacs.catalogue import CASE_FIELDS, CaseChanges, Catalogue
from radir_pacs.query.case_table import CaseTable
from radir_pacs.similar_cases import Filters

WORDS = 300  # more than a byte tells apart


def changes(first: int, last: int) -> CaseChanges:
    """Case n has the modality "Mn", for which n stands as its hash; labels begin at 1."""
    rows = np.zeros(last - first + 1, np.dtype(list(CASE_FIELDS.items())))
    rows["id"] = rows["modalities"] = np.arange(first, last + 1)
    return CaseChanges(rows=rows, gone=np.empty(0, np.int64), xid=str(last))


def words(ids: Sequence[int]) -> list[tuple[str, int, str]]:
    return [("modalities", number, f"M{number}") for number in ids]


def table() -> CaseTable:
    return CaseTable("m", cast(Catalogue, SimpleNamespace(cases=SimpleNamespace(words=words))))


def passing(cases: CaseTable, modalities: set[int]) -> set[int]:
    allowed = cases.allowed(Filters(modalities=frozenset(f"M{number}" for number in modalities)), like=0)
    assert allowed is not None
    return {int(row) + allowed.base for row in np.flatnonzero(allowed.mask)}


def test_a_column_widens_with_its_words_and_keeps_what_stands_in_it() -> None:
    cases = table()
    cases.take(changes(1, 10))
    narrow = cases.nbytes
    assert passing(cases, {1, 10, 11}) == {1, 10}
    cases.take(changes(11, WORDS))
    assert passing(cases, {1, 10, 11, WORDS}) == {1, 10, 11, WORDS}
    assert narrow == 10 * 17  # bytes per case: date and age of 4, nine more of 1
    assert cases.nbytes == WORDS * 18


def test_many_words_pass_as_few_do() -> None:
    cases = table()
    cases.take(changes(1, WORDS))
    many = set(range(20, 20 + 50))
    assert passing(cases, many) == many
    assert passing(cases, {WORDS + 1}) == set()


def test_a_word_learned_after_many_were_judged_does_not_pass() -> None:
    cases: Any = table()
    cases.take(changes(1, 50))
    [(column, passes)] = cases._conditions(Filters(modalities=frozenset(f"M{n}" for n in range(1, 60))), like=0)
    cases.take(changes(51, 60))
    assert np.flatnonzero(passes(cases._columns[column])).tolist() == list(range(50))
