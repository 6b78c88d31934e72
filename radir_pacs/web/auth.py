"""Who may call: whoever bears a token whose role reaches the route (`route_rights`); on loopback, as long as there are
no tokens, requests whose Host names this machine.

The administrator's pages are opened by a cookie, which a form of theirs gives for a token (`admin.session`).
A program sends the token as bearer (RFC 6750); a person gives it as the password of HTTP Basic (RFC 7617), with any
user name, when the browser asks. Basic is offered for pages and what they show, never to scripts, which handle a 401
themselves.

A page of another site, open in the same browser, must neither read from us nor trigger anything: the Host check stops
DNS rebinding, the Origin check stops cross-site writes, and origins that the settings do not list get no CORS header.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import cast
from urllib.parse import urlencode, urlsplit

from flask import Flask, Response, g, redirect, request

from radir_pacs.access.bearers import Bearers
from radir_pacs.callers import AuditEvent, Caller, Role
from radir_pacs.catalogue import Catalogue
from radir_pacs.config import LOOPBACK, Settings
from radir_pacs.errors import NotInThisLink, RoleMayNot, StorageFailed

from . import context_rights, cross_origin, error_page, route_rights
from .admin import session, view
from .errors import error_response
from .proxies import client_address, public_url
from .remembered import Remembered
from .sidebar import ohif

# nothing in them is about a patient
OPEN_PATHS = frozenset({"/health/live", "/health/ready", "/favicon.ico", session.SIGN_IN})
OPEN_FOLDERS = ("/viewer/", "/ohif/", session.STATIC)  # programs, without data
SIGN_IN = "/sign-in"
_THIS_MACHINE, _LINK = "this machine", "link"
_REFUSED_AGAIN_S = 60.0
_SHOWN_IN_PAGES = frozenset({"image", "style"})
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def install(app: Flask, settings: Settings, catalogue: Catalogue, bearers: Bearers) -> None:
    """Refuse requests to ``app`` that nobody with a right to them sends; `audit.caller` then tells who sent one."""
    refused = Remembered(_REFUSED_AGAIN_S)
    own_hosts = {*LOOPBACK, urlsplit(settings.public_url).hostname}

    @app.before_request
    def admit() -> Response | None:
        address = client_address(settings)
        authorization = request.headers.get("Authorization", "")
        if not _are_needed():
            if _host(request.host) not in own_hosts:
                return error_response(421, "misdirected_request", "The Host header does not name this service.")
            if settings.web_host not in LOOPBACK:  # config refuses this at the start; refused here all the same
                return error_response(401, "unauthorized", "A bearer token is needed.")
            g.radir_caller = Caller(name=_THIS_MACHINE, role=Role.ADMINISTRATOR, address=address)
        elif _is_open(request.path):
            pass
        elif (known := session.caller(bearers, settings) or bearers.of(authorization)) is not None:
            g.radir_caller = replace(known, address=address)
            if not route_rights.may(known.role, request.endpoint):
                _note_refused(known.name, known.role, address)
                if _is_for_an_administrator():
                    return _to(session.SIGN_IN, request.path if request.method in _SAFE_METHODS else session.PATH)
                raise RoleMayNot
        elif context_rights.enter(catalogue):
            g.radir_caller = context_rights.caller(_LINK, address)
            if not context_rights.may(catalogue):
                _note_refused(g.radir_caller.name, Role.SIDEBAR, address)
                raise NotInThisLink
        else:
            if authorization:
                _note_refused("", Role.NOBODY, address)
            if ohif.is_page(request.path):
                return _to_sign_in()
            if _is_for_an_administrator():
                return _to(session.SIGN_IN, request.path if request.method in _SAFE_METHODS else session.PATH)
            response = error_response(401, "unauthorized", "A token is needed: as bearer, or as the Basic password.")
            response.headers["WWW-Authenticate"] = 'Bearer realm="radir"'
            if _is_for_a_person():
                response.headers.add("WWW-Authenticate", 'Basic realm="radir", charset="UTF-8"')
            return response
        is_foreign = _is_cross_site(public_url(settings)) and not cross_origin.is_admitted(settings)
        if request.method not in _SAFE_METHODS and is_foreign:
            return error_response(403, "forbidden", "Requests from pages of other sites are refused.")
        return None

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


def _to_sign_in() -> Response:
    """OHIF's data lie beside its pages, not below: a password given at the root is sent with every request for them."""
    return _to(SIGN_IN, request.full_path.rstrip("?"))


def _to(page: str, back: str) -> Response:
    response = redirect(f"{page}?{urlencode({'to': back})}")
    response.headers["Cache-Control"] = "no-store"
    return cast(Response, response)


def _is_open(path: str) -> bool:
    program = path.startswith(OPEN_FOLDERS) and not ohif.is_page(path)
    return program or path in OPEN_PATHS or ohif.is_chunk(path)


def _is_for_a_person() -> bool:
    """Whether a browser may ask for the password: a page, or its style and pictures; not in a sidebar's context."""
    if request.method not in _SAFE_METHODS or context_rights.COOKIE in request.cookies:
        return False
    return error_page.is_page(request.path) or request.headers.get("Sec-Fetch-Dest") in _SHOWN_IN_PAGES


def _is_for_an_administrator() -> bool:
    """Whether a browser wants one of the pages on which a person signs in by a form."""
    return (request.path == session.PATH or request.path.startswith(session.PATH + "/")) and view.wants_page()


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
