"""Failures under load: what is done to an installation, how long it takes until it works again, and what must hold."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from radir_pacs.catalogue import Catalogue
from radir_pacs.delivery.destination import Destination
from radir_pacs.errors import StorageFailed
from radir_pacs.storage import open_blobs
from radir_pacs.types import StudyState
from tests.catalogue_material import owners
from tests.machines.installation import FRONT, LISTENER_PORT, TOKEN, Installation
from tests.machines.load import Modality, Reader

RECOVERY_S = 300.0
_END_S = 300.0  # until the modality and the reader have ended
_MOST = 1000  # of an answer
_SENT = 900  # fewer: an answer has all of them
_QUERY = 900_000  # the number of the study that is asked about


@dataclass
class Drill:
    """``figures``: by failure, seconds from its end until a study is taken, a question answered, a study found."""

    installation: Installation
    catalogue: Catalogue
    folder: Path
    rate_hz: float = 1.0
    figures: dict[str, dict[str, float]] = field(default_factory=dict)
    done: threading.Event = field(default_factory=threading.Event)
    _failed: list[BaseException] = field(default_factory=list)  # of the threads

    def __post_init__(self) -> None:
        peer = Destination(ae_title="RADIR", host=self.installation.network.address(FRONT), port=LISTENER_PORT)
        self.modality = Modality(peer, self.folder, self.rate_hz, _SENT)
        asked = f"/dicom-web/studies/2.25.7{_QUERY:06}/similar?anatomy=chest&limit={_MOST}"
        self.reader = Reader(self.installation.web + asked, TOKEN)

    @contextlib.contextmanager
    def load(self) -> Iterator[None]:
        """A modality and a reader at work, who have both begun to succeed."""
        self.modality.send(_QUERY, self.done)
        self._wait_until_indexed()
        threads = [
            threading.Thread(target=self._run, args=(one.run,), daemon=True) for one in (self.modality, self.reader)
        ]
        for thread in threads:
            thread.start()
        try:
            self.recovered("the start")
            yield
        finally:
            self.done.set()
            deadline = time.monotonic() + _END_S
            for thread in threads:
                thread.join(max(0.0, deadline - time.monotonic()))
        self._check_threads()
        assert not any(thread.is_alive() for thread in threads), self.installation.said()
        self._wait_until_indexed()
        self.reader.answers.append(self.reader.ask())

    def _run(self, work: Callable[[threading.Event], None]) -> None:
        try:
            work(self.done)
        except BaseException as error:  # raised again by the thread of the test
            self._failed.append(error)

    def _check_threads(self) -> None:
        if self._failed:
            raise self._failed[0]

    def recovered(self, after: str) -> None:
        """Wait until what arrived from now on is taken, found and answered, and note how long each took."""
        began = time.monotonic()
        took: dict[str, float] = {}
        while len(took) < 3:
            self._check_threads()
            now = time.monotonic()
            news = [study for study, (_, _, at) in list(self.modality.acknowledged.items()) if at > began]
            right = [one for one in self.reader.answers[-20:] if one.began > began and one.status == 200]
            if news:
                took.setdefault("taken", now - began)
            if right:
                took.setdefault("answered", now - began)
            if any(study in answer.cases for study in news for answer in right):
                took.setdefault("found", now - began)
            assert len(self.modality.acknowledged) < _SENT, "no study is left to be sent"
            assert now < began + RECOVERY_S, f"after {after}: {took}\n{self.installation.said()}"
            self.done.wait(0.05)
        self.figures[after] = took
        print(f"after {after}: {', '.join(f'{what} {seconds:.1f} s' for what, seconds in took.items())}", flush=True)

    def wait_for_status(self, status: int, code: str, *, since: float) -> None:
        """Until the reader has been told so by an answer that it asked for after ``since``."""
        while not any(one.began > since and (one.status, one.code) == (status, code) for one in self.reader.answers):
            self._check_threads()
            assert time.monotonic() < since + RECOVERY_S, self.statuses(since)
            self.done.wait(0.05)

    def statuses(self, since: float) -> Counter[tuple[int, str]]:
        """What the reader was told since then."""
        return Counter((one.status, one.code) for one in self.reader.answers if one.began + one.seconds > since)

    def _wait_until_indexed(self) -> None:
        deadline, found = time.monotonic() + RECOVERY_S, None
        while found != {StudyState.INDEXED: len(self.modality.acknowledged)}:
            with contextlib.suppress(StorageFailed):
                found = dict(self.catalogue.overview().studies)
            assert time.monotonic() < deadline, f"{found}\n{self.installation.said()}"
            time.sleep(0.1)

    def check(self) -> None:
        """After the load: nothing acknowledged is lost, each study is encoded once, and no answer was wrong."""
        self._check_stored()
        self._check_encoded_once()
        self._check_answers()

    def _check_stored(self) -> None:
        settings = self.installation.of_outside(self.folder / "outside")
        blobs = open_blobs(settings, self.catalogue.backups.installation())
        for study, (sop, path, _) in self.modality.acknowledged.items():
            stored = self.catalogue.instances.of_study(study)
            assert [one.sop_uid for one in stored] == [sop]
            assert data_set(blobs.intact(stored[0].content_sha256)) == data_set(path)

    def _check_encoded_once(self) -> None:
        [model] = [model for model in self.catalogue.overview().encodings if model.startswith("cxr")]
        changes = self.catalogue.encodings.changes(model, "chest")
        whose = [owner.study.study_uid for owner in owners(self.catalogue, changes.ids).values()]
        assert sorted(whose) == sorted(self.modality.acknowledged), "each is searchable exactly once"

    def _check_answers(self) -> None:
        """What an answer says stays true, what one has found the next ones find, and who gets none is told why."""
        scores: dict[str, float] = {}
        found: set[str] = set()
        for one in self.reader.answers:  # one after the other
            if one.status == 200:
                assert list(one.cases.values()) == sorted(one.cases.values(), reverse=True)
                assert all(scores.setdefault(study, score) == score for study, score in one.cases.items())
                assert found <= one.cases.keys() <= self.modality.acknowledged.keys()
                found |= one.cases.keys()
            elif one.status != 0 and one.status != 204:
                assert (one.status, one.retry_after) == (503, "5") and one.code, one
        assert found == self.modality.acknowledged.keys() - {f"2.25.7{_QUERY:06}"}


def data_set(path: Path) -> bytes:
    """The bytes behind preamble, prefix and file meta group: what a sender sends (PS3.10 7.1)."""
    content = path.read_bytes()
    return content[144 + int.from_bytes(content[140:144], "little") :]
