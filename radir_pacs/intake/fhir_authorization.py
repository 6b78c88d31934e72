"""How a pull authorizes itself at a FHIR server: by a fixed header, or by SMART Backend Services.

SMART App Launch 2.2, "Backend Services" and "Client Authentication: Asymmetric", over RFC 6749 4.4 (client
credentials), RFC 7521 and RFC 7523 (a signed assertion in place of a password).
"""

from __future__ import annotations

import json
import re
import time
import uuid
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urljoin, urlsplit

from joserfc import jwk, jwt
from joserfc.errors import JoseError, SecurityWarning

from radir_pacs.errors import PeerFailed, SettingError
from radir_pacs.intake.fhir_http import Wait, ask
from radir_pacs.reasons import ReasonCode

WELL_KNOWN = ".well-known/smart-configuration"
_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_ASSERTION_S = 240  # SMART: at most five minutes
_MOST_BYTES = 1 << 20
_USUAL_S, _LONGEST_S = 300.0, 86_400.0
_TOKEN = re.compile(r"[\x21-\x7e]{1,65536}")
_ERROR = re.compile(r"[a-z_]{1,40}")
_RSA_ALGORITHMS = ("RS384", "RS512", "RS256", "PS384")  # SMART: servers take RS384 or ES384; the others are tolerated
_EC_ALGORITHMS = {"P-384": "ES384", "P-256": "ES256", "P-521": "ES512"}
_LEAST_RSA_BITS = 2048

SigningKey = jwk.RSAKey | jwk.ECKey


class Authorization(Protocol):
    """What a request says of who asks."""

    def headers(self) -> Mapping[str, str]:
        """Raises PeerFailed when there is none to be had."""
        ...

    def refused(self) -> bool:
        """The server took it no longer; whether `headers` will say something else now."""
        ...


class FixedAuthorization:
    """The same header every time, such as ``Bearer …``; none where it is empty."""

    def __init__(self, header: str = "") -> None:
        self._header = header

    def headers(self) -> Mapping[str, str]:
        return {"Authorization": self._header} if self._header else {}

    def refused(self) -> bool:
        return False


class SmartAuthorization:
    """A token that the server at ``url`` tells us where to ask for, kept until shortly before it expires."""

    def __init__(
        self,
        url: str,
        *,
        client_id: str,
        key: SigningKey,
        scope: str,
        wait: Wait = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``clock``: seconds, for the age of the token."""
        self._url = url.rstrip("/") + "/"
        self._client_id, self._key, self._scope = client_id, key, scope
        self._wait, self._clock = wait, clock
        self._token = ""
        self._until = float("-inf")

    def headers(self) -> Mapping[str, str]:
        if self._clock() >= self._until:
            self._renew()
        return {"Authorization": f"Bearer {self._token}"}

    def refused(self) -> bool:
        self._until = float("-inf")
        return True

    def _renew(self) -> None:
        endpoint, algorithm = self._discover()
        asked_at = self._clock()
        status, said = ask(
            "POST",
            endpoint,
            most_bytes=_MOST_BYTES,
            headers={"Accept": "application/json"},
            form=lambda: {
                "grant_type": "client_credentials",
                "scope": self._scope,
                "client_assertion_type": _ASSERTION_TYPE,
                "client_assertion": self._assertion(endpoint, algorithm),
            },
            wait=self._wait,
        )
        said = said if isinstance(said, Mapping) else {}
        if status != 200:  # RFC 6749 5.2 names the error; its description is the server's prose
            error = str(said.get("error"))
            named = f" ({error})" if _ERROR.fullmatch(error) and "error" in said else ""
            raise PeerFailed(f"the authorization server answered {status}{named}", reason_code=ReasonCode.PEER_REFUSED)
        token = said.get("access_token")
        if not (isinstance(token, str) and _TOKEN.fullmatch(token)) or str(said.get("token_type")).lower() != "bearer":
            raise PeerFailed("the authorization server gave no bearer token", reason_code=ReasonCode.PEER_BAD_ANSWER)
        lasts_s = said.get("expires_in")
        lasts_s = float(lasts_s) if isinstance(lasts_s, int | float) and 0 <= lasts_s <= _LONGEST_S else _USUAL_S
        self._token, self._until = token, asked_at + lasts_s - min(30.0, lasts_s / 4)

    def _discover(self) -> tuple[str, str]:
        """The token endpoint, and an algorithm that both sides know."""
        headers = {"Accept": "application/json"}
        url = urljoin(self._url, WELL_KNOWN)
        status, said = ask("GET", url, most_bytes=_MOST_BYTES, headers=headers, wait=self._wait)
        endpoint = said.get("token_endpoint") if isinstance(said, Mapping) else None
        if status != 200 or not isinstance(endpoint, str):
            raise PeerFailed(f"{WELL_KNOWN} names no token endpoint", reason_code=ReasonCode.PEER_BAD_ANSWER)
        endpoint = urljoin(url, endpoint)
        allowed = {"https"} if urlsplit(url).scheme == "https" else {"https", "http"}
        if urlsplit(endpoint).scheme not in allowed or not urlsplit(endpoint).hostname:
            raise PeerFailed("the token endpoint is no https address", reason_code=ReasonCode.PEER_BAD_ANSWER)
        known = said.get("token_endpoint_auth_signing_alg_values_supported")
        ours = algorithms(self._key)
        shared = [one for one in ours if one in known] if isinstance(known, list) and known else list(ours)
        if not shared:
            raise PeerFailed(
                "fhir_client_key: the authorization server takes no signature of this kind of key",
                reason_code=ReasonCode.WRONG_SETTING,
            )
        return endpoint, shared[0]

    def _assertion(self, endpoint: str, algorithm: str) -> str:
        """A JWT that holds for minutes and for this endpoint alone; its id is never used twice (RFC 7523 3)."""
        now = int(time.time())
        claims = {
            "iss": self._client_id,
            "sub": self._client_id,
            "aud": endpoint,
            "iat": now,
            "exp": now + _ASSERTION_S,
            "jti": str(uuid.uuid4()),
        }
        return jwt.encode({"alg": algorithm, "kid": self._key.kid}, claims, self._key, algorithms=[algorithm])


def algorithms(key: SigningKey) -> tuple[str, ...]:
    """What ``key`` can sign by, the best known first."""
    return _RSA_ALGORITHMS if isinstance(key, jwk.RSAKey) else (_EC_ALGORITHMS[str(key.as_dict(private=False)["crv"])],)


def read_key(path: Path) -> SigningKey:
    """The private key in a PEM or JWK file, with the id that is in it, else its thumbprint (RFC 7638).

    Raises SettingError, which says nothing of what is in the file.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SettingError(f"fhir_client_key: {path} cannot be read: {error.strerror}") from None
    for kind in (jwk.RSAKey, jwk.ECKey):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SecurityWarning)  # a key too short is refused below
                found = kind.import_key(json.loads(data) if data.lstrip().startswith(b"{") else data)
        except (JoseError, ValueError, TypeError, KeyError, RecursionError):
            continue
        if found.is_private and _is_strong(found):
            return found if found.kid else kind.import_key(found.as_dict(private=True) | {"kid": found.thumbprint()})
    raise SettingError(
        f"fhir_client_key: {path} holds no private key in PEM or JWK, RSA of at least {_LEAST_RSA_BITS} bits or EC of"
        f" {', '.join(_EC_ALGORITHMS)}, without a password"
    )


def _is_strong(key: SigningKey) -> bool:
    if isinstance(key, jwk.RSAKey):
        return key.public_key.key_size >= _LEAST_RSA_BITS
    return key.as_dict(private=False)["crv"] in _EC_ALGORITHMS


def new_key() -> bytes:
    """A private key for ES384, as PEM."""
    return jwk.ECKey.generate_key("P-384", private=True).as_pem(private=True)


def public_keys(key: SigningKey) -> dict[str, Any]:
    """The key set (RFC 7517 5) that the authorization server is given: public parts only."""
    public = key.as_dict(private=False)
    return {"keys": [public | {"kid": key.kid, "use": "sig", "alg": algorithms(key)[0], "key_ops": ["verify"]}]}
