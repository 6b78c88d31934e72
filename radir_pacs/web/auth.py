"""Who may call: whoever is signed in, or bears a token, with a role that reaches the route (`route_rights`); on
loopback, as long as there are neither tokens nor accounts, requests whose Host names this machine.

A program sends its token as bearer (RFC 6750), or as the password of HTTP Basic (RFC 7617) with any user name. A person
signs in on a page of ours and bears a cookie (`session`); who opens another page is led there and back.

A page of another site, open in the same browser, must neither read from us nor trigger anything: the Host check stops
DNS rebinding, the Origin check stops cross-site writes, and origins that the settings do not list get no CORS header.
With a cookie it does not do to say nothing: what changes something must be known to come from a page of ours.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from urllib.parse import urlsplit

from flask import Flask, Response, g, request

from radir_pacs import metrics
from radir_pacs.access.bearers import Bearers
from radir_pacs.callers import AuditEvent, Caller, Role
from radir_pacs.catalogue import Catalogue
from radir_pacs.config import LOOPBACK, Settings
from radir_pacs.errors import NotInThisLink, RoleMayNot, StorageFailed, TooManyRequests

from . import context_rights, cross_origin, error_page, route_rights, session, way_back
from .errors import error_response
from .proxies import client_address, public_url
from .rate_limit import RateLimit
from .remembered import Remembered
from .sidebar import ohif

# nothing in them is about a patient
OPEN_PATHS = frozenset(
    {"/health/live", "/health/ready", "/favicon.ico", way_back.SIGN_IN, "/sign-in/provider", "/sign-in/return"}
)
OPEN_FOLDERS = ("/viewer/", "/ohif/", "/static/", "/admin/static/")  # programs, without data
_THIS_MACHINE, _LINK = "this machine", "link"
_REFUSED_AGAIN_S = 60.0
_NEEDED = "A token is needed, as bearer, or a session: /sign-in"
_NOT_VALID = "this token is not valid: unknown, revoked or expired"  # which of them is told to nobody
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def install(app: Flask, settings: Settings, catalogue: Catalogue, bearers: Bearers) -> None:
    """Refuse requests to ``app`` that nobody with a right to them sends; `audit.caller` then tells who sent one."""
    refused = Remembered(_REFUSED_AGAIN_S)
    own_hosts = {*LOOPBACK, urlsplit(settings.public_url).hostname}
    shared = metrics.shared_folder()  # of all processes that one start began
    limit = RateLimit(shared / "web.rates" if shared is not None else None, settings.rate_limit)

    @app.before_request
    def admit() -> Response | None:
        address = client_address(settings)
        authorization = request.headers.get("Authorization", "")
        by_link = context_rights.is_meant() and not authorization  # which a program sends
        by_cookie = False
        if not _are_needed():
            if _host(request.host) not in own_hosts:
                return error_response(421, "misdirected_request", "The Host header does not name this service.")
            if settings.web_host not in LOOPBACK:  # config refuses this at the start; refused here all the same
                return error_response(401, "unauthorized", "A bearer token is needed.")
            g.radir_caller = Caller(name=_THIS_MACHINE, role=Role.ADMINISTRATOR, address=address)
        elif _is_open(request.path):
            pass
        elif by_link and context_rights.enter(catalogue):
            _admit_by_link(address)
        elif not context_rights.is_meant_alone() and (known := _known(authorization)) is not None:
            held = session.held()
            by_cookie = held is not None
            g.radir_leaves_link = by_cookie and context_rights.is_left()
            if held is not None and held.is_of_account:
                g.radir_reader = known.name  # in whose name, and no other, they judge
            g.radir_caller = replace(known, address=address)
            _check_rate(f"{g.radir_caller.role} {g.radir_caller.name}")
            if held is not None and held.must_change and not route_rights.is_own_account(request.endpoint):
                if _is_page_for_a_person():
                    return way_back.to_page("/account")
                raise RoleMayNot("choose a password of your own first, at /account")
            if not route_rights.may(g.radir_caller.role, request.endpoint):
                _note_refused(g.radir_caller.name, g.radir_caller.role, address)
                if way_back.is_admin(request.path) and error_page.prefers_html():
                    return way_back.to_sign_in(why="role")
                raise RoleMayNot
        elif context_rights.enter(catalogue):
            _admit_by_link(address)
        else:
            if authorization:
                _note_refused("", Role.NOBODY, address)
            if _is_page_for_a_person() or (ohif.is_page(request.path) and request.method in _SAFE_METHODS):
                return way_back.to_sign_in()
            if way_back.is_admin(request.path) and error_page.prefers_html():
                return way_back.to_sign_in()
            response = error_response(401, "unauthorized", _NOT_VALID if authorization else _NEEDED)
            response.headers["WWW-Authenticate"] = 'Bearer realm="radir"'
            return response
        if request.method in _SAFE_METHODS:
            return None
        is_foreign = _is_cross_site(public_url(settings))
        if is_foreign and not by_cookie:  # a listed page sends a token of its own
            is_foreign = not cross_origin.is_admitted(settings)
        if is_foreign:
            return error_response(403, "forbidden", "Requests from pages of other sites are refused.")
        if by_cookie and not (_is_said_to_be_ours() or session.repeats_secret()):
            return error_response(403, "forbidden", "Nothing tells that this request is from a page of ours.")
        return None

    @app.after_request
    def leave_link(response: Response) -> Response:
        if g.get("radir_leaves_link"):
            response.delete_cookie(context_rights.COOKIE)
        return response

    def _admit_by_link(address: str) -> None:
        """Raises NotInThisLink, TooManyRequests."""
        g.radir_caller = context_rights.caller(_LINK, address)
        _check_rate(f"link {context_rights.link()}")
        if not context_rights.may(catalogue):
            _note_refused(g.radir_caller.name, Role.SIDEBAR, address)
            raise NotInThisLink

    def _known(authorization: str) -> Caller | None:
        held = session.held()
        return held.caller if held is not None else bearers.of(authorization)

    def _check_rate(caller: str) -> None:
        wait_s = limit.wait_s(caller)
        if wait_s:
            raise TooManyRequests(wait_s=wait_s)

    def _are_needed() -> bool:
        """Without the database, what is open to everybody is still answered, such as whether we live."""
        try:
            return bearers.are_needed
        except StorageFailed:
            if not _is_open(request.path):
                raise
            return True

    def _note_refused(name: str, role: Role, address: str) -> None:
        """An alert, once a minute per caller, so that a flood of refused requests does not fill the trail."""
        if (name, role, address) in refused:
            return
        by = Caller(name=name, role=role, address=address)
        with contextlib.suppress(StorageFailed):  # it is refused all the same, and recorded the next time
            catalogue.audit.note(AuditEvent.REFUSED, by, route=request.url_rule.rule if request.url_rule else None)
            refused.add((name, role, address))


def _is_open(path: str) -> bool:
    program = path.startswith(OPEN_FOLDERS) and not ohif.is_page(path)
    return program or path in OPEN_PATHS or ohif.is_chunk(path)


def _is_page_for_a_person() -> bool:
    """Whether a browser wants a page; not in a sidebar's context, which a PACS opened."""
    return error_page.is_wanted() and context_rights.COOKIE not in request.cookies and "context" not in request.args


def _is_said_to_be_ours() -> bool:
    """Whether a browser says that a page of ours made the request; what it says otherwise `_is_cross_site` refuses."""
    return "Origin" in request.headers or request.headers.get("Sec-Fetch-Site") == "same-origin"


def _is_cross_site(own_url: str) -> bool:
    """Another port is another site: what listens there is somebody else's program."""
    origin = request.headers.get("Origin")
    if origin is not None and origin.partition("://")[2] not in {request.host, urlsplit(own_url).netloc}:
        return True
    return request.headers.get("Sec-Fetch-Site", "none") not in {"none", "same-origin"}


def _host(authority: str) -> str | None:
    """The host of ``host:port``, None when it is malformed."""
    try:
        return urlsplit("//" + authority).hostname
    except ValueError:
        return None
