"""DICOM peers that may call; `radir_pacs.access.peers` decides by them."""

from __future__ import annotations

from dataclasses import asdict

from radir_pacs.callers import AuditEvent, Caller
from radir_pacs.catalogue.access_rows import Peer
from radir_pacs.catalogue.audit import note
from radir_pacs.catalogue.database import run
from radir_pacs.catalogue.part import CataloguePart
from radir_pacs.errors import BadInput, NotFound


class Peers(CataloguePart):
    def add(self, peer: Peer, *, by: Caller) -> None:
        """Let the peer call. Raises BadInput where its title may call from this network already."""
        with self._database.transaction() as connection:
            if run(connection, "add_peer", asdict(peer), by=by.name).fetchone() is None:
                raise BadInput(f"{peer.ae_title} from {peer.network} is known: remove it first")
            note(connection, AuditEvent.PEER_ADDED, by, detail={"peer": peer.ae_title, "network": peer.network})

    def remove(self, ae_title: str, network: str | None = None, *, by: Caller) -> int:
        """It may call no more, from one network or from any; returns how many rows went. Raises NotFound."""
        with self._database.transaction() as connection:
            gone = run(connection, "remove_peer", ae_title=ae_title, network=network).fetchall()
            if not gone:
                raise NotFound(f"no peer {ae_title!r} is known" + (f" from {network}" if network else ""))
            note(connection, AuditEvent.PEER_REMOVED, by, detail={"peer": ae_title, "network": network})
        return len(gone)

    def all(self) -> tuple[Peer, ...]:
        """By title, the narrowest network first."""
        with self._database.transaction() as connection:
            return tuple(Peer(**row) for row in run(connection, "peers"))
