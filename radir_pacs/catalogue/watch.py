"""Watches whether the database answers: a deadline for every wait, and a circuit breaker.

libpq has no deadline for answers: a server stopped by a signal, a suspended machine or a lost network leaves a thread
waiting for ever, and statement timeouts are enforced by the server itself. So, as soon as any transaction takes longer
than a second, a thread sends a trivial query on its own connection. If there is no answer, it shuts down the sockets of
all waiting transactions, and new ones fail at once, until a query sent every second is answered.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
from psycopg import pq

log = logging.getLogger(__name__)

SLOW_S = 1.0  # a transaction that takes longer is a reason to ask
ANSWER_S = 4.0  # a server that does not answer "SELECT 1" for so long is away
CONNECT_S = 3
_LOOK_S = 0.25
_ASK_AGAIN_S = 1.0


class Ticket:
    """One transaction, from waiting for a connection to its end."""

    def __init__(self) -> None:
        self.since = time.monotonic()
        self.connection: psycopg.Connection[Any] | None = None


class Watch:
    """``on_away`` and ``on_back`` are called from its thread, and must not wait for the database."""

    def __init__(self, conninfo: str, *, on_away: Callable[[], None], on_back: Callable[[], None]) -> None:
        self._conninfo = conninfo
        self._on_away, self._on_back = on_away, on_back
        self._lock = threading.Lock()
        self._tickets: set[Ticket] = set()
        self._kept: psycopg.Connection[Any] | None = None
        self._suspected, self._decided, self._closed = threading.Event(), threading.Event(), False
        self.is_away = False
        self._thread = threading.Thread(target=self._run, name="database watch", daemon=True)
        self._thread.start()

    @contextlib.contextmanager
    def ticket(self) -> Iterator[Ticket]:
        """Watch over the body."""
        ticket = Ticket()
        with self._lock:
            self._tickets.add(ticket)
        try:
            yield ticket
        finally:
            with self._lock:
                self._tickets.discard(ticket)

    @contextlib.contextmanager
    def using(self, ticket: Ticket, connection: psycopg.Connection[Any]) -> Iterator[None]:
        """Inside the body, this connection waits for answers; it is cut when the server is away."""
        with self._lock:
            ticket.connection = connection
        try:
            yield
        finally:
            with self._lock:
                ticket.connection = None

    def suspect(self) -> None:
        """Query the server now, since something failed."""
        self._suspected.set()

    def await_answer(self, within_s: float) -> bool:
        """Whether the server answers, asking until it does: for callers that know it was started again."""
        deadline = time.monotonic() + within_s
        while self.is_away and time.monotonic() < deadline:
            self._decided.clear()
            self._suspected.set()
            self._decided.wait(deadline - time.monotonic())
        return not self.is_away

    def close(self) -> None:
        self._closed = True
        self._suspected.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(CONNECT_S + ANSWER_S)

    def _run(self) -> None:
        while not self._closed:
            suspected = self._suspected.wait(_ASK_AGAIN_S if self.is_away else _LOOK_S)
            self._suspected.clear()
            if self._closed:
                break
            if self.is_away or suspected or self._is_slow():
                self._decide(self._answers() or self._answers())  # the kept connection may have died in the meantime
        self._drop()

    def _is_slow(self) -> bool:
        before = time.monotonic() - SLOW_S
        with self._lock:
            return any(ticket.since < before for ticket in self._tickets)

    def _decide(self, answers: bool) -> None:
        if answers and self.is_away:
            log.warning("the database answers again")
            self._on_back()
            self.is_away = False
        elif not answers:
            if not self.is_away:
                log.error("the database does not answer")
                self.is_away = True
                self._on_away()
            self._cut()
        self._decided.set()

    def _cut(self) -> None:
        """End every wait for an answer: each waiting thread sees its connection lost."""
        with self._lock:
            for ticket in self._tickets:
                if ticket.connection is not None:
                    _shut_down(ticket.connection)

    def _answers(self) -> bool:
        """Whether the server answers within ``ANSWER_S``; a connection that failed is dropped."""
        try:
            if self._kept is None:
                self._kept = psycopg.connect(self._conninfo, autocommit=True, connect_timeout=CONNECT_S)
            _ask(self._kept.pgconn)
        except (psycopg.Error, OSError, TimeoutError):
            self._drop()
            return False
        return True

    def _drop(self) -> None:
        if self._kept is not None:
            _shut_down(self._kept)  # else closing it might wait
            with contextlib.suppress(psycopg.Error, OSError):
                self._kept.close()
            self._kept = None


def _ask(pgconn: pq.abc.PGconn) -> None:
    """Run one query with our own deadline. Raises TimeoutError, OSError or psycopg.Error."""
    deadline = time.monotonic() + ANSWER_S
    pgconn.send_query(b"SELECT 1")
    pgconn.flush()
    while True:
        while pgconn.is_busy():
            readable, _, _ = select.select([pgconn.socket], [], [], max(deadline - time.monotonic(), 0))
            if not readable:
                raise TimeoutError
            pgconn.consume_input()
        result = pgconn.get_result()
        if result is None:
            return
        if result.status != pq.ExecStatus.TUPLES_OK:
            raise psycopg.OperationalError("the server refused the query")


def _shut_down(connection: psycopg.Connection[Any]) -> None:
    with contextlib.suppress(psycopg.Error, OSError), socket.socket(fileno=os.dup(connection.fileno())) as sock:
        sock.shutdown(socket.SHUT_RDWR)
