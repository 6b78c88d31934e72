"""AuditEvents to a FHIR server, one POST each (IHE ITI-20, RESTful ATX: FHIR Feed), on one connection."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import orjson
import requests
import urllib3

from radir_pacs.catalogue import AuditRow
from radir_pacs.config import Settings
from radir_pacs.errors import PeerFailed
from radir_pacs.reasons import ReasonCode

from .fhir_event import fhir_event
from .terms import Source

_MOST_ANSWER_BYTES = 1 << 16
# What a server says to one event; to the others (who are you, too many, I am ill) it may say another thing later.
_REFUSED = frozenset({400, 404, 409, 410, 412, 413, 415, 422})


class FhirReceiver:
    """The server of the setting ``audit_fhir``. deadline_s: for a batch. wait_s: for an answer to begin."""

    name = "fhir"

    def __init__(self, settings: Settings, source: Source, *, deadline_s: float = 60.0, wait_s: float = 20.0) -> None:
        self._url = settings.audit_fhir.rstrip("/") + "/AuditEvent"
        self._settings, self._source = settings, source
        self._deadline_s, self._wait_s = deadline_s, wait_s

    def send(self, rows: Sequence[AuditRow]) -> Iterator[AuditRow]:
        """Yields each event that the server accepted, in their order. Raises PeerFailed at the first that it did not.

        What is left when the time for a batch is over is sent with the next one.
        """
        ends_s = time.monotonic() + self._deadline_s
        with requests.Session() as session:
            session.trust_env = False  # no proxy and no password from the environment
            session.verify = self._settings.audit_ca or True
            if self._settings.audit_certificate:
                key = self._settings.audit_key or self._settings.audit_certificate
                session.cert = (self._settings.audit_certificate, key)
            session.headers["Content-Type"] = "application/fhir+json"
            session.headers["Prefer"] = "return=minimal"
            if self._settings.audit_fhir_authorization:
                session.headers["Authorization"] = self._settings.audit_fhir_authorization
            for row in rows:
                if time.monotonic() > ends_s:
                    return
                self._post(session, orjson.dumps(fhir_event(row, self._source)), ends_s)
                yield row

    def _post(self, session: requests.Session, body: bytes, ends_s: float) -> None:
        try:
            with session.post(self._url, data=body, timeout=self._wait_s, stream=True, allow_redirects=False) as answer:
                status = answer.status_code
                _drain(answer, ends_s)
        except requests.exceptions.SSLError as error:
            code = ReasonCode.PEER_UNTRUSTED if "CERTIFICATE_VERIFY" in str(error) else ReasonCode.PEER_NO_ANSWER
            raise PeerFailed("no secure connection", reason_code=code) from None
        except requests.exceptions.ReadTimeout:
            raise PeerFailed("it takes too long", reason_code=ReasonCode.PEER_TOO_SLOW) from None
        except requests.exceptions.ConnectionError:
            raise PeerFailed("it does not answer", reason_code=ReasonCode.PEER_UNREACHABLE) from None
        except (requests.RequestException, OSError):  # OSError: certificate files that are not there
            raise PeerFailed("it broke off", reason_code=ReasonCode.PEER_NO_ANSWER) from None
        if not 200 <= status < 300:
            code = ReasonCode.PEER_REFUSED if status in _REFUSED else ReasonCode.PEER_BAD_ANSWER
            raise PeerFailed(f"it answered {status}", reason_code=code)


def _drain(answer: requests.Response, ends_s: float) -> None:
    """Read the rest of a short answer, so that the connection serves the next event; a long one ends it."""
    left = _MOST_ANSWER_BYTES
    try:
        while left > 0 and time.monotonic() < ends_s:
            chunk = answer.raw.read1(left)
            if not chunk:
                return
            left -= len(chunk)
    except (urllib3.exceptions.HTTPError, OSError):
        pass  # the status is what counts, and is known
    answer.raw.close()
