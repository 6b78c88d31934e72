"""Signing in with a name and a password or with a token, signing out, and a password of one's own.

After each a browser goes to a page of ours (`way_back`). With a provider: `with_provider`.
"""

from __future__ import annotations

from flask import Blueprint, Response, make_response, render_template, request

from radir_pacs import __version__
from radir_pacs.access import passwords, sign_in
from radir_pacs.callers import AuditEvent, Caller, Role
from radir_pacs.errors import BadInput, NotFound, SignInFailed, TooManyRequests

from . import audit, session, way_back
from .proxies import client_address, public_url
from .services import services

blueprint = Blueprint("sign_in", __name__)
_MOST = 1024  # characters of a field
_NOTES = frozenset({"role", "provider", "no_group", "signed_out", "disabled"})


@blueprint.route(way_back.SIGN_IN, methods=["GET", "POST"])
def form() -> Response:
    """The page; a right name and password, or a right token, begins a session and leads to ``to``, a page of ours."""
    context = services()
    to = way_back.page_of_ours(request.values.get("to", ""))
    if not context.bearers.are_needed:
        return way_back.to_page(to, 303)
    if request.method == "GET":
        note = request.args.get("why", "")
        return page(to, note=note if note in _NOTES else "")
    session.check_form()
    name, token = field("name"), field("token")
    address = client_address(context.settings)
    if token:
        return _with_token(token, to, address)
    try:
        found = sign_in.by_password(
            name, request.form.get("password", ""), address, context.catalogue, context.settings
        )
        begun = context.sessions.begin(found.id, found.password_hash, address=address)
    except SignInFailed:
        return page(to, status=401, wrong="wrong_password", name=name)
    except TooManyRequests as error:
        response = page(to, status=429, wrong="wait", name=name, wait_s=error.wait_s)
        response.headers["Retry-After"] = str(error.wait_s)
        return response
    by = Caller(name=found.name, role=found.role, address=address)
    context.catalogue.audit.note(AuditEvent.SIGNED_IN, by)
    return signed_in(begun, to)


@blueprint.post("/sign-out")
def out() -> Response:
    """End the session in this browser; at the provider too, where it offers that."""
    context = services()
    session.check_form()
    held = session.held()
    leads_to = f"{way_back.SIGN_IN}?why=signed_out"
    if held is not None:
        context.catalogue.audit.note(AuditEvent.SIGNED_OUT, audit.caller())
        if held.id_token and context.provider is not None:
            leads_to = (
                context.provider.sign_out_url(held.id_token, public_url(context.settings) + way_back.SIGN_IN)
                or leads_to
            )
    # A redirect after a form may only lead to us (form-action): a page that goes on by itself leads anywhere.
    here = leads_to.startswith("/")
    response = way_back.to_page(leads_to, 303) if here else _page("signed_out.html", leads_to=leads_to)
    session.end(response)
    return response


@blueprint.get("/account")
def account() -> Response:
    """Who is signed in, what that opens, and a form for another password."""
    return _own_account()


@blueprint.post("/account")
def change_password() -> Response:
    """Another password; all other sessions of the account end, and this one gets another id."""
    context, by = services(), audit.caller()
    session.check_form()
    held = session.held()
    if held is None or not held.has_password:
        raise NotFound("only who signed in with a password changes it")
    new = request.form.get("new", "")
    address = client_address(context.settings)
    try:
        found = sign_in.by_password(
            by.name, request.form.get("password", ""), address, context.catalogue, context.settings
        )
        if new != request.form.get("again", ""):
            return _own_account("passwords_differ", 400)
        passwords.check(new, by.name)
        if found.must_change and passwords.fits(new, found.password_hash):
            raise BadInput("this is the password that was given: choose another one")
        hashed = passwords.hashed(new)
        context.catalogue.accounts.set_password(by.name, hashed, by=by, verified=found.password_hash)
        begun = context.sessions.begin(found.id, hashed, address=address)
    except SignInFailed:
        return _own_account("wrong_password_now", 401)
    except BadInput:
        return _own_account("password_rule", 400)
    return signed_in(begun, "/account?changed=1")


def signed_in(session_id: str, to: str) -> Response:
    """The browser gets the session's id, and goes where it wanted; the session that it had before ends."""
    services().sessions.end(session.browser())
    session.change(session_id)
    response = way_back.to_page(to, 303)
    session.keep(response)
    return response


def page(to: str, *, status: int = 200, note: str = "", wrong: str = "", **values: object) -> Response:
    """The page with its forms."""
    held = session.held()
    return _page(
        "sign_in.html",
        status=status,
        to=to,
        note=note,
        wrong=wrong,
        signed_in_as=held.caller.name if held is not None else "",
        provider=services().provider is not None,
        **values,
    )


def field(name: str) -> str:
    return request.form.get(name, "")[:_MOST].strip()


def _with_token(token: str, to: str, address: str) -> Response:
    context = services()
    known = context.bearers.of(f"Bearer {token}")
    if known is None or known.role is Role.SERVICE:
        name, role = (known.name, known.role) if known is not None else ("", Role.NOBODY)
        what = ("refused sign-in", name, address)
        if what not in context.opened:  # once in a while, so that a flood of guesses does not fill the trail
            by = Caller(name=name, role=role, address=address)
            context.catalogue.audit.note(AuditEvent.REFUSED, by, route=way_back.SIGN_IN)
            context.opened.add(what)
        wrong = "wrong_token" if known is None else "token_of_service"
        return page(to, status=401 if known is None else 403, wrong=wrong)
    context.catalogue.audit.note(AuditEvent.SIGNED_IN, Caller(name=known.name, role=known.role, address=address))
    return signed_in(context.sessions.begin_with_token(token, address=address), to)


def _own_account(wrong: str = "", status: int = 200) -> Response:
    by, held = audit.caller(), session.held()
    return _page(
        "account.html",
        status=status,
        by=by,
        held=held,
        sees=by.scope.as_json(),
        wrong=wrong,
        changed="changed" in request.args,
        least=passwords.LEAST,
    )


def _page(template: str, *, status: int = 200, **values: object) -> Response:
    text = render_template(template, version=__version__, csrf=session.csrf(), **values)
    response = make_response(text, status)
    response.headers["Cache-Control"] = "no-store"
    response.headers["Referrer-Policy"] = "same-origin"  # under no-referrer a form's Origin is "null" (Fetch 3.1)
    session.keep(response)
    return response
