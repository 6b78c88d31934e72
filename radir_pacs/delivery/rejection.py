"""Why there is no association, in words that say what to do (PS3.8 9.3.4, table 9-21)."""

from __future__ import annotations

from collections.abc import Mapping

from pynetdicom.association import Association

from radir_pacs.delivery.destination import Destination
from radir_pacs.errors import PeerFailed, PeerReason

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
    if association.is_rejected:
        return PeerFailed(f"{destination} rejects the association {_why(association)}", reason=PeerReason.REJECTED)
    if association.rejected_contexts:  # answered, without one presentation context
        return PeerFailed(f"{destination} accepts none of these kinds of object", reason=PeerReason.NOT_SUPPORTED)
    return PeerFailed(f"{destination} does not answer", reason=PeerReason.UNREACHABLE)


def _why(association: Association) -> str:
    answer = association.acceptor.primitive
    given = (getattr(answer, "result_source", None), getattr(answer, "diagnostic", None))
    if given == _CALLING_UNKNOWN:
        return (
            f"as it does not admit the calling AE title {association.requestor.ae_title}: add it there"
            " (in RadIR-PACS: calling_ae_titles), or call by a title that it admits (radir send --calling-ae)"
        )
    if given == _CALLED_UNKNOWN:
        return f"as it is not called {association.acceptor.ae_title}: correct the AE title of the destination"
    return _WORDS.get((given[0] or 0, given[1] or 0), f"for reason {given[1]} of source {given[0]}")
