"""Signing in at a provider: OpenID Connect, by its code flow with PKCE, through Authlib.

A person is who the provider's ``sub`` says, never an e-mail address or a name, which may be given to somebody else.
What the provider sends by the browser is believed only as far as its signed ID token says the same to us directly.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

import requests
from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from radir_pacs.access import provider_mapping
from radir_pacs.catalogue import Rights, Visit
from radir_pacs.config import LOOPBACK, Settings
from radir_pacs.errors import PeerFailed, SignInFailed
from radir_pacs.reasons import ReasonCode

log = logging.getLogger(__name__)

# Asymmetric ones: whoever verifies cannot sign. "none" is not among them.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
SKEW_S = 60  # by which the provider's clock may differ from ours
_KEPT_S, _AGAIN_S = 3600.0, 30.0
_TIMEOUT_S = (3.0, 10.0)  # to connect, to answer
_AT_ONCE = 2  # requests to the provider: one that hangs must not hold all threads of the service
_MOST_BYTES = 1 << 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._@-]{0,47}")
_PREFIX = "oidc:"  # no name of ours holds a colon


@dataclass(frozen=True, kw_only=True)
class Person:
    """Whom the provider has signed in; ``rights``: None for one who is in no group that has any."""

    subject: str
    name: str
    rights: Rights | None
    id_token: str


class Provider:
    """Safe for many threads. What it publishes of itself is kept for an hour, that it did not answer for half a minute.

    Raises SettingError for a mapping that cannot be used; the provider itself need not be there yet.
    """

    def __init__(self, settings: Settings, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._settings, self._clock_s = settings, clock_s
        self._lock = threading.Lock()
        self._turns = threading.BoundedSemaphore(_AT_ONCE)
        self._kept: dict[str, tuple[float, Mapping[str, Any]]] = {}
        self._asked_s: dict[str, float] = {}
        provider_mapping.load(settings.oidc_mapping)

    @property
    def issuer(self) -> str:
        return self._settings.oidc_issuer

    def sign_in_url(self, visit: Visit, state: str, back: str) -> str:
        """Where the browser goes, to come back to ``back``. Raises PeerFailed."""
        with self._session(back) as session:
            url, _ = session.create_authorization_url(
                self._metadata()["authorization_endpoint"], state=state, code_verifier=visit.verifier, nonce=visit.nonce
            )
        return str(url)

    def person(self, said: Mapping[str, str], visit: Visit, back: str) -> Person:
        """Who came back with these parameters. Raises SignInFailed for what is not to be believed, and PeerFailed."""
        metadata = self._metadata()
        if "error" in said:
            raise self._refusal("denied")
        issuer = said.get("iss")  # RFC 9207: an answer of another provider is not taken for one of ours
        is_missing = issuer is None and metadata.get("authorization_response_iss_parameter_supported") is True
        if is_missing or issuer not in (None, self.issuer):
            raise self._refusal("issuer")
        tokens = self._exchange(said.get("code", ""), visit, back)
        id_token = tokens.get("id_token")
        if not isinstance(id_token, str):
            raise self._refusal("no_id_token")
        claims = self._verified(id_token, visit, tokens.get("access_token"))
        groups_claim, name_claim = self._settings.oidc_groups_claim, self._settings.oidc_name_claim
        if groups_claim not in claims and metadata.get("userinfo_endpoint"):
            claims = self._user_info(str(tokens.get("access_token")), claims) | claims
        groups = claims.get(groups_claim, [])
        groups = [groups] if isinstance(groups, str) else groups
        groups = {one for one in groups if isinstance(one, str)} if isinstance(groups, list) else set()
        allowed = provider_mapping.load(self._settings.oidc_mapping)  # as it is now
        subject = str(claims["sub"])
        return Person(
            subject=subject,
            name=_name(claims.get(name_claim), subject),
            rights=provider_mapping.rights_of(groups, allowed),
            id_token=id_token,
        )

    def sign_out_url(self, id_token: str, back: str) -> str | None:
        """Where the browser ends the session at the provider (RP-Initiated Logout 1.0); None where it offers none."""
        try:
            where = self._metadata().get("end_session_endpoint")
        except PeerFailed:
            return None
        if not isinstance(where, str) or not self._is_safe(where):
            return None
        parameters = {"id_token_hint": id_token, "post_logout_redirect_uri": back}
        parameters["client_id"] = self._settings.oidc_client_id
        return f"{where}{'&' if '?' in where else '?'}{urlencode(parameters)}"

    def _session(self, back: str) -> Any:
        methods = self._metadata().get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        method = "client_secret_basic" if "client_secret_basic" in methods else "client_secret_post"
        return OAuth2Session(
            client_id=self._settings.oidc_client_id,
            client_secret=self._settings.oidc_client_secret or None,
            scope=self._settings.oidc_scopes,
            redirect_uri=back,
            code_challenge_method="S256",
            token_endpoint_auth_method=method if self._settings.oidc_client_secret else "none",
            default_timeout=_TIMEOUT_S,
        )

    def _exchange(self, code: str, visit: Visit, back: str) -> Mapping[str, Any]:
        """The tokens for a code (OpenID Connect Core 3.1.3)."""
        try:
            with self._turn(), self._session(back) as session:
                tokens: Mapping[str, Any] = session.fetch_token(
                    self._metadata()["token_endpoint"],
                    grant_type="authorization_code",
                    code=code,
                    code_verifier=visit.verifier,
                    redirect_uri=back,
                    allow_redirects=False,
                )
        except OAuthError as error:
            raise self._refusal("code") from error
        except (requests.RequestException, ValueError):
            raise PeerFailed("the provider does not answer", reason_code=ReasonCode.PEER_NO_ANSWER) from None
        return tokens

    def _verified(self, id_token: str, visit: Visit, access_token: object) -> dict[str, Any]:
        """The claims of an ID token (OpenID Connect Core 3.1.3.7)."""
        client_id = self._settings.oidc_client_id
        try:
            try:
                found = jwt.decode(id_token, self._keys(), algorithms=list(ALGORITHMS))
            except JoseError:  # a key may be newer than what was kept
                found = jwt.decode(id_token, self._keys(anew=True), algorithms=list(ALGORITHMS))
            claims = CodeIDToken(
                found.claims,
                found.header,
                options={
                    "iss": {"essential": True, "value": self.issuer},
                    "sub": {"essential": True, "allow_blank": False},
                    "aud": {"essential": True, "value": client_id},
                    "nonce": {"essential": True, "value": visit.nonce},
                },
                params={"nonce": visit.nonce, "client_id": client_id, "access_token": access_token},
            )
            claims.validate(leeway=SKEW_S)
        except (JoseError, ValueError, TypeError, KeyError) as error:
            raise self._refusal("id_token") from error
        if not isinstance(claims["sub"], str) or len(claims["sub"]) > 255:
            raise self._refusal("subject")
        return dict(claims)

    def _user_info(self, access_token: str, claims: Mapping[str, Any]) -> dict[str, Any]:
        """More claims of the same person, nobody else's (OpenID Connect Core 5.3.2)."""
        where = self._metadata()["userinfo_endpoint"]
        with self._turn():
            told = self._get(where, {"Authorization": f"Bearer {access_token}"})
        if told.get("sub") != claims["sub"]:
            raise self._refusal("user_info")
        return dict(told)

    def _metadata(self) -> Mapping[str, Any]:
        """What the provider says of itself (OpenID Connect Discovery 1.0, 4)."""
        found = self._cached(self.issuer.rstrip("/") + "/.well-known/openid-configuration")
        ends = ("authorization_endpoint", "token_endpoint", "jwks_uri")
        if found.get("issuer") != self.issuer or not all(self._is_safe(found.get(name)) for name in ends):
            raise PeerFailed(
                "the provider's description names another issuer than oidc_issuer, or an address without https",
                reason_code=ReasonCode.PEER_BAD_ANSWER,
            )
        return found

    def _keys(self, *, anew: bool = False) -> KeySet:
        return KeySet.import_key_set(dict(self._cached(self._metadata()["jwks_uri"], anew=anew)))  # type: ignore[arg-type]

    def _cached(self, url: str, *, anew: bool = False) -> Mapping[str, Any]:
        """A document of the provider's, an hour old unless it does not answer; asked for twice a minute at most.

        One thread asks; others meanwhile use what was kept. Raises PeerFailed at once where there is nothing.
        """
        now_s = self._clock_s()
        with self._lock:
            at_s, found = self._kept.get(url, (float("-inf"), {}))
            if now_s - at_s < (_AGAIN_S if anew else _KEPT_S):
                return found
            is_due = now_s - self._asked_s.get(url, float("-inf")) >= _AGAIN_S
            if is_due:
                self._asked_s[url] = now_s
        if not is_due:
            if not found:
                raise PeerFailed("the provider did not answer just now", reason_code=ReasonCode.PEER_UNREACHABLE)
            return found
        try:
            answer = self._get(url)
        except PeerFailed:
            if not found:
                raise
            log.warning("the provider's description is not read again")
            return found
        with self._lock:
            self._kept[url] = now_s, answer
        return answer

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Raises PeerFailed at once where too many requests wait for the provider already."""
        if not self._turns.acquire(blocking=False):
            raise PeerFailed("the provider is slow: others wait for it", reason_code=ReasonCode.PEER_UNREACHABLE)
        try:
            yield
        finally:
            self._turns.release()

    def _get(self, url: str, headers: Mapping[str, str] | None = None) -> Mapping[str, Any]:
        if not self._is_safe(url):
            raise PeerFailed("the provider names an address without https", reason_code=ReasonCode.PEER_BAD_ANSWER)
        try:
            with requests.get(
                url,
                headers={"Accept": "application/json", **(headers or {})},
                timeout=_TIMEOUT_S,
                allow_redirects=False,
                stream=True,
            ) as answer:
                text = answer.raw.read(_MOST_BYTES + 1, decode_content=True)
                if answer.status_code != 200 or len(text) > _MOST_BYTES:
                    raise PeerFailed(
                        f"the provider answers {answer.status_code}", reason_code=ReasonCode.PEER_BAD_ANSWER
                    )
                found = json.loads(text)
        except (requests.RequestException, OSError):
            raise PeerFailed("the provider does not answer", reason_code=ReasonCode.PEER_UNREACHABLE) from None
        except ValueError:
            raise PeerFailed("the provider answers no JSON", reason_code=ReasonCode.PEER_BAD_ANSWER) from None
        if not isinstance(found, dict):
            raise PeerFailed("the provider answers no object", reason_code=ReasonCode.PEER_BAD_ANSWER)
        return found

    def _is_safe(self, url: object) -> bool:
        """https; http on this machine, where the issuer is there too."""
        told = urlsplit(url) if isinstance(url, str) else urlsplit("")
        here = told.scheme == "http" and told.hostname in LOOPBACK and self.issuer.startswith("http:")
        return told.scheme == "https" or here

    @staticmethod
    def _refusal(why: str) -> SignInFailed:
        log.warning("a sign-in at the provider is refused", extra={"why": why})
        return SignInFailed("the provider's answer is refused")


def _name(claimed: object, subject: str) -> str:
    """How the account is called; never like one of ours."""
    for one in (claimed, subject):
        if isinstance(one, str) and _NAME.fullmatch(one):
            return _PREFIX + one
    return _PREFIX + "person"
