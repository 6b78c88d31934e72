"""Whether a DICOM peer answers: C-ECHO (PS3.4 A)."""

from __future__ import annotations

from pynetdicom import AE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from radir_pacs.delivery.destination import Destination
from radir_pacs.delivery.rejection import rejection
from radir_pacs.errors import PeerFailed
from radir_pacs.reasons import ReasonCode


def echo(destination: Destination, *, calling_ae: str, timeout_s: float) -> None:
    """Raise PeerFailed unless the peer answers a C-ECHO with success within about that time."""
    ae = AE(ae_title=calling_ae)
    ae.network_timeout = ae.acse_timeout = ae.dimse_timeout = ae.connection_timeout = timeout_s
    ae.add_requested_context(Verification)
    association = ae.associate(destination.host, destination.port, ae_title=destination.ae_title)
    if not association.is_established:
        raise rejection(association, destination)
    try:
        status = association.send_c_echo().get("Status")
    finally:
        if association.is_established:
            association.release()
    if status != 0x0000:
        raise PeerFailed(f"{destination} does not answer a C-ECHO", reason_code=ReasonCode.PEER_NO_ANSWER)
