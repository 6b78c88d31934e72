"""Requests to a FHIR server and its authorization server: bounded, never redirected, repeated where that may help."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import requests

from radir_pacs.errors import PeerFailed
from radir_pacs.reasons import ReasonCode

log = logging.getLogger(__name__)

_TRIES = 5
_LONGEST_WAIT_S = 60.0
_TIMEOUT_S = 60.0
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
_CHUNK = 1 << 16

Wait = Callable[[float], None]


def ask(
    method: str,
    url: str,
    *,
    most_bytes: int,
    headers: Mapping[str, str],
    form: Callable[[], Mapping[str, str]] | None = None,
    wait: Wait = time.sleep,
) -> tuple[int, Any]:
    """Status and JSON of the answer; the JSON is None where it is none. ``form``: made anew for each attempt.

    Raises PeerFailed for no answer in several attempts, and for one that is too large.
    """
    status, _, body = fetch(method, url, most_bytes=most_bytes, headers=headers, form=form, wait=wait)
    return status, as_json(body)


def fetch(
    method: str,
    url: str,
    *,
    most_bytes: int,
    headers: Mapping[str, str],
    form: Callable[[], Mapping[str, str]] | None = None,
    wait: Wait = time.sleep,
) -> tuple[int, str, bytes]:
    """Status, media type and content of the answer. Raises PeerFailed as `ask` does."""
    for attempt in range(_TRIES):
        pause_s = min(2.0**attempt, _LONGEST_WAIT_S)
        try:
            with requests.request(
                method,
                url,
                headers=dict(headers),
                data=form() if form else None,
                timeout=_TIMEOUT_S,
                stream=True,
                allow_redirects=False,
                auth=_no_netrc,
            ) as answer:
                if answer.status_code not in _TRANSIENT:
                    kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
                    return answer.status_code, kind, _content(answer, most_bytes)
                after = answer.headers.get("Retry-After", "")
                pause_s = min(float(after), _LONGEST_WAIT_S) if after.isdecimal() else pause_s
        except requests.RequestException as error:
            log.warning("no answer", extra={"error": type(error).__name__})
        if attempt + 1 < _TRIES:
            wait(pause_s)
    raise PeerFailed(f"the server did not answer in {_TRIES} attempts", reason_code=ReasonCode.PEER_NO_ANSWER)


def _no_netrc(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Without an ``auth`` requests takes a password from ~/.netrc and overwrites the Authorization header with it."""
    return request


def _content(answer: requests.Response, most_bytes: int) -> bytes:
    body = bytearray()
    for chunk in answer.iter_content(_CHUNK):
        body += chunk
        if len(body) > most_bytes:
            raise PeerFailed("the server's answer is too large", reason_code=ReasonCode.PEER_TOO_LARGE)
    return bytes(body)


def as_json(body: bytes) -> Any:
    """None for what is no JSON."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
