"""DICOM audit messages by syslog over TLS (PS3.15 A.6, IHE ITI-20): headers of RFC 5424 in the frames of RFC 5425.

Syslog has no acknowledgement. A batch counts as received when the receiver, told that we end (close_notify, then TCP's
FIN), ends its side in order with all our bytes acknowledged: then its process has read them. What it does with them
afterwards is not known here.
"""

from __future__ import annotations

import fcntl
import os
import re
import socket
import ssl
import sys
import termios
import time
from array import array
from collections.abc import Iterator, Sequence
from datetime import UTC

from radir_pacs.catalogue import AuditRow
from radir_pacs.config import Settings
from radir_pacs.errors import PeerFailed, SettingError
from radir_pacs.reasons import ReasonCode

from .dicom_message import audit_message
from .terms import TOLD, Source

PORT = 6514  # RFC 5425 4.1
_AUTHPRIV, _WARNING, _NOTICE = 10, 4, 5
_MESSAGE_ID = "DICOM+RFC3881"  # PS3.15 A.6
_BOM = b"\xef\xbb\xbf"  # RFC 5424 6.4: what follows is UTF-8
_LOOK_AGAIN_S = 0.005
_NOT_PRINTABLE = re.compile(r"[^\x21-\x7e]")


class SyslogReceiver:
    """The receiver of the setting ``audit_syslog``; ``deadline_s``: for one batch, from the connection to its end."""

    name = "syslog"

    def __init__(self, settings: Settings, source: Source, *, deadline_s: float = 30.0) -> None:
        host, _, port = settings.audit_syslog.rpartition(":")
        self._address = (host.strip("[]"), int(port))
        self._settings, self._source, self._deadline_s = settings, source, deadline_s

    def send(self, rows: Sequence[AuditRow]) -> Iterator[AuditRow]:
        """Send all on one connection; yields the last one once the receiver has all. Raises PeerFailed."""
        ends_s = time.monotonic() + self._deadline_s
        try:
            with (
                socket.create_connection(self._address, timeout=self._deadline_s) as plain,
                tls_context(self._settings).wrap_socket(
                    plain, server_hostname=self._address[0], do_handshake_on_connect=False
                ) as line,
            ):
                line.settimeout(_left(ends_s))
                line.do_handshake()
                for row in rows:
                    line.settimeout(_left(ends_s))
                    line.sendall(frame(row, self._source))
                _end(line, ends_s)
        except ssl.SSLCertVerificationError:
            raise PeerFailed("its certificate is not valid here", reason_code=ReasonCode.PEER_UNTRUSTED) from None
        except TimeoutError:
            raise PeerFailed("it takes too long", reason_code=ReasonCode.PEER_TOO_SLOW) from None
        except ConnectionRefusedError:
            raise PeerFailed("nobody listens there", reason_code=ReasonCode.PEER_UNREACHABLE) from None
        except socket.gaierror:
            raise PeerFailed("its name is not known", reason_code=ReasonCode.PEER_UNREACHABLE) from None
        except OSError:  # also ssl.SSLError
            raise PeerFailed("it broke off", reason_code=ReasonCode.PEER_NO_ANSWER) from None
        yield rows[-1]


def frame(row: AuditRow, source: Source) -> bytes:
    """One message in its frame: its length in octets, a space, the message (RFC 5425 4.3)."""
    severity = _WARNING if TOLD[row.event].failed else _NOTICE
    at = row.at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    app, host = _field(source.name, 48), _field(source.host, 255)
    head = f"<{_AUTHPRIV * 8 + severity}>1 {at} {host} {app} {os.getpid()} {_MESSAGE_ID} - "
    message = head.encode() + _BOM + audit_message(row, source)
    return b"%d %s" % (len(message), message)


def tls_context(settings: Settings) -> ssl.SSLContext:
    """For a client that checks the server's name, of TLS 1.2 and 1.3. Raises SettingError for files of no use.

    Made anew for each connection, so that files that were replaced are used.
    """
    try:
        context = ssl.create_default_context(cafile=settings.audit_ca or None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if settings.audit_certificate:
            context.load_cert_chain(settings.audit_certificate, settings.audit_key or None)
    except OSError:  # also ssl.SSLError
        raise SettingError("audit_ca, audit_certificate, audit_key: not files of TLS certificates and a key") from None
    return context


def _end(line: ssl.SSLSocket, ends_s: float) -> None:
    """End our side, and return once the receiver ended its own having read everything; else raises OSError.

    A kernel acknowledges nothing to a socket that was closed, and resets one that is closed with bytes unread: that
    its end came in order, and that all our bytes were acknowledged, says that they were read.
    """
    line.settimeout(_left(ends_s))
    try:
        line.unwrap()  # sends close_notify; waits for the receiver's, which some leave out
    except ssl.SSLEOFError:
        pass
    except OSError as error:
        if error.errno:  # zero: the same, as older versions of OpenSSL tell it
            raise
    with socket.socket(fileno=os.dup(line.fileno())) as plain:
        plain.settimeout(_left(ends_s))
        plain.shutdown(socket.SHUT_WR)
        while plain.recv(4096):
            plain.settimeout(_left(ends_s))
        while _unacknowledged(plain):
            _left(ends_s)
            time.sleep(_LOOK_AGAIN_S)
        if error_number := plain.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(error_number, "the connection was reset")


def _unacknowledged(plain: socket.socket) -> int:
    """Bytes that the other side's kernel has not acknowledged; where that cannot be asked, 0."""
    if not sys.platform.startswith("linux"):
        return 0
    return int(array("i", fcntl.ioctl(plain, termios.TIOCOUTQ, bytes(4)))[0])


def _left(ends_s: float) -> float:
    left_s = ends_s - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    return left_s


def _field(text: str, most: int) -> str:
    """As RFC 5424 has it in a header: printable ASCII without spaces."""
    return _NOT_PRINTABLE.sub("_", text)[:most] or "-"
