"""The MLLP listener: one thread for all connections, a few for the messages; bounds of a peer (P6).

A connection may rest for ``hl7_idle_s``, since interfaces keep theirs open for days; once a message has begun, all of
it must arrive within ``hl7_message_s``, however steadily its bytes drip. Where connections are at their limit, one
gives way to each newcomer (`connections`).
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import ssl
import time
from concurrent.futures import ThreadPoolExecutor

from radir_pacs import handed_sockets
from radir_pacs.catalogue import Catalogue
from radir_pacs.config import LOOPBACK, Settings
from radir_pacs.errors import RadirError, SettingError, TooLarge

from .connections import BACKLOG, Connections, Peer, make_room
from .framing import Frames, framed
from .handling import Handler

log = logging.getLogger(__name__)

_THREADS = 4
_READ_BYTES = 1 << 16
_WRITE_S = 30.0
_HANDSHAKE_S = 10.0
_LOOK_S = 0.05
_MOST_BUFFERED_BYTES = 256 << 20  # of all messages that arrive
_AGAIN_S = 60.0  # the same refusal of the same address is recorded once in this time
_MOST_TOLD = 1000


class MllpServer:
    """``start``, then ``stop``, in one event loop."""

    def __init__(self, settings: Settings, catalogue: Catalogue) -> None:
        self._settings, self._catalogue = settings, catalogue
        self._handler = Handler(catalogue, settings)
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="message")
        self._peers = Connections(settings.hl7_max_connections)
        self._told: dict[tuple[str, str], float] = {}
        self._server: asyncio.Server | None = None
        self._tls: ssl.SSLContext | None = None
        self._networks = [ipaddress.ip_network(host, strict=False) for host in settings.hl7_hosts]

    async def start(self) -> None:
        """Listen. Raises SettingError for an address, certificate or number that cannot be used."""
        settings = self._settings
        make_room(settings.hl7_max_connections)
        self._tls = _tls(settings)
        try:
            handed = handed_sockets.at(settings.hl7_host, settings.hl7_port)
            if handed is None:
                self._server = await asyncio.start_server(
                    self._serve, settings.hl7_host, settings.hl7_port, backlog=BACKLOG, limit=_READ_BYTES
                )
            else:
                self._server = await asyncio.start_server(self._serve, sock=handed, backlog=BACKLOG, limit=_READ_BYTES)
        except OSError as error:
            raise SettingError(
                f"hl7_port: {settings.hl7_host}:{settings.hl7_port} cannot be bound: {error.strerror}"
            ) from None

    async def drain(self, within_s: float) -> None:
        """Take no new connection, end those at rest, and let the others have the answer to the message in hand."""
        if self._server is not None:
            self._server.close()
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            busy = [peer for peer in self._peers if peer.resting_since is None]
            for peer in set(self._peers) - set(busy):
                peer.end()
            if not busy:
                return
            await asyncio.sleep(_LOOK_S)

    async def stop(self) -> None:
        """Stop listening and end all connections; a message that is being answered may lose its answer."""
        if self._server is not None:
            self._server.close()
        for peer in self._peers:
            peer.end()
        self._pool.shutdown(wait=True, cancel_futures=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host = str((writer.get_extra_info("peername") or ("",))[0])
        peer = Peer(host, writer, writer.transport, Frames(self._settings.hl7_max_message_mib << 20))
        try:
            if self._admit(peer):
                await self._secure(peer)
                await self._converse(peer, reader)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # it hung up, or was ended
        except Exception:  # the edge of the process
            log.exception("connection broke")
        finally:
            self._peers.remove(peer)
            peer.transport.abort()

    def _admit(self, peer: Peer) -> bool:
        if not self._may_come(peer.host):
            self._tell(peer.host, "connection refused, its address is not in hl7_hosts")
            return False
        if not self._peers.admit(peer):
            self._tell(peer.host, "connection refused, hl7_max_connections are busy")
            return False
        return True

    def _may_come(self, host: str) -> bool:
        if host in LOOPBACK:
            return True
        try:
            address = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None) or address
        return mapped.is_loopback or any(mapped in network for network in self._networks)

    async def _secure(self, peer: Peer) -> None:
        """TLS where it is set: after the address is known and the connection counted, so that no crowd of handshakes
        takes more than there is room for. Raises OSError, CancelledError."""
        if self._tls is None:
            return
        peer.handshake = asyncio.current_task()
        try:
            await peer.writer.start_tls(self._tls, ssl_handshake_timeout=_HANDSHAKE_S)
        finally:
            peer.handshake = None

    async def _converse(self, peer: Peer, reader: asyncio.StreamReader) -> None:
        """Messages and their answers, in order, until the peer hangs up or passes a bound."""
        while True:
            try:
                data = await asyncio.wait_for(reader.read(_READ_BYTES), self._patience_s(peer))
            except TimeoutError:
                if peer.frames.is_inside:
                    self._tell(peer.host, "connection ended, a message did not arrive within hl7_message_s")
                return
            if not data:
                if peer.frames.is_inside:
                    self._tell(peer.host, "the connection ended in the middle of a message")
                return
            try:
                for message in peer.frames.feed(data):
                    await self._answer(peer, message)
            except TooLarge as error:
                self._tell(peer.host, "message refused, it is larger than hl7_max_message_mib")
                await self._write(peer, self._handler.refuse(b"", error))
                return
            self._note_progress(peer)
            self._peers.count_bytes(peer)
            if self._peers.arriving_bytes > _MOST_BUFFERED_BYTES:
                self._tell(peer.host, "connection ended, too many large messages arrive at once")
                return

    async def _answer(self, peer: Peer, message: bytes) -> None:
        peer.resting_since = None
        answers = await asyncio.get_running_loop().run_in_executor(self._pool, self._handler.answer, message)
        for answer in answers:
            await self._write(peer, answer)
        peer.arriving_since = None

    async def _write(self, peer: Peer, answer: bytes) -> None:
        peer.writer.write(framed(answer))
        await asyncio.wait_for(peer.writer.drain(), _WRITE_S)

    @staticmethod
    def _note_progress(peer: Peer) -> None:
        if peer.frames.is_inside:
            peer.arriving_since = peer.arriving_since or time.monotonic()
            peer.resting_since = None
        else:
            peer.arriving_since = None
            peer.resting_since = peer.resting_since or time.monotonic()

    def _patience_s(self, peer: Peer) -> float:
        now = time.monotonic()
        if peer.arriving_since is not None:
            return max(peer.arriving_since + self._settings.hl7_message_s - now, 0.001)
        return max((peer.resting_since or now) + self._settings.hl7_idle_s - now, 0.001)

    def _tell(self, host: str, what: str) -> None:
        """Log and record a refusal, unless the same was told a moment ago."""
        now = time.monotonic()
        if len(self._told) >= _MOST_TOLD:
            self._told = {key: at for key, at in self._told.items() if now - at < _AGAIN_S}
        if now - self._told.get((host, what), float("-inf")) < _AGAIN_S or len(self._told) >= _MOST_TOLD:
            return
        self._told[host, what] = now
        log.warning("%s", what, extra={"address": host})
        with contextlib.suppress(RuntimeError):  # it is being stopped
            self._pool.submit(self._record, f"HL7: {what}, from {host}")

    def _record(self, reason: str) -> None:
        try:
            self._catalogue.refusals.add(sop_uid=None, reason=reason, dimse_status=None, source="hl7")
        except RadirError as error:
            log.error("a refusal is not recorded", extra={"error": error.code})


def _tls(settings: Settings) -> ssl.SSLContext | None:
    if not settings.hl7_tls_certificate:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.hl7_tls_certificate, settings.hl7_tls_key or None)
        if settings.hl7_tls_client_ca:
            context.load_verify_locations(settings.hl7_tls_client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        raise SettingError(f"hl7_tls_certificate: cannot be used: {error.strerror or type(error).__name__}") from None
    return context
