"""From the bytes of a message to its answer. AA is said only when all that the message asks for is committed."""

from __future__ import annotations

import logging
import secrets
import shutil
from collections.abc import Callable

from radir_pacs import metrics
from radir_pacs.catalogue import Answered, Catalogue, Deed, Verdict
from radir_pacs.catalogue import Message as Arrived
from radir_pacs.config import Settings
from radir_pacs.errors import BadInput, RadirError, StorageFailed
from radir_pacs.reasons import ReasonCode

from .acknowledgement import acknowledge, acknowledge_batch, acknowledgements, is_acknowledgement
from .framing import is_batch, split_batch
from .interpret import interpret
from .message import read_message
from .unusable import INTERNAL, WRONG_TYPE

log = logging.getLogger(__name__)

_MIB = 1 << 20
_TRIES = 3  # two messages about the same studies may lock each other out
_AWAY = Verdict(
    answer="AR",
    reason="not stored for now; send it again",
    reason_code=ReasonCode.OUT_OF_RESOURCES,
    error_code=INTERNAL,
)


def _new_id() -> str:
    return secrets.token_hex(10)


class Handler:
    """Answers messages; threads may share one."""

    def __init__(self, catalogue: Catalogue, settings: Settings, *, new_id: Callable[[], str] = _new_id) -> None:
        self._catalogue, self._settings, self._new_id = catalogue, settings, new_id

    def answer(self, raw: bytes) -> list[bytes]:
        """The answers to a message, in order, or the one batch of answers to a batch. Raises nothing."""
        if is_batch(raw):
            return [acknowledge_batch(raw, [answer for one in split_batch(raw) for answer in self._answer_one(one)])]
        return self._answer_one(raw)

    def refuse(self, raw: bytes, error: RadirError) -> bytes:
        """The answer to a message that is not taken at all, as far as ``raw`` tells whose it is."""
        verdict = Verdict(answer="AR", reason=str(error), reason_code=error.reason_code, error_code=INTERNAL)
        return acknowledge(raw, verdict, new_id=self._new_id)

    def _answer_one(self, raw: bytes) -> list[bytes]:
        if is_acknowledgement(raw):  # to answer an answer would go on for ever
            return []
        answered = self._take(raw)
        metrics.HL7_MESSAGES.labels(answered.verdict.answer).inc()
        log.info(
            "message answered",
            extra={
                "answer": answered.verdict.answer,
                "outcome": answered.outcome,
                "again": answered.again,
                "reason": answered.verdict.reason_code,
            }
            if isinstance(answered, Answered)
            else {"answer": answered.verdict.answer, "outcome": None},
        )
        return acknowledgements(raw, answered.verdict, new_id=self._new_id)

    def _take(self, raw: bytes) -> Answered | _NotTaken:
        arrived = Arrived(sender="", control_id="", kind="", body=raw)
        try:
            self._check_room()
            message = read_message(raw, self._settings.fallback_character_set)
            arrived = Arrived(
                sender=_clean(message.sender),
                control_id=_clean(message.control_id),
                kind=_clean(message.kind),
                body=raw,
            )
            reading = interpret(message, issuer=self._settings.hl7_issuer, senders=self._settings.hl7_senders)
            return self._commit(arrived, reading.deeds, reading.verdict)
        except StorageFailed as error:
            log.error("message not stored", extra={"error": error.code})
        except BadInput as error:
            return self._keep(arrived, _bad(error))
        except Exception as error:  # the edge of the process: one message must not take the listener along
            log.exception("message broke")
            reason = f"internal error ({type(error).__name__})"
            return self._keep(
                arrived,
                Verdict(answer="AE", reason=reason, reason_code=ReasonCode.WORKER_FAILED, error_code=INTERNAL),
            )
        return _NotTaken()

    def _keep(self, arrived: Arrived, verdict: Verdict) -> Answered | _NotTaken:
        try:
            return self._commit(arrived, (), verdict)
        except RadirError as error:
            log.error("message not kept", extra={"error": error.code})
            return _NotTaken()

    def _commit(self, arrived: Arrived, deeds: tuple[Deed, ...], verdict: Verdict) -> Answered:
        for left in reversed(range(_TRIES)):
            try:
                return self._catalogue.messages.take(arrived, deeds, verdict)
            except StorageFailed:
                if not left:
                    raise
        raise AssertionError

    def _check_room(self) -> None:
        """Raises StorageFailed when the disk is fuller than the settings allow."""
        free_mib = shutil.disk_usage(self._settings.home).free // _MIB
        if free_mib < self._settings.min_free_disk_mib:
            raise StorageFailed(f"{free_mib} MiB of disk left, {self._settings.min_free_disk_mib} are kept free")


class _NotTaken:
    """Nothing of the message is stored, and its sender is asked to send it again."""

    verdict = _AWAY


def _bad(error: BadInput) -> Verdict:
    code = error.reason_code if error.reason_code is not ReasonCode.OTHER else ReasonCode.MESSAGE_UNREADABLE
    return Verdict(answer="AE", reason=str(error), reason_code=code, error_code=WRONG_TYPE)


def _clean(name: str) -> str:
    """A name that can be stored."""
    return name.replace("\0", "")
