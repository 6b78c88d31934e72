"""Group commit: what several threads want to write at the same time becomes one transaction.

No writer waits for others to join: one that comes alone writes at once, in its own thread; what comes while that
transaction runs is written by the next one, together with all else that came meanwhile.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T", bound="Prepared")
R = TypeVar("R")


class Prepared:
    """An item with a part (``prepare``) that its own thread does while others write; it must precede the commit."""

    def __init__(self, prepare: Callable[[], object]) -> None:
        self._prepare = prepare
        self._owner = threading.get_ident()
        self._began = False
        self._ended = threading.Event()
        self._error: BaseException | None = None

    def done(self) -> None:
        """In its own thread: do the part, once. In another one: wait for it. Raises what the part raised."""
        if threading.get_ident() == self._owner and not self._began:
            self._began = True
            try:
                self._prepare()
            except BaseException as error:  # handed on to the thread that writes, which would wait for ever
                self._error = error
            self._ended.set()
        self._ended.wait()
        if self._error is not None:
            raise self._error


class _Waiting(Generic[T, R]):
    def __init__(self, item: T) -> None:
        self.item = item
        self.called = threading.Event()  # its outcome is there, or it is its turn to write
        self.outcome: list[R] = []
        self.error: BaseException | None = None


class GroupCommit(Generic[T, R]):
    """``write`` gets up to ``most`` items and returns an outcome for each; it is never run by two threads at once.

    It calls ``done`` of each item before it commits.
    """

    def __init__(self, write: Callable[[Sequence[T]], Sequence[R]], *, most: int) -> None:
        self._write, self._most = write, most
        self._lock = threading.Lock()
        self._queue: list[_Waiting[T, R]] = []
        self._is_writing = False

    def __call__(self, item: T) -> R:
        """The outcome of ``item``, once it is written. Raises what ``write`` raises, to everybody in the group."""
        mine: _Waiting[T, R] = _Waiting(item)
        with self._lock:
            self._queue.append(mine)
            leads, self._is_writing = not self._is_writing, True
        if not leads:
            with contextlib.suppress(Exception):  # whoever writes it sees the error too
                item.done()
            mine.called.wait()
        if not mine.outcome and mine.error is None:
            self._lead()
        if mine.error is not None:
            raise mine.error
        return mine.outcome[0]

    def _lead(self) -> None:
        """Write the head of the queue, where the caller's own item is, then call the next."""
        with self._lock:
            group, self._queue = self._queue[: self._most], self._queue[self._most :]
        try:
            outcomes = self._write([one.item for one in group])
            for one, outcome in zip(group, outcomes, strict=True):
                one.outcome.append(outcome)
        except BaseException as error:  # raised in each thread of the group, or they would wait for ever
            for one in group:
                one.error = error
        with self._lock:
            successors = self._queue[:1]
            self._is_writing = bool(successors)
        for one in (*successors, *group):
            one.called.set()
