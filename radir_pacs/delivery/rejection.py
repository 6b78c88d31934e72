"""Why there is no association, in words that say what to do (PS3.8 9.3.4, table 9-21)."""

from __future__ import annotations

from collections.abc import Mapping

from pynetdicom.association import Association
from pynetdicom.pdu_primitives import A_ASSOCIATE

from radir_pacs.delivery.destination import Destination
from radir_pacs.errors import PeerFailed
from radir_pacs.reasons import ReasonCode

_USER, _PRESENTATION = 1, 3  # sources of an A-ASSOCIATE-RJ: the application, the presentation layer
_CALLING_UNKNOWN, _CALLED_UNKNOWN = (_USER, 3), (_USER, 7)
_WORDS: Mapping[tuple[int, int], str] = {
    (_USER, 1): "without giving a reason; its log may say more",
    (_USER, 2): "as it does not know the DICOM application context",
    (2, 1): "without giving a reason; its log may say more",
    (2, 2): "as it does not know this version of the DICOM protocol",
    (_PRESENTATION, 1): "as it is busy; try again later",
    (_PRESENTATION, 2): "as it has too many associations; try again later",
}


def rejection(association: Association, destination: Destination) -> PeerFailed:
    """The failure behind an association that was not established."""
    answer = _rejecting_answer(association)
    if answer is not None:
        why, advice = _why(association, (answer.result_source, answer.diagnostic))
        what = f"{destination} rejects the association {why}"
        return PeerFailed(what, advice=advice, reason_code=ReasonCode.PEER_REJECTED)
    if association.rejected_contexts:  # answered, but accepting no presentation context
        none = f"{destination} accepts none of these kinds of object"
        return PeerFailed(none, reason_code=ReasonCode.PEER_NOT_SUPPORTED)
    return PeerFailed(f"{destination} does not answer", reason_code=ReasonCode.PEER_UNREACHABLE)


def _rejecting_answer(association: Association) -> A_ASSOCIATE | None:
    """The A-ASSOCIATE-RJ, even one that ended the connection so quickly that pynetdicom saw no answer at all."""
    answer = association.acceptor.primitive if association.is_rejected else association.dul.receive_pdu()
    return answer if isinstance(answer, A_ASSOCIATE) and answer.result else None


def _why(association: Association, given: tuple[int | None, int | None]) -> tuple[str, str]:
    """(why, what to do about it, where we can tell)"""
    if given == _CALLING_UNKNOWN:
        return (
            f"as it does not admit the calling AE title {association.requestor.ae_title}",
            "add it there (in RadIR-PACS: radir peers add), or call by a title that it admits"
            " (radir send --calling-ae)",
        )
    if given == _CALLED_UNKNOWN:
        return f"as it is not called {association.acceptor.ae_title}", "correct the AE title of the destination"
    return _WORDS.get((given[0] or 0, given[1] or 0), f"for reason {given[1]} of source {given[0]}"), ""
