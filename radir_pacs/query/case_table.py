"""The attributes that filters look at, of every case of one model: columns in memory, so that a filter is a mask.

A case's row is its label (encoding id) less ``base``. Labels are handed out in order, so that the columns have few
holes: those of encodings that are gone, and of the other model's. The catalogue's feed keeps the table up to date; text
is held as a code, as narrow as the few different words beside it allow. What a column cannot say (a finding, a name)
the database answers once, and later for the cases that changed since.
"""

from __future__ import annotations

import functools
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from cachetools import LRUCache

from radir_pacs.catalogue import CASE_FIELDS, NO_DAY, CaseChanges, Catalogue
from radir_pacs.catalogue.qido import QidoLevel, QidoQuery
from radir_pacs.index import Allowed
from radir_pacs.scopes import Scope, Withheld
from radir_pacs.similar_cases import Filters
from radir_pacs.study_attributes import COUNTED, STUDY_ATTRIBUTES
from radir_pacs.types import I64

Mask = npt.NDArray[np.bool_]
Column = npt.NDArray[Any]
Condition = tuple[str, Callable[[Column], Mask]]  # a column, and which of its values pass
Asker = Callable[[I64 | None], I64]
"""Asks the database which labels pass, of all (None) or of some."""

_PLAIN = {"day": np.int32, "age": np.float32, "has_report": np.bool_, "withheld": np.int8}
_WORDS = ("sex", "modalities", "body_part", "scanner", "sites", "departments")
_MASKS = 64  # answers of the database that are kept, 1 byte per case each
_MOST_ASKED_AGAIN = 10_000  # after more changes than this, the database is asked about all cases
_SPARE = 1.25  # growth of the columns
_FEW = 8  # words that pass a filter
# Keys whose changes the feed tells of; what headers of instances hold is asked for each time.
_KEPT = frozenset((attribute.tag,) for attribute in STUDY_ATTRIBUTES if attribute.name not in COUNTED)
_EPOCH = np.datetime64("1970-01-01", "D")
assert {"id", *_PLAIN, *_WORDS} == set(CASE_FIELDS)


@dataclass
class _Answer:
    """What the database said, as of a version of the table."""

    mask: Mask
    base: int
    version: int


class CaseTable:
    """Safe for many threads. ``since``: the ``xid`` of the last reading that was taken in."""

    def __init__(self, model_id: str, catalogue: Catalogue) -> None:
        self.model_id = model_id
        self._catalogue = catalogue
        self._lock = threading.RLock()
        self._base = 0
        self._live: Mask = np.zeros(0, np.bool_)
        self._columns: dict[str, Column] = {
            **{name: np.zeros(0, kind) for name, kind in _PLAIN.items()},
            **{name: np.zeros(0, np.uint8) for name in _WORDS},
        }
        self._codes: dict[str, dict[int, int]] = {name: {0: 0} for name in _WORDS}
        self._words: dict[str, list[str]] = {name: [""] for name in _WORDS}
        self._version = 0
        self._changed: deque[tuple[int, I64]] = deque()  # version, labels: for answers that are older
        self._n_changed = 0  # labels in it, the same one perhaps several times
        self._forgotten = 0  # the highest version whose labels are not in `_changed` any more
        self._answers: LRUCache[object, _Answer] = LRUCache(_MASKS)
        self.since = "0"

    @property
    def nbytes(self) -> int:
        """Memory held."""
        with self._lock:
            masks = sum(answer.mask.nbytes for answer in self._answers.values())
            return masks + self._live.nbytes + sum(column.nbytes for column in self._columns.values())

    def take(self, changes: CaseChanges) -> None:
        """Add or renew rows, then drop what is gone; both may be repeated. Asks the database for new words.

        Rows of a reading older than the last one are older than what stands here, which has them all.
        """
        if len(changes.rows):
            self._learn(changes.rows)
        with self._lock:
            if len(changes.rows) and int(changes.xid) >= int(self.since):
                self._put(changes.rows)
            gone = changes.gone - self._base
            self._live[gone[(gone >= 0) & (gone < len(self._live))]] = False
            self.since = max(self.since, changes.xid, key=int)

    def allowed(
        self, filters: Filters, *, like: int, said: str | None = None, newest: int | None = None
    ) -> Allowed | None:
        """Which cases pass ``filters`` and have no label above ``newest``; None: all.

        like: the label whose scanner counts where ``same_scanner`` is asked for. said: a path (SQL/JSON) that must
        exist in the mined findings of the case's report; the caller makes it of ``filters.finding``. Raises BadInput
        for keys that cannot be compared.
        """
        conditions, within = self._conditions(filters, like), self._of_scope(filters.scope)
        askers: dict[object, Asker] = {}
        keys: QidoQuery | None = None
        if said is not None:
            askers[said] = lambda among: self._catalogue.cases.affirming(self.model_id, said, among)
        kept = all(match.path in _KEPT for match in filters.keys)
        if filters.keys:
            keys = QidoQuery(level=QidoLevel.STUDY, limit=0, matches=filters.keys, fuzzy=filters.fuzzy)
            askers[keys] = lambda among: self._catalogue.cases.matching(self.model_id, keys, among)
        if not conditions and not within and not askers and newest is None:
            return None
        while True:
            answers = [self._answer(key, ask, kept=key is not keys or kept) for key, ask in askers.items()]
            opened = self._opened(filters.scope) if within else None
            with self._lock:
                if any(answer.base != self._base for answer in (*answers, *((opened,) if opened else ()))):
                    continue  # earlier labels came meanwhile, and every column moved
                mask = self._live.copy()
                for column, passes in within:
                    mask &= passes(self._columns[column])
                if opened is not None:
                    reached = opened.mask[: len(mask)]
                    mask[: len(reached)] |= reached & self._live[: len(reached)]
                for column, passes in conditions:
                    mask &= passes(self._columns[column])
                for answer in answers:
                    mask[: len(answer.mask)] &= answer.mask[: len(mask)]
                    mask[len(answer.mask) :] = False
                if newest is not None:
                    mask[max(0, newest + 1 - self._base) :] = False
                return Allowed(base=self._base, mask=mask)

    def _conditions(self, filters: Filters, like: int) -> list[Condition]:
        """Column and test of each filter that restricts."""
        found: list[Condition] = []
        if filters.study_date_from is not None:
            first = int((np.datetime64(filters.study_date_from) - _EPOCH).astype(int))
            found.append(("day", lambda days: days >= first))
        if filters.study_date_to is not None:
            last = int((np.datetime64(filters.study_date_to) - _EPOCH).astype(int))
            found.append(("day", lambda days: (days <= last) & (days != NO_DAY)))
        if filters.age_from is not None:
            youngest = np.float32(filters.age_from)
            found.append(("age", lambda ages: ages >= youngest))
        if filters.age_to is not None:
            oldest = np.float32(filters.age_to)
            found.append(("age", lambda ages: ages <= oldest))
        if filters.with_report:
            found.append(("has_report", lambda has: has.astype(np.bool_, copy=False)))
        if filters.sexes:
            found.append(self._by_word("sex", lambda word: word in filters.sexes))
        if filters.modalities:
            found.append(self._by_word("modalities", lambda word: bool(filters.modalities & set(word.split("\\")))))
        if filters.body_part is not None:
            wanted = filters.body_part.lower()
            found.append(self._by_word("body_part", lambda word: word.lower() == wanted))
        if filters.same_scanner:
            scanner = self._word_of("scanner", like)
            found.append(self._by_word("scanner", lambda word: bool(word) and word == scanner))
        return found

    def _of_scope(self, scope: Scope) -> list[Condition]:
        """The same of what may be seen: `Scope.admits`."""
        found = self._conditions(Filters(study_date_from=scope.since, study_date_to=scope.until), like=0)
        if scope.sites:
            found.append(self._by_word("sites", lambda word: scope.admits_sites(word.split("\\") if word else ())))
        if scope.departments:
            found.append(
                self._by_word("departments", lambda word: scope.admits_departments(word.split("\\") if word else ()))
            )
        if scope.modalities:
            found.append(self._by_word("modalities", lambda word: scope.admits_modalities(word.split("\\"))))
        if scope.sees < Withheld.FROM_ALL:
            found.append(("withheld", lambda degrees: degrees <= int(scope.sees)))
        return found

    def _opened(self, scope: Scope) -> _Answer | None:
        """The cases that are open in an emergency, asked for anew each time: they are few, for an hour."""
        if not scope.opened:
            return None
        uids = sorted(scope.opened)
        return self._answer(uids[0], lambda among: self._catalogue.cases.of_studies(self.model_id, uids), kept=False)

    def _by_word(self, column: str, passes: Callable[[str], bool]) -> Condition:
        with self._lock:
            passing = [code for code, word in enumerate(self._words[column]) if passes(word)]
            n_words = len(self._words[column])
        if not passing:
            return column, lambda codes: np.zeros(len(codes), np.bool_)
        if len(passing) <= _FEW:  # comparing a narrow column once for each is soon done
            return column, lambda codes: functools.reduce(np.bitwise_or, [codes == code for code in passing])
        by_code = np.zeros(n_words + 1, np.bool_)  # the last one is for words learned since: nobody judged them
        by_code[passing] = True
        return column, lambda codes: by_code.take(codes, mode="clip")

    def _word_of(self, column: str, label: int) -> str:
        with self._lock:
            row = label - self._base
            return self._words[column][int(self._columns[column][row])] if 0 <= row < len(self._live) else ""

    def _answer(self, key: object, ask: Asker, *, kept: bool) -> _Answer:
        """The database's answer as of now; if it is ``kept``, only cases that changed are asked about again."""
        with self._lock:
            known = self._answers.get(key) if kept else None
            if known is not None and known.version < self._forgotten:
                known = None
            version, base, span = self._version, self._base, len(self._live)
            changed = [labels for when, labels in self._changed if known is not None and when > known.version]
        again = np.unique(np.concatenate(changed)) if changed else np.empty(0, np.int64)
        if known is not None and not len(again):
            return known
        mask = np.zeros(span, np.bool_)
        if known is None:
            found = ask(None) - base
        else:
            mask[: len(known.mask)] = known.mask
            mask[again - base] = False
            found = ask(again) - base
        mask[found[(found >= 0) & (found < span)]] = (
            True  # labels beyond the mask came later: they are among what changed
        )
        answer = _Answer(mask, base, version)
        with self._lock:
            if kept and base == self._base and version >= self._forgotten:
                self._answers[key] = answer
        return answer

    def _learn(self, rows: Column) -> None:
        """Look up the words of hashes that are new, before any row bears their code."""
        while True:
            examples: dict[int, None] = {}
            for column in _WORDS:
                hashes, first = np.unique(rows[column], return_index=True)
                with self._lock:
                    unknown = ~np.isin(hashes, list(self._codes[column]))
                examples |= dict.fromkeys(rows["id"][first[unknown]].tolist())
            if not examples:
                return
            for column, number, word in self._catalogue.cases.words(list(examples)):
                with self._lock:
                    if number not in self._codes[column]:
                        self._codes[column][number] = len(self._words[column])
                        self._words[column].append(word)
            # An example that changed meanwhile has another word by now; news of it follow. Ask another one.
            rows = rows[~np.isin(rows["id"], list(examples))]

    def _put(self, rows: Column) -> None:
        labels = rows["id"]
        self._make_room(int(labels.min()), int(labels.max()))
        places = labels - self._base
        for name in _PLAIN:
            self._columns[name][places] = rows[name]
        for name in _WORDS:
            hashes, which = np.unique(rows[name], return_inverse=True)
            codes = np.array([self._codes[name].get(number, 0) for number in hashes.tolist()], np.int64)
            column = _wide_enough(self._columns[name], len(self._words[name]))
            column[places] = codes[which]
            self._columns[name] = column
        self._live[places] = True
        self._version += 1
        self._changed.append((self._version, labels.copy()))
        self._n_changed += len(labels)
        while self._n_changed > _MOST_ASKED_AGAIN:
            self._forgotten, forgotten = self._changed.popleft()
            self._n_changed -= len(forgotten)

    def _make_room(self, lowest: int, highest: int) -> None:
        span = len(self._live)
        if span and self._base <= lowest and highest < self._base + span:
            return
        base = min(lowest, self._base) if span else lowest
        end = max(highest + 1, self._base + span)
        if span and highest >= self._base + span:
            end = max(end, base + int(span * _SPARE))
        shift = self._base - base if span else 0
        if shift:
            self._answers.clear()  # they were asked by another base
        for name, column in {**self._columns, "": self._live}.items():
            wider = np.zeros(end - base, column.dtype)
            wider[shift : shift + span] = column
            if name:
                self._columns[name] = wider
            else:
                self._live = wider.astype(np.bool_, copy=False)
        self._base = base


def _wide_enough(column: Column, n_words: int) -> Column:
    """A column of codes, as wide as the highest of ``n_words`` codes needs; the same array where it is."""
    needed = np.min_scalar_type(n_words - 1)
    return column if column.dtype.itemsize >= needed.itemsize else column.astype(needed)
