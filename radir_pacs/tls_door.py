"""TLS for a server of ours: its connections go on decrypted, through a pair of sockets, to whoever serves them.

The profile is that of BCP 195 (RFC 9325), as PS3.15 B.12 has it for DICOM: TLS 1.2 and 1.3, forward secrecy with
AES-GCM, no renegotiation, no compression. All bounds of the server hold behind it, since what they end ends here too;
only the handshake has one of its own. Certificates that were replaced are used from the next connection on.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import select
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from radir_pacs.access.peers import Certificate
from radir_pacs.errors import SettingError

log = logging.getLogger(__name__)

CIPHERS = (  # of TLS 1.2 (RFC 9325 4.2); those of TLS 1.3 are all as strong
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384"
)
_HANDSHAKE_S = 10.0
_STALLED_S = 60.0  # a peer that takes nothing for so long is gone
_CHUNK_BYTES = 1 << 18
_LOOK_S = 0.05
_BACKLOG = 128
_MOST_AT_ONCE = 600  # associations are bounded behind this; here are their connections, and half-open ones
_MOST_OF_ONE = 450  # of one address
Welcome = Callable[[socket.socket, tuple[Any, ...], Certificate | None], None]
TurnAway = Callable[[str, str, str], None]


@dataclass(frozen=True, kw_only=True)
class TlsFiles:
    """``setting``: the one that names the certificate. key: empty where it is in the certificate's file.

    authorities: that the client's own certificate must come from; empty asks for none. protocol: for ALPN (RFC 7301).
    """

    setting: str
    certificate: str
    key: str = ""
    authorities: str = ""
    protocol: str = ""


class TlsDoor:
    """From `open` to `close` it serves whoever reaches a bound socket, or whom `take` brings.

    The socket listens from the beginning: whoever comes before `open` waits.

    Raises SettingError for files that cannot be used.
    """

    def __init__(self, files: TlsFiles, bound: socket.socket | None = None) -> None:
        self._contexts = _Contexts(files)
        self._contexts.current()
        self._socket = bound
        if bound is not None:
            bound.listen(_BACKLOG)  # from here on a peer is queued, however late a thread begins to serve
        self._loop = asyncio.new_event_loop()
        self._thread: threading.Thread | None = None
        self._inside: set[asyncio.Task[None]] = set()
        self._adopting: set[asyncio.Task[None]] = set()
        self._held: Counter[str] = Counter()  # connections by address
        self._shaking: dict[asyncio.Task[None], str] = {}  # handshakes and their addresses, oldest first

    def open(self, welcome: Welcome, turn_away: TurnAway) -> None:
        """``welcome`` takes over the decrypted side of a connection; ``turn_away`` is told of a failed handshake."""
        self._welcome, self._turn_away = welcome, turn_away
        self._thread = threading.Thread(target=self._run, name="tls", daemon=True)
        self._thread.start()

    def take(self, connection: socket.socket) -> None:
        """A connection that somebody else accepted; from any thread."""
        self._loop.call_soon_threadsafe(self._adopt, connection)

    def close(self, within_s: float = 0.0) -> None:
        """Let nobody in. Connections end, those whose server has ended them within so many seconds."""
        if self._thread is not None:
            if within_s:
                ended = asyncio.run_coroutine_threadsafe(self._all_ended(within_s), self._loop)
                with contextlib.suppress(TimeoutError):
                    ended.result(within_s + 1)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(5)
        else:
            self._loop.close()
        if self._socket is not None:
            self._socket.close()

    async def _all_ended(self, within_s: float) -> None:
        if self._inside:
            await asyncio.wait(self._inside, timeout=within_s)

    def _adopt(self, connection: socket.socket) -> None:
        async def adopted() -> None:
            reader = asyncio.StreamReader(limit=_CHUNK_BYTES)
            protocol = asyncio.StreamReaderProtocol(reader, self._enter)
            with contextlib.suppress(OSError):
                await self._loop.connect_accepted_socket(lambda: protocol, connection)

        task = self._loop.create_task(adopted())
        self._adopting.add(task)
        task.add_done_callback(self._adopting.discard)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = None
        if self._socket is not None:
            server = self._loop.run_until_complete(
                asyncio.start_server(self._enter, sock=self._socket, limit=_CHUNK_BYTES, backlog=_BACKLOG)
            )
        try:
            self._loop.run_forever()
        finally:
            if server is not None:
                server.close()
            for task in self._inside:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*self._inside, return_exceptions=True))
            self._loop.close()

    async def _enter(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._inside.add(task)
        address = writer.get_extra_info("peername")
        if address is None:  # it is gone again
            self._inside.discard(task)
            writer.transport.abort()
            return
        host = str(address[0])
        self._held[host] += 1
        try:
            is_full = len(self._inside) > _MOST_AT_ONCE and not self._make_room()
            if is_full or self._held[host] > _MOST_OF_ONE:
                self._turn_away(host, "too many connections over TLS", "look for a port scanner at this address")
            elif await self._shake_hands(task, writer, host):
                await self._pass_on(reader, writer, address)
        except (OSError, asyncio.CancelledError):  # either side is gone
            pass
        except Exception as error:  # this connection alone ends
            log.exception("a TLS connection broke", extra={"error": type(error).__name__})
        finally:
            self._inside.discard(task)
            self._held -= Counter({host: 1})  # which drops what is at nothing
            writer.transport.abort()

    def _make_room(self) -> bool:
        """End the oldest handshake of the address that has most: who never begins to speak keeps nobody out."""
        if not self._shaking:
            return False
        (host, _), *_ = Counter(self._shaking.values()).most_common(1)
        oldest = next(task for task, of in self._shaking.items() if of == host)
        del self._shaking[oldest]
        oldest.cancel()
        return True

    async def _shake_hands(self, task: asyncio.Task[None], writer: asyncio.StreamWriter, host: str) -> bool:
        self._shaking[task] = host
        try:
            await writer.start_tls(self._contexts.current(), ssl_handshake_timeout=_HANDSHAKE_S)
        except (ssl.SSLError, OSError, SettingError) as error:
            why = getattr(error, "reason", None) or type(error).__name__
            advice = "its certificate, its trust in ours, or its TLS version does not fit"
            self._turn_away(host, f"no TLS connection ({str(why).lower().replace('_', ' ')})", advice)
            return False
        finally:
            self._shaking.pop(task, None)
        return True

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: tuple[Any, ...]
    ) -> None:
        """Between the peer and the listener, until both directions have ended."""
        ours, theirs = socket.socketpair()
        try:
            inner_reader, inner_writer = await asyncio.open_connection(sock=ours, limit=_CHUNK_BYTES)
        except OSError:
            ours.close()
            theirs.close()
            raise
        descriptor = ours.fileno()
        self._welcome(theirs, address, _certificate(writer.get_extra_info("ssl_object")))
        try:
            inward = asyncio.create_task(_pump(reader, inner_writer))
            await _pump(inner_reader, writer, _STALLED_S)  # ends when the server closes its side
            await _until_closed(descriptor, inward)
            inward.cancel()
            with contextlib.suppress(OSError, TimeoutError):
                writer.close()
                await asyncio.wait_for(writer.wait_closed(), _HANDSHAKE_S)
        finally:
            inner_writer.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, stalled_s: float | None = None) -> None:
    """Until the reader ends, or the writer takes nothing for so long. None: it may, as a slow disk does."""
    with contextlib.suppress(OSError):  # which TimeoutError is
        while data := await reader.read(_CHUNK_BYTES):
            writer.write(data)
            async with asyncio.timeout(stalled_s):
                await writer.drain()
    with contextlib.suppress(OSError, NotImplementedError):
        if writer.can_write_eof():
            writer.write_eof()


async def _until_closed(descriptor: int, inward: asyncio.Task[None]) -> None:
    """A server that has said all may go on reading for a while what the client still sends, so that it hears it."""
    poll = select.poll()
    poll.register(descriptor, 0)
    until = asyncio.get_running_loop().time() + _STALLED_S
    while not inward.done() and not poll.poll(0) and asyncio.get_running_loop().time() < until:
        await asyncio.sleep(_LOOK_S)


class _Contexts:
    """The TLS context of the files as they are now."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._certificate, self._key, self._authorities = files.certificate, files.key or None, files.authorities
        self._made: tuple[tuple[tuple[int, int], ...], ssl.SSLContext] | None = None

    def current(self) -> ssl.SSLContext:
        """Made anew when a file has changed; while the new ones cannot be used, the one before serves on."""
        try:
            files = [Path(name).stat() for name in (self._certificate, self._key, self._authorities) if name]
            state = tuple((file.st_mtime_ns, file.st_size) for file in files)
            if self._made is None or self._made[0] != state:
                self._made = state, self._read()
        except (OSError, ssl.SSLError) as error:
            why = f"{self._files.setting}: cannot be used: {error.strerror or type(error).__name__}"
            if self._made is None:
                raise SettingError(why) from None
            log.error("the TLS certificate is not read again", extra={"reason": why})
        return self._made[1]

    def _read(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(CIPHERS)
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
        context.load_cert_chain(self._certificate, self._key)
        if self._authorities:
            context.load_verify_locations(self._authorities)
            context.verify_mode = ssl.CERT_REQUIRED
        if self._files.protocol:
            context.set_alpn_protocols([self._files.protocol])
        return context


def _certificate(connection: ssl.SSLObject) -> Certificate | None:
    """Of the peer, where one was asked for: then it is verified."""
    der, told = connection.getpeercert(binary_form=True), connection.getpeercert()
    if not der or not told:
        return None
    subject: Any = told.get("subject", ())
    names = [str(value) for part in subject for key, value in part if key == "commonName"]
    return Certificate(sha256=hashlib.sha256(der).hexdigest(), common_name=names[-1] if names else "")
