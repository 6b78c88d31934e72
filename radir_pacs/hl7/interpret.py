"""What a message asks for: deeds for the catalogue and the answer that they deserve."""

from __future__ import annotations

from dataclasses import dataclass

from radir_pacs.catalogue import Deed, Verdict
from radir_pacs.reasons import ReasonCode

from .message import Message
from .orders import deeds_of_order
from .patients import deeds_of_adt
from .results import deeds_of_mdm, deeds_of_oru
from .unusable import UNSUPPORTED_PROCESSING, UNSUPPORTED_TYPE, UNSUPPORTED_VERSION, Unusable, missing, unsupported

_ORDERS = frozenset({"ORM", "OMI", "OMG", "ORI"})


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The deeds of a message and its answer: what is usable is done even where the rest is not."""

    deeds: tuple[Deed, ...] = ()
    verdict: Verdict = Verdict()


def interpret(message: Message, *, issuer: str = "", senders: tuple[str, ...] = ()) -> Reading:
    """``issuer``: of ids without an assigning authority. ``senders``: those that may send, as APPLICATION or
    APPLICATION|FACILITY; none: all. Every fault becomes the answer."""
    try:
        _check_header(message, senders)
        match message.header.text(9, 1):
            case "ORU":
                deeds, fault = deeds_of_oru(message, issuer)
                return Reading(deeds=tuple(deeds), verdict=fault.verdict if fault else Verdict())
            case "MDM":
                return Reading(deeds=tuple(deeds_of_mdm(message, issuer)))
            case "ADT":
                return Reading(deeds=tuple(deeds_of_adt(message, issuer)))
            case code if code in _ORDERS:
                return Reading(deeds=tuple(deeds_of_order(message)))
            case "":
                raise missing("the message type", "MSH^1^9")
            case _:
                raise unsupported("messages of this type are not taken", UNSUPPORTED_TYPE, "MSH^1^9")
    except Unusable as fault:
        return Reading(verdict=fault.verdict)


def _check_header(message: Message, senders: tuple[str, ...]) -> None:
    header = message.header
    if senders and not {message.sender, header.text(3)} & set(senders):
        raise Unusable(
            "this application may not send here (hl7_senders)",
            ReasonCode.REFUSED_PEER,
            error_code="207",
            at="MSH^1^3",
            answer="AR",
        )
    if not message.control_id:
        raise missing("the message control id", "MSH^1^10")
    if header.text(11) not in ("", "P"):
        raise unsupported("only production messages are taken", UNSUPPORTED_PROCESSING, "MSH^1^11")
    if header.text(12) and not header.text(12).startswith("2"):
        raise unsupported("only version 2 is spoken", UNSUPPORTED_VERSION, "MSH^1^12")
