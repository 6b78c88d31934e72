"""The server: one process, a thread an association, several processes on one port where asked (SO_REUSEPORT)."""

from __future__ import annotations

import errno
import socket
import socketserver
import tempfile
from typing import Any

from pynetdicom import AE, _config
from pynetdicom.association import Association
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from radir_pacs.config import Settings
from radir_pacs.errors import SettingError
from radir_pacs.intake.instances import Intake
from radir_pacs.listener.bounds import MAX_PDU_BYTES, BoundedSocket, PeerBounds
from radir_pacs.listener.handlers import Handlers
from radir_pacs.listener.messages import GuardedDimse
from radir_pacs.storage.blobs import BlobStore

_MIB = 1 << 20
_HANDSHAKE_S = 30


class _Server(ThreadedAssociationServer):
    bounds: PeerBounds
    daemon_threads = True
    request_queue_size = 64

    def server_bind(self) -> None:
        assert self.socket is not None
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        super().server_bind()

    def shutdown(self) -> None:
        """Stop accepting and close; pynetdicom's own looks for a server that its AE started."""
        socketserver.BaseServer.shutdown(self)
        self.server_close()


class _RequestHandler(RequestHandler):
    """Gives each association a socket with bounds, and messages that cannot hurt it."""

    def _create_association(self) -> Association:
        assoc = super()._create_association()
        assert isinstance(self.server, _Server)
        assert assoc.dul.socket is not None
        assoc.dul.socket = BoundedSocket(assoc.dul.socket, self.server.bounds)
        assoc.dimse = GuardedDimse(assoc)
        assoc.dul._run_loop_delay = 0.0  # its socket waits for data itself, and is woken by them
        return assoc


def make_server(settings: Settings, intake: Intake, blobs: BlobStore) -> _Server:
    """A bound server; call ``serve_forever``. Raises SettingError when the port is taken."""
    # Process-wide, as pynetdicom has them. Incoming data sets go to files on the blobs' own file system, so that
    # keeping one is a rename, and a peer costs disk that is checked, not memory.
    _config.UNRESTRICTED_STORAGE_SERVICE = True
    _config.STORE_RECV_CHUNKED_DATASET = True
    _config.LOG_HANDLER_LEVEL = "none"  # its handlers write patients' identifiers
    tempfile.tempdir = str(blobs.incoming_folder)

    ae = AE(ae_title=settings.ae_title)
    ae.add_supported_context(Verification)
    ae.require_called_aet = settings.check_called_ae
    ae.require_calling_aet = list(settings.calling_ae_titles)
    ae.maximum_associations = settings.listener_max_associations
    ae.maximum_pdu_size = MAX_PDU_BYTES
    ae.network_timeout = settings.listener_idle_s
    ae.acse_timeout = ae.dimse_timeout = min(_HANDSHAKE_S, settings.listener_idle_s)
    try:
        _check_free(settings)
        server: Any = ae.make_server(
            (settings.listener_host, settings.listener_port),
            server_class=_Server,
            evt_handlers=Handlers(intake, blobs).bindings(),
            request_handler=_RequestHandler,
        )
    except OSError as error:
        raise SettingError(
            f"listener_port: {settings.listener_host}:{settings.listener_port} cannot be bound: {error.strerror}"
        ) from None
    server.bounds = PeerBounds(
        idle_s=settings.listener_idle_s,
        association_s=settings.listener_association_s,
        message_bytes=settings.max_instance_mib * _MIB,
    )
    bound: _Server = server
    return bound


def _check_free(settings: Settings) -> None:
    """With SO_REUSEPORT a second installation would share the port in silence; a plain bind tells the first from it."""
    if settings.listener_processes > 1:
        return
    with socket.socket(socket.AF_INET6 if ":" in settings.listener_host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.listener_host, settings.listener_port))
        except OSError as error:
            raise OSError(errno.EADDRINUSE, error.strerror) from None
