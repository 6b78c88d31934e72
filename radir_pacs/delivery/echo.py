"""Verification of a connection to a peer: C-ECHO (PS3.4 annex A), plain or over TLS."""

from __future__ import annotations

import ssl

from pynetdicom import AE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from radir_pacs.config import Settings
from radir_pacs.delivery.destination import Destination
from radir_pacs.delivery.rejection import rejection
from radir_pacs.errors import PeerFailed, SettingError
from radir_pacs.reasons import ReasonCode

TIMEOUT_S = 10.0


def echo(destination: Destination, settings: Settings, *, over_tls: bool = False, timeout_s: float = TIMEOUT_S) -> None:
    """Ask the peer whether it is there, in the name of our AE title. Raises PeerFailed, SettingError.

    Over TLS we show our own certificate, and the peer's must come from an authority in listener_tls_client_ca, or from
    one that the system trusts where that is empty.
    """
    ae = AE(ae_title=settings.ae_title)
    ae.network_timeout = ae.acse_timeout = ae.dimse_timeout = ae.connection_timeout = timeout_s
    ae.add_requested_context(Verification)
    tls = (_context(settings), destination.host) if over_tls else None
    association = ae.associate(destination.host, destination.port, ae_title=destination.ae_title, tls_args=tls)
    if not association.is_established:
        raise rejection(association, destination)
    try:
        status = association.send_c_echo().get("Status")
    finally:
        if association.is_established:
            association.release()
    if status != 0:
        shown = "no answer" if status is None else f"status {status:04X}"
        why = f"{destination} did not answer the C-ECHO with success: {shown}"
        raise PeerFailed(why, reason_code=ReasonCode.PEER_NO_ANSWER)


def _context(settings: Settings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.listener_tls_client_ca or None)
        if settings.listener_tls_certificate:
            context.load_cert_chain(settings.listener_tls_certificate, settings.listener_tls_key or None)
    except (OSError, ssl.SSLError) as error:
        raise SettingError(f"listener_tls_certificate: cannot be used: {error.strerror or error}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False  # certificates of modalities name devices, not hosts (PS3.15 B.9)
    return context
