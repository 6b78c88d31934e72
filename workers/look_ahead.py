"""While the network works on one study, a thread reads the one that will probably come next.

Nothing is claimed: the next job is guessed from the queue, and what was read is used only when this worker gets that
job with the very same content. A wrong guess costs the reading of one study and changes no result.
"""

from __future__ import annotations

import logging
import threading

from radir_pacs.catalogue import Catalogue
from radir_pacs.errors import DicomRefused, Quarantined, RadirError, Skipped
from radir_pacs.reasons import WORTH_ANOTHER_DECODE

from .decoding_room import GivenUp
from .study_reader import Ready, StudyReader

log = logging.getLogger(__name__)

REST_JOBS = 16  # jobs without a guess after a wrong one: other workers take from this queue


class LookAhead:
    """Used by the one thread that encodes. Nothing else may use ``reader``."""

    def __init__(self, catalogue: Catalogue, reader: StudyReader) -> None:
        self._catalogue = catalogue
        self._reader = reader
        self._guess: _Guess | None = None
        self._thread: threading.Thread | None = None
        self._rest_jobs = 0

    def begin(self) -> None:
        """Read ahead, unless a guess is still unused or the last guesses were wrong."""
        if self._rest_jobs > 0:
            self._rest_jobs -= 1
        elif self._guess is None and (self._thread is None or not self._thread.is_alive()):
            self._guess = _Guess()
            self._thread = threading.Thread(target=self._read, args=(self._guess,), name="look-ahead", daemon=True)
            self._thread.start()

    def take(self, study_uid: str) -> list[Ready] | None:
        """What was read ahead for this study; None when nothing was, or its files have changed since.

        Raises what reading raised, as `StudyReader.read`.
        """
        guess, self._guess = self._guess, None
        if guess is None:
            return None
        guess.known.wait()
        if guess.study_uid != study_uid:
            if guess.study_uid is not None:
                guess.given_up.set()
                self._rest_jobs = REST_JOBS
            return None
        guess.done.wait()
        if guess.content is None or guess.content != self._catalogue.instances.content_of(study_uid):
            return None
        if guess.reason is not None:
            raise guess.reason
        return guess.ready

    def close(self) -> None:
        """Give up at once and end the decoding child; `begin` may start anew."""
        if self._guess is not None:
            self._guess.given_up.set()
        if self._thread is not None:
            while self._thread.is_alive():  # a child may be started in the moment of the interrupt
                self._reader.interrupt()
                self._thread.join(0.1)
        self._guess = self._thread = None
        self._reader.close()

    def _read(self, guess: _Guess) -> None:
        try:
            guess.study_uid = self._catalogue.jobs.next_study_to_encode()
            guess.known.set()
            if guess.study_uid is not None:
                guess.content = self._catalogue.instances.content_of(
                    guess.study_uid
                )  # first: what comes later is then missed
                guess.ready = self._reader.read(self._catalogue.instances.headers_of(guess.study_uid), guess.given_up)
        except (Skipped, Quarantined, DicomRefused) as reason:
            if reason.reason_code in WORTH_ANOTHER_DECODE:
                guess.content = None
            guess.reason = reason
        except (GivenUp, RadirError):
            guess.content = None
        except Exception as error:  # the edge of the thread: whoever encodes meets it again, where it counts
            log.error("reading ahead broke", extra={"error": type(error).__name__})
            guess.content = None
        finally:
            guess.known.set()
            guess.done.set()


class _Guess:
    """What the thread finds out; the events say how much of it is final."""

    def __init__(self) -> None:
        self.known, self.done, self.given_up = threading.Event(), threading.Event(), threading.Event()
        self.study_uid: str | None = None
        self.content: str | None = None
        self.ready: list[Ready] | None = None
        self.reason: Skipped | Quarantined | DicomRefused | None = None
