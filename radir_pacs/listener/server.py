"""The server: one process with two threads per association; several processes may share a port (SO_REUSEPORT)."""

from __future__ import annotations

import contextlib
import errno
import gc
import logging
import socket
import threading
import time
from typing import Any

from pynetdicom import AE, _config
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]
from pynetdicom.transport import ThreadedAssociationServer

from radir_pacs import handed_sockets, metrics
from radir_pacs.access.peers import Certificate, KnownPeers, PeerRights
from radir_pacs.catalogue import Catalogue
from radir_pacs.config import LOOPBACK, Settings
from radir_pacs.errors import SettingError
from radir_pacs.intake.instances import Intake
from radir_pacs.listener.admission import Admission
from radir_pacs.listener.association import ServedAssociation
from radir_pacs.listener.association_request import AssociationRequest
from radir_pacs.listener.bounds import MAX_PDU_BYTES, PeerBounds
from radir_pacs.listener.commitment import StorageCommitment
from radir_pacs.listener.contexts import explain
from radir_pacs.listener.handlers import Handlers
from radir_pacs.listener.instances import Instances
from radir_pacs.listener.refused import RefusalLog, Refused
from radir_pacs.listener.waiting_room import Address, WaitingRoom, reject
from radir_pacs.storage.blobs import BlobStore
from radir_pacs.tls_door import TlsDoor, TlsFiles

log = logging.getLogger(__name__)

_MIB = 1 << 20
_HANDSHAKE_S = 30
_REQUEST_S = 10.0  # from a connection to the last byte of its A-ASSOCIATE-RQ
_COLLECT_S = 30.0
_FINISHED_S = 5.0
_LOOK_S = 0.05
_UNBOUNDED = 1 << 20  # pynetdicom counts late and includes half-open connections: `Admission` counts instead


class Server(ThreadedAssociationServer):
    """pynetdicom's server with an accept loop of our own (`WaitingRoom`). Made by `make_server`."""

    request_queue_size = 128
    bounds: PeerBounds
    admission: Admission
    peers: KnownPeers
    tls: TlsDoor | None
    is_plain = True
    refusals: RefusalLog
    instances: Instances
    commitment: StorageCommitment

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self._stop, self._stopped = threading.Event(), threading.Event()
        self._stopped.set()
        super().__init__(*arguments, **named)

    def server_bind(self) -> None:
        assert self.socket is not None
        if not self.is_plain:
            return
        handed = handed_sockets.at(str(self.server_address[0]), int(self.server_address[1]))
        if handed is not None:
            self.socket.close()
            self.socket, self.server_address = handed, handed.getsockname()
            return
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        super().server_bind()

    def server_activate(self) -> None:
        if self.is_plain:
            super().server_activate()

    def server_close(self) -> None:
        """Close our side alone: pynetdicom's shuts the socket down, for systemd and the other processes too."""
        assert self.socket is not None
        self.socket.close()

    def serve_forever(self, poll_interval: float = 0.2) -> None:
        """Accept until ``shutdown``."""
        assert self.socket is not None
        self._stopped.clear()
        listening = self.socket if self.is_plain else None
        room = WaitingRoom(listening, self._admit, self._turn_away, deadline_s=min(_REQUEST_S, self.bounds.idle_s))
        if self.tls is not None:
            self.tls.open(room.welcome, self._turn_away)
        collected = time.monotonic()
        try:
            while not self._stop.is_set():
                room.turn(poll_interval)
                metrics.OPEN_ASSOCIATIONS.labels("dicom").set(self.admission.open_count())
                if time.monotonic() - collected > _COLLECT_S:
                    gc.collect()  # ended associations are reference cycles; pynetdicom's own loop collects them too
                    collected = time.monotonic()
        finally:
            if self.tls is not None:
                self.tls.close()
            room.close()
            self._stopped.set()

    def shutdown(self) -> None:
        """Stop accepting and close. Running associations continue."""
        self._stop.set()
        self._stopped.wait(5)
        self.server_close()
        self.refusals.close()
        self.peers.close()

    def drain(self, within_s: float) -> None:
        """Reject newcomers and let the running associations finish, then `shutdown`.

        One without a message for ``_FINISHED_S`` counts as finished; what still runs after ``within_s`` loses its
        connection. Its peer has an answer for all that is kept (P1).
        """
        self.admission.is_closing = True
        deadline = time.monotonic() + within_s
        while self.admission.end_finished(_FINISHED_S) and time.monotonic() < deadline:
            self._stopped.wait(_LOOK_S)
        self.shutdown()

    def _admit(
        self, sock: socket.socket, address: Address, request: AssociationRequest, certificate: Certificate | None
    ) -> None:
        """Open an association or reject it. Whatever fails ends this connection alone, never the accept loop."""
        host = str(address[0])
        try:
            rejection = self.admission.decide(request, host, certificate)
            if isinstance(rejection, PeerRights):
                self._open(sock, address, request, rejection)
                metrics.ASSOCIATIONS.labels("accepted").inc()
                return
            metrics.ASSOCIATIONS.labels("rejected").inc()
            metrics.REJECTIONS.labels(f"{rejection.result}/{rejection.source}/{rejection.reason}").inc()
            with contextlib.suppress(OSError):
                sock.sendall(reject(result=rejection.result, source=rejection.source, reason=rejection.reason))
            sock.close()
            codes = f"result {rejection.result}, source {rejection.source}, reason {rejection.reason}"
            what = f"association rejected, {rejection.what} ({codes})"
            self.refusals.note(Refused(address=host, calling_ae=request.calling_ae, what=what, advice=rejection.advice))
        except Exception as error:  # disconnected, no thread available, a request that the library refuses
            sock.close()
            log.exception("an association is not opened", extra={"address": host, "error": type(error).__name__})
            what = f"the association could not be opened ({type(error).__name__})"
            self.refusals.note(Refused(address=host, calling_ae=request.calling_ae, what=what))

    def _open(self, sock: socket.socket, address: Address, request: AssociationRequest, rights: PeerRights) -> None:
        association = ServedAssociation(
            self, sock, address, request, self.bounds, self.instances, self.commitment, rights
        )
        association.open()
        what, advice = explain(association.choices)
        if what:
            host = str(address[0])
            self.refusals.note(Refused(address=host, calling_ae=request.calling_ae, what=what, advice=advice))

    def _turn_away(self, host: str, why: str, advice: str) -> None:
        metrics.ASSOCIATIONS.labels("turned away").inc()
        self.refusals.note(Refused(address=host, calling_ae="", what=f"connection ended, {why}", advice=advice))


class TlsServer(Server):
    """Serves what comes by its `TlsDoor` alone."""

    is_plain = False


def make_server(settings: Settings, catalogue: Catalogue, blobs: BlobStore) -> Server:
    """A bound server; call ``serve_forever``. Raises SettingError when the port is taken."""
    _config.LOG_HANDLER_LEVEL = "none"  # of the process: pynetdicom's log handlers write patients' identifiers
    ae = AE(ae_title=settings.ae_title)
    ae.add_supported_context(Verification)  # it wants one; `contexts` decides per association
    ae.maximum_associations = _UNBOUNDED
    ae.maximum_pdu_size = MAX_PDU_BYTES
    ae.network_timeout = settings.listener_idle_s
    ae.acse_timeout = ae.dimse_timeout = min(_HANDSHAKE_S, settings.listener_idle_s)
    refusals = RefusalLog(catalogue)
    commitment = StorageCommitment(catalogue, settings)
    most_bytes = settings.max_instance_mib * _MIB
    tls = _tls_door(settings) if settings.listener_tls_port else None
    try:
        _check_free(settings)
        made: Any = ae.make_server(
            (settings.listener_host, settings.listener_port),
            server_class=Server if settings.listener_plain else TlsServer,
            evt_handlers=Handlers(refusals, commitment).bindings(),
        )
    except OSError as error:
        refusals.close()
        if tls is not None:
            tls.close()
        raise SettingError(
            f"listener_port: {settings.listener_host}:{settings.listener_port} cannot be bound: {error.strerror}"
        ) from None
    server: Server = made
    server.refusals, server.commitment = refusals, commitment
    server.instances = Instances(Intake(catalogue, blobs, settings), blobs, catalogue.audit, most_bytes=most_bytes)
    server.peers = KnownPeers(catalogue.peers, settings)
    server.peers.start()
    if settings.listener_host not in LOOPBACK and not server.peers.names_anybody:
        log.warning("no DICOM peer is named: this machine alone may call; see radir peers add")
    server.admission = Admission(settings, server.peers, lambda: server.active_associations)
    server.tls = tls
    server.bounds = PeerBounds(
        idle_s=settings.listener_idle_s,
        association_s=settings.listener_association_s,
        message_bytes=most_bytes,
    )
    return server


def _check_free(settings: Settings) -> None:
    """With SO_REUSEPORT a second installation would silently share the port; a plain bind detects the first one."""
    handed = handed_sockets.has(settings.listener_host, settings.listener_port)
    if handed or settings.listener_process_count > 1 or not settings.listener_plain:
        return
    with socket.socket(socket.AF_INET6 if ":" in settings.listener_host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.listener_host, settings.listener_port))
        except OSError as error:
            raise OSError(errno.EADDRINUSE, error.strerror) from None


def _tls_door(settings: Settings) -> TlsDoor:
    """Bound, like the plain port. Raises SettingError."""
    files = TlsFiles(
        setting="listener_tls_certificate",
        certificate=settings.listener_tls_certificate,
        key=settings.listener_tls_key,
        authorities=settings.listener_tls_client_ca,
    )
    handed = handed_sockets.at(settings.listener_host, settings.listener_tls_port)
    if handed is not None:
        return TlsDoor(files, handed)
    family = socket.AF_INET6 if ":" in settings.listener_host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if settings.listener_process_count > 1:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        bound.bind((settings.listener_host, settings.listener_tls_port))
        return TlsDoor(files, bound)
    except OSError as error:
        bound.close()
        where = f"{settings.listener_host}:{settings.listener_tls_port}"
        raise SettingError(f"listener_tls_port: {where} cannot be bound: {error.strerror}") from None
    except SettingError:
        bound.close()
        raise
