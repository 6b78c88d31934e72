"""Which DICOM peers may call, and what each may do: those in the catalogue, and the titles of the settings.

As long as nobody is named, this machine alone may call; from the first name on, only those that are named. Every
listener reads the peers again once a second, aside: no association waits for the database.
"""

from __future__ import annotations

import ipaddress
import logging
import threading
from dataclasses import dataclass

from radir_pacs.catalogue import Peer
from radir_pacs.catalogue.peers import Peers
from radir_pacs.config import Settings
from radir_pacs.errors import StorageFailed

log = logging.getLogger(__name__)

_FRESH_S = 1.0
_FINGERPRINT, _NAME = "sha256:", "CN="


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """Of a client, which a trusted authority signed. ``sha256`` of its DER form, 64 lower-case hex digits."""

    sha256: str
    common_name: str


@dataclass(frozen=True, kw_only=True)
class PeerRights:
    """What an association may do; ``site``: the label of what it sends, None where the peer has none."""

    may_store: bool = True
    may_commit: bool = True
    site: str | None = None


class KnownPeers:
    """Safe for many threads. `refresh` before the first question; `start` keeps it fresh until `close`."""

    def __init__(self, peers: Peers, settings: Settings) -> None:
        self._peers = peers
        self._titles = frozenset(title.strip() for title in settings.calling_ae_titles)
        self._known: tuple[Peer, ...] | None = None
        self._closed = threading.Event()

    def start(self) -> None:
        """Read the peers now, and again once a second."""
        self._refresh_quietly()
        threading.Thread(target=self._keep_fresh, name="peers", daemon=True).start()

    def close(self) -> None:
        self._closed.set()

    @property
    def names_anybody(self) -> bool:
        """Whether a caller from elsewhere can be known."""
        return bool(self._titles or self._known)

    def knows(self, ae_title: str) -> bool:
        """Whether a peer of that title may call from somewhere, in some way."""
        return any(peer.ae_title == ae_title for peer in self._known or ())

    def refresh(self) -> None:
        """Raises StorageFailed; what was known stays known then."""
        self._known = self._peers.all()

    def rights_of(self, ae_title: str, host: str, certificate: Certificate | None) -> PeerRights | None:
        """None: this caller is not known, nor is anything of peers before they could be read."""
        known = self._known
        if ae_title in self._titles and not self.knows(ae_title):
            return PeerRights()
        if known is None:
            return None
        address = _address(host)
        for peer in known:
            if peer.ae_title == ae_title and _is_in(address, peer.network) and _fits(certificate, peer.certificate):
                return PeerRights(may_store=peer.may_store, may_commit=peer.may_commit, site=peer.site)
        if not known and not self._titles and address.is_loopback:
            return PeerRights()
        return None

    def _keep_fresh(self) -> None:
        while not self._closed.wait(_FRESH_S):
            self._refresh_quietly()

    def _refresh_quietly(self) -> None:
        try:
            self.refresh()
        except StorageFailed as error:
            log.warning("peers are not read", extra={"error": error.code})


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An IPv4 address that came by an IPv6 socket is that IPv4 address."""
    found = ipaddress.ip_address(host.partition("%")[0])
    return (found.ipv4_mapped or found) if isinstance(found, ipaddress.IPv6Address) else found


def _is_in(address: ipaddress.IPv4Address | ipaddress.IPv6Address, network: str) -> bool:
    return network == "::/0" or address in ipaddress.ip_network(network)


def _fits(certificate: Certificate | None, wanted: str | None) -> bool:
    if wanted is None:
        return True
    if certificate is None:
        return False
    if wanted.startswith(_FINGERPRINT):
        return wanted.removeprefix(_FINGERPRINT) == certificate.sha256
    return wanted == _NAME + certificate.common_name
