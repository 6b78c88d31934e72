"""Why a message, or an order in it, cannot be used: for the sender's answer and for the administrator."""

from __future__ import annotations

from radir_pacs.catalogue import Verdict
from radir_pacs.errors import BadInput
from radir_pacs.reasons import ReasonCode

# HL7 table 0357
REQUIRED_MISSING, WRONG_TYPE = "101", "102"
UNSUPPORTED_TYPE, UNSUPPORTED_EVENT, UNSUPPORTED_PROCESSING, UNSUPPORTED_VERSION = "200", "201", "202", "203"
UNKNOWN_KEY, INTERNAL = "204", "207"


class Unusable(BadInput):
    """The message cannot be used."""

    code = "message_unusable"

    def __init__(
        self, reason: str, reason_code: ReasonCode, *, error_code: str, at: str = "", answer: str = "AE"
    ) -> None:
        """``at``: where, as ERL: segment^sequence^field. The reason names no patient."""
        super().__init__(reason, reason_code=reason_code)
        self.verdict = Verdict(
            answer=answer, reason=reason, reason_code=reason_code, error_code=error_code, error_at=at
        )


def missing(what: str, at: str) -> Unusable:
    return Unusable(f"{what} is missing", ReasonCode.MESSAGE_INCOMPLETE, error_code=REQUIRED_MISSING, at=at)


def unsupported(what: str, error_code: str, at: str) -> Unusable:
    """What no later attempt will change: rejected (AR)."""
    return Unusable(what, ReasonCode.MESSAGE_UNSUPPORTED, error_code=error_code, at=at, answer="AR")
