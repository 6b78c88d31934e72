"""Signing in to the administrator's pages: a token that is typed once becomes a cookie that no script can read.

The cookie names the token by a keyed hash, so a token that is revoked ends its sessions within a second. It is signed,
not kept anywhere: every web process of the installation reads it. Its other half is the secret that each form must
repeat. Browsers send it to ``/admin`` alone, and from pages of other sites only when a link is followed, which changes
nothing: without it the page behind a link in a mail would begin an empty session and so end this one.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from dataclasses import asdict, dataclass
from typing import Any, cast

from flask import Response, g, request
from itsdangerous import BadData, URLSafeTimedSerializer

from radir_pacs.access.bearers import Bearers
from radir_pacs.access.keys import installation_key
from radir_pacs.callers import Caller
from radir_pacs.catalogue import token_sha256
from radir_pacs.config import Settings
from radir_pacs.errors import BadInput
from radir_pacs.web.proxies import public_url

COOKIE = "radir_admin"
PATH = "/admin"
SIGN_IN = "/admin/sign-in"
STATIC = "/admin/static/"
IDLE_S = 1800
LONGEST_S = 8 * 3600
FIELD = "csrf"


@dataclass(frozen=True, kw_only=True)
class Session:
    """``tag``: of the token, empty before one was given. ``since``: when it was given, in seconds since 1970."""

    tag: str
    csrf: str
    since: int


def current(settings: Settings) -> Session | None:
    """The session of the current request; None without one, or when it is too old."""
    if "radir_admin" not in g:
        g.radir_admin = _read(settings)
    return cast("Session | None", g.radir_admin)


def _read(settings: Settings) -> Session | None:
    try:
        told: Any = _signer(settings).loads(request.cookies.get(COOKIE, ""), max_age=IDLE_S)
        found = Session(**told)
    except (BadData, TypeError):
        return None
    return found if time.time() - found.since < LONGEST_S else None


def caller(bearers: Bearers, settings: Settings) -> Caller | None:
    """Who signed in, as long as the token is in force. Raises StorageFailed."""
    if request.path != PATH and not request.path.startswith(PATH + "/"):
        return None
    held = current(settings)
    if held is None or not held.tag:
        return None
    return bearers.known(lambda sha256: hmac.compare_digest(_tag(sha256, settings), held.tag))


def begin(token: str, settings: Settings) -> None:
    """A session of this token, with another secret than before."""
    g.radir_admin = _made(_tag(token_sha256(token.encode()), settings))


def csrf(settings: Settings) -> str:
    """What the forms of the current page repeat; a session is begun for it where there is none."""
    held = current(settings)
    if held is None:
        held = g.radir_admin = _made("")
    return held.csrf


def check(settings: Settings) -> None:
    """Raise BadInput where the form that was sent is not one of this session's pages."""
    held, given = current(settings), request.form.get(FIELD, "")
    if held is None or not hmac.compare_digest(held.csrf.encode(), given.encode()):
        raise BadInput("this form is out of date: reload its page and send it again")


def keep(response: Response, settings: Settings) -> None:
    """Send the cookie with a page, so that whoever goes on working stays signed in for a while."""
    held = current(settings)
    if held is not None:
        secure = public_url(settings).startswith("https:")
        value = _signer(settings).dumps(asdict(held))
        response.set_cookie(COOKIE, value, max_age=IDLE_S, path=PATH, httponly=True, samesite="Lax", secure=secure)


def end(response: Response) -> None:
    """Forget the cookie, in this browser; a copy that somebody took ends with time, or with the token."""
    g.radir_admin = None
    response.delete_cookie(COOKIE, path=PATH, httponly=True, samesite="Lax")


def _made(tag: str) -> Session:
    return Session(tag=tag, csrf=secrets.token_urlsafe(24), since=int(time.time()))


def _tag(sha256: str, settings: Settings) -> str:
    return hmac.new(_key(settings), sha256.encode(), hashlib.sha256).hexdigest()


def _signer(settings: Settings) -> URLSafeTimedSerializer:
    signing = {"digest_method": hashlib.sha256, "key_derivation": "hmac"}
    return URLSafeTimedSerializer(_key(settings), salt="administrator's pages", signer_kwargs=signing)


def _key(settings: Settings) -> bytes:
    return installation_key(settings.home / "session.key", "administrators sign in again")
