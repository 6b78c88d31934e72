"""A small HTTP client that times answers: keep-alive, one process per client; answers are not parsed while timing."""

from __future__ import annotations

import http.client
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context

import numpy as np

DICOM_JSON = "application/dicom+json"


@dataclass(kw_only=True)
class Answers:
    """What one kind of question got: seconds, statuses and bodies, in the order of asking (client by client)."""

    seconds: list[float] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    def ms(self, percentile: float) -> float:
        return float(np.percentile(self.seconds, percentile)) * 1e3


def ask(port: int, paths: Sequence[str], within_s: float, unmeasured: int = 3) -> Answers:
    """GET each path once, until ``within_s`` are over; the first ``unmeasured`` are asked beforehand."""
    answers = Answers()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        for path in paths[:unmeasured]:
            _get(connection, path)
        deadline = time.monotonic() + within_s
        for path in paths:
            began = time.perf_counter()
            status, body = _get(connection, path)
            answers.seconds.append(time.perf_counter() - began)
            answers.statuses.append(status)
            answers.bodies.append(body)
            if time.monotonic() > deadline:
                break
    finally:
        connection.close()
    return answers


def _get(connection: http.client.HTTPConnection, path: str) -> tuple[int, bytes]:
    connection.request("GET", path, headers={"Accept": DICOM_JSON})
    response = connection.getresponse()
    return response.status, response.read()


class Clients:
    """Processes that ask at the same time; started once, so that their start is in no figure."""

    def __init__(self, count: int) -> None:
        self._pool = ProcessPoolExecutor(count, mp_context=get_context("spawn"))
        list(self._pool.map(time.sleep, [0.2] * count))

    def ask(
        self, port: int, paths: Sequence[str], within_s: float, *, clients: int = 1, unmeasured: int = 3
    ) -> Answers:
        """Each of ``clients`` asks its share of the paths, as `ask` does."""
        shares = [paths[number::clients] for number in range(clients)]
        together = Answers()
        for asking in [self._pool.submit(ask, port, share, within_s, unmeasured) for share in shares]:
            one = asking.result()
            together.seconds += one.seconds
            together.statuses += one.statuses
            together.bodies += one.bodies
        return together

    def close(self) -> None:
        self._pool.shutdown()
