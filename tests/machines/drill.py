"""An installation under load: a modality that sends, two readers who ask; how it goes on after a failure.

One reader asks for all cases there are, which the catalogue's vectors answer, the other for the best ones, which the
vector engine answers once a region has some hundred.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from radir_pacs.catalogue import Catalogue
from radir_pacs.delivery.destination import Destination
from radir_pacs.errors import StorageFailed
from radir_pacs.index.engine import engine_of
from radir_pacs.types import StudyState
from tests.machines.installation import FRONT, LISTENER_PORT, TOKEN, Installation
from tests.machines.load import Answer, Modality, Reader

RECOVERY_S = 300.0
MOST = 2000  # of an answer
BEST = 10
QUERY = 900_000  # the number of the study that is asked about
_END_S = 300.0  # until the modality and the readers have ended
_SENT = 1900  # fewer: an answer has all of them
_HELD = 800_000  # the first number of those that are there before the load begins


def uid_of(number: int) -> str:
    return f"2.25.7{number:06}"


@dataclass(frozen=True, kw_only=True)
class Failure:
    """What was done, and seconds from its end until …; None: nobody waited for it.

    ``unanswered_s``: the longest time without a right answer to the question for all cases, and to that for the best,
    from the beginning of the failure on. ``told``: how often which code was answered in place of cases; "" is silence.
    """

    name: str
    took_s: float
    taken_s: float
    answered_s: float
    found_s: float
    indexed_s: float
    by_engine_s: float | None
    unanswered_s: tuple[float, float]
    told: dict[str, int]

    def line(self) -> str:
        engine = "" if self.by_engine_s is None else f", by the engine {self.by_engine_s:.1f} s"
        told = ", ".join(f"{code or 'silence'} {count}" for code, count in self.told.items())
        return (
            f"{self.name}: taken {self.taken_s:.1f} s, answered {self.answered_s:.1f} s, found {self.found_s:.1f} s, "
            f"all indexed {self.indexed_s:.1f} s{engine}; unanswered {self.unanswered_s[0]:.1f} and "
            f"{self.unanswered_s[1]:.1f} s; told: {told or 'nothing'}"
        )


@dataclass
class Drill:
    """``engine``: the one that must answer questions for the best cases after each failure; none: nobody looks."""

    installation: Installation
    catalogue: Catalogue
    folder: Path
    rate_hz: float = 1.0
    engine: str = ""
    held: int = 0  # studies that stood before the load began
    failures: list[Failure] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)
    _indexed: set[str] = field(default_factory=set)
    _errors: list[BaseException] = field(default_factory=list)  # of the threads

    def __post_init__(self) -> None:
        peer = Destination(ae_title="RADIR", host=self.installation.network.address(FRONT), port=LISTENER_PORT)
        self.modality = Modality(peer, self.folder, self.rate_hz, _SENT)
        asked = f"{self.installation.web}/dicom-web/studies/{uid_of(QUERY)}/similar?anatomy=chest&limit="
        self.of_all = Reader(f"{asked}{MOST}", TOKEN, 0.5)
        self.of_best = Reader(f"{asked}{BEST}", TOKEN, 0.2)

    @property
    def readers(self) -> tuple[Reader, Reader]:
        return self.of_all, self.of_best

    def hold(self, count: int) -> None:
        """So many studies stand before the load begins."""
        self.held = count
        self.modality.send_all(range(_HELD, _HELD + count))
        self._wait_until_indexed()

    @contextlib.contextmanager
    def load(self) -> Iterator[None]:
        """A modality and two readers at work, who have all begun to succeed."""
        self.modality.send(QUERY, self.done)
        self._wait_until_indexed()
        threads = [
            threading.Thread(target=self._run, args=(one.run,), daemon=True) for one in (self.modality, *self.readers)
        ]
        for thread in threads:
            thread.start()
        try:
            with self.failure("the start"):
                pass
            yield
        finally:
            self.done.set()
            deadline = time.monotonic() + _END_S
            for thread in threads:
                thread.join(max(0.0, deadline - time.monotonic()))
        self._check_threads()
        assert not any(thread.is_alive() for thread in threads), self.installation.said()
        self._wait_until_indexed()
        for reader in self.readers:
            reader.answers.append(reader.ask())

    def _run(self, work: Callable[[threading.Event], None]) -> None:
        try:
            work(self.done)
        except BaseException as error:  # raised again by the thread of the test
            self._errors.append(error)

    def _check_threads(self) -> None:
        if self._errors:
            raise self._errors[0]

    @contextlib.contextmanager
    def failure(self, name: str) -> Iterator[None]:
        """In the body something fails. Afterwards everything goes on by itself, which is waited for and noted."""
        began = time.monotonic()
        yield
        ended = time.monotonic()
        took = self._recovered(name, ended)
        found = [_unanswered(reader.answers, began) for reader in self.readers]
        self.failures.append(
            Failure(
                name=name,
                took_s=ended - began,
                taken_s=took["taken"],
                answered_s=took["answered"],
                found_s=took["found"],
                indexed_s=took["indexed"],
                by_engine_s=took.get("by engine"),
                unanswered_s=(found[0], found[1]),
                told={code: count for (status, code), count in self._told(began).items() if status != 200},
            )
        )
        print(self.failures[-1].line(), flush=True)

    def _recovered(self, name: str, since: float) -> dict[str, float]:
        """Seconds until what came after ``since`` was taken, found and answered, and what came before is searchable."""
        awaited = set(self.modality.acknowledged)
        took: dict[str, float] = {}
        while len(took) < (5 if self.engine else 4):
            self._check_threads()
            now = time.monotonic()
            news = [study for study, (_, _, at) in list(self.modality.acknowledged.items()) if at > since]
            right = [one for one in self.of_all.answers[-20:] if one.began > since and one.status == 200]
            if news:
                took.setdefault("taken", now - since)
            if right:
                took.setdefault("answered", now - since)
            if any(study in answer.cases for study in news for answer in right):
                took.setdefault("found", now - since)
            if any(one.began > since and self._is_by_engine(one) for one in self.of_best.answers[-20:]):
                took.setdefault("by engine", now - since)
            if "indexed" not in took and self._are_indexed(awaited):
                took["indexed"] = time.monotonic() - since
            assert len(self.modality.acknowledged) < _SENT, "no study is left to be sent"
            assert now < since + RECOVERY_S, f"after {name}: {took}\n{self.installation.said()}"
            self.done.wait(0.05)
        return took

    def _is_by_engine(self, answer: Answer) -> bool:
        return answer.status == 200 and not answer.exact and engine_of(answer.generation) == self.engine

    def _are_indexed(self, studies: set[str]) -> bool:
        """Each is asked about until it is."""
        with contextlib.suppress(StorageFailed):
            for study in studies - self._indexed:
                if self.catalogue.studies.get(study).state is not StudyState.INDEXED:
                    return False  # the rest is looked at next time
                self._indexed.add(study)
        return studies <= self._indexed

    def wait_for_status(self, reader: Reader, status: int, code: str, *, since: float) -> None:
        """Until the reader has been told so by an answer that it asked for after ``since``."""
        while not any(one.began > since and (one.status, one.code) == (status, code) for one in reader.answers):
            self._check_threads()
            assert time.monotonic() < since + RECOVERY_S, self._told(since)
            self.done.wait(0.05)

    def _told(self, since: float) -> Counter[tuple[int, str]]:
        """What the readers were told since then."""
        answers = [one for reader in self.readers for one in list(reader.answers) if one.ended > since]
        return Counter((one.status, "" if one.status == 0 else one.code) for one in answers)

    def _wait_until_indexed(self) -> None:
        deadline, found = time.monotonic() + RECOVERY_S, None
        while found != {StudyState.INDEXED: len(self.modality.acknowledged)}:
            with contextlib.suppress(StorageFailed):
                found = dict(self.catalogue.overview().studies)
            assert time.monotonic() < deadline, f"{found}\n{self.installation.said()}"
            time.sleep(0.1)

    def figures(self) -> dict[str, Any]:
        """What was measured, for a page of results."""
        answers = [one for reader in self.readers for one in reader.answers]
        return {
            "acknowledged": len(self.modality.acknowledged),
            "sent_again": len(self.modality.refusals),
            "asked": len(answers),
            "answered": sum(one.status == 200 for one in answers),
            "answered_by_engine": sum(self._is_by_engine(one) for one in answers),
            "models": sorted({one.model for one in answers if one.model}),
            "failures": [asdict(one) for one in self.failures],
        }


def _unanswered(answers: list[Answer], since: float) -> float:
    """The longest time without a right answer, from ``since`` until now."""
    right = [one.ended for one in list(answers) if one.status == 200 and one.ended > since]
    times = [since, *right, time.monotonic()]
    return max(later - sooner for sooner, later in pairwise(times))
