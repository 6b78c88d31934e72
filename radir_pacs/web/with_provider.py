"""Signing in at a provider (OpenID Connect): the way there, and the way back, which each browser goes once."""

from __future__ import annotations

import hashlib
import secrets

from flask import Blueprint, Response, request

from radir_pacs.access.provider import Provider
from radir_pacs.callers import AuditEvent, Caller, Role
from radir_pacs.catalogue import SubjectOf, Visit
from radir_pacs.errors import NotFound, PeerFailed, SettingError, SignInFailed, TooManyRequests

from . import session, sign_in, way_back
from .proxies import client_address, public_url
from .services import services

blueprint = Blueprint("with_provider", __name__)
_RETURN = "/sign-in/return"


@blueprint.get("/sign-in/provider")
def leave() -> Response:
    """To the provider, and from there back to ``to``, a page of ours."""
    context, provider = services(), _provider()
    state = secrets.token_urlsafe(32)
    to = way_back.page_of_ours(request.args.get("to", ""))
    visit = Visit(nonce=secrets.token_urlsafe(32), verifier=secrets.token_urlsafe(48), leads_to=to)
    try:
        url = provider.sign_in_url(visit, state, _back())
    except PeerFailed:
        return sign_in.page(to, status=502, note="provider")
    here = _sha256(session.browser())
    if not context.catalogue.sign_ins.begin_visit(_sha256(state), here, visit, client_address(context.settings)):
        raise TooManyRequests(wait_s=60)
    response = way_back.to_page(url)
    session.keep(response)
    return response


@blueprint.get(_RETURN)
def back() -> Response:
    """From the provider. Whatever it says is refused from a browser that was not sent, or comes a second time."""
    context, provider = services(), _provider()
    address = client_address(context.settings)
    state = request.args.get("state", "")
    visit = context.catalogue.sign_ins.end_visit(_sha256(state), _sha256(session.browser()))
    nobody = Caller(name="", role=Role.NOBODY, address=address)
    if visit is None:
        what = ("refused return", address)
        if what in context.opened:  # noted once in a while: anybody can send this
            return sign_in.page("/", status=403, note="provider")
        context.opened.add(what)
        return _refused("/", "provider", nobody, "state")
    try:
        person = provider.person(request.args.to_dict(), visit, _back())
    except SignInFailed:
        return _refused(visit.leads_to, "provider", nobody, "not_believed")
    except (PeerFailed, SettingError):  # or the mapping is edited just now
        return sign_in.page(visit.leads_to, status=502, note="provider")
    who = SubjectOf(issuer=provider.issuer, subject=person.subject)
    by = Caller(name=person.name, role=person.rights.role if person.rights else Role.NOBODY, address=address)
    if person.rights is None:
        context.catalogue.accounts.end_sessions_of(who)
        return _refused(visit.leads_to, "no_group", by, "no_group")
    begun, new = context.sessions.make(address=address, id_token=person.id_token)
    name = context.catalogue.accounts.sign_in_subject(who, person.name, person.rights, new, by=by)
    if name is None:
        return _refused(visit.leads_to, "disabled", by, "disabled")
    by = Caller(name=name, role=person.rights.role, address=address)
    context.catalogue.audit.note(AuditEvent.SIGNED_IN, by, subject=person.subject)
    return sign_in.signed_in(begun, visit.leads_to)


def _refused(to: str, note: str, by: Caller, why: str) -> Response:
    services().catalogue.audit.note(AuditEvent.SIGN_IN_FAILED, by, why=why)
    return sign_in.page(to, status=403, note=note)


def _provider() -> Provider:
    found = services().provider
    if found is None:
        raise NotFound("no provider is set: see oidc_issuer")
    return found


def _back() -> str:
    return public_url(services().settings) + _RETURN


def _sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
