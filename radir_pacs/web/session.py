"""The cookie of a browser: a random id that no script can read, and by it who is signed in.

Before somebody signs in, the id only binds forms to the browser that was shown them; whoever signs in gets another one,
so nobody can fix it beforehand. Browsers send it with requests of our own pages, and when a link is followed, which
changes nothing. A request that changes something and bears it must come from a page of ours: it says so by itself
(Origin, Sec-Fetch-Site), or repeats the secret of its form.
"""

from __future__ import annotations

import hmac
import re
import secrets
from typing import cast

from flask import Response, g, request

from radir_pacs.access.sessions import Held
from radir_pacs.errors import BadInput

from .proxies import public_url
from .services import services

COOKIE = "radir_session"
FIELD = "csrf"
_ID = re.compile(r"[A-Za-z0-9_-]{43}")
_FORM = "application/x-www-form-urlencoded"


def held() -> Held | None:
    """Who is signed in with the browser that sent the current request. Raises StorageFailed.

    Pages that ask again by themselves keep nobody signed in.
    """
    if "radir_held" not in g:
        given = _given()
        polled = (request.endpoint or "").endswith(".live")
        g.radir_held = services().sessions.of(given, is_used=not polled) if given else None
    return cast("Held | None", g.radir_held)


def browser() -> str:
    """The id of this browser, signed in or not; one is made, and goes with the answer, where it sent none."""
    if "radir_browser" not in g:
        g.radir_browser = _given()
        if not g.radir_browser:
            change(secrets.token_urlsafe(32))
    return cast(str, g.radir_browser)


def change(made: str) -> None:
    """From now on the browser has this id."""
    g.radir_browser, g.radir_browser_is_new = made, True


def csrf() -> str:
    """What the forms of the current page repeat."""
    return services().sessions.secret(browser())


def check_form() -> None:
    """Raise BadInput where the form that was sent is not of a page that this browser was shown."""
    if not repeats_secret():
        raise BadInput("this form is out of date: reload its page and send it again")


def repeats_secret() -> bool:
    """Whether the current request is a form of a page that this browser was shown."""
    given = _given()
    if not given or request.mimetype != _FORM:
        return False
    return hmac.compare_digest(services().sessions.secret(given).encode(), request.form.get(FIELD, "").encode())


def keep(response: Response) -> None:
    """Send the cookie where the browser has none, or shall have another."""
    if g.get("radir_browser_is_new"):
        response.set_cookie(
            _name(), g.radir_browser, path="/", httponly=True, samesite="Lax", secure=_is_secure()
        )  # without max_age: closing the browser ends it


def end(response: Response) -> None:
    """Nobody is signed in with this browser any more."""
    given = _given()
    if given:
        services().sessions.end(given)
    g.radir_held = None
    response.delete_cookie(_name(), path="/", httponly=True, samesite="Lax", secure=_is_secure())


def held_if_known() -> Held | None:
    """Who is signed in, as far as this request has asked; for pages that must not ask the catalogue."""
    return cast("Held | None", g.get("radir_held"))


def name_if_known() -> str:
    """The name of the same."""
    found = held_if_known()
    return found.caller.name if found is not None else ""


def _given() -> str:
    found = request.cookies.get(_name(), "")
    return found if _ID.fullmatch(found) else ""


def _name() -> str:
    """Over https with a prefix by which browsers let no other host or path set it (RFC 6265bis 4.1.3.2)."""
    return f"__Host-{COOKIE}" if _is_secure() else COOKIE


def _is_secure() -> bool:
    return public_url(services().settings).startswith("https:")
