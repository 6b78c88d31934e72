"""The form that takes an administrator's token, and the button that ends the session."""

from __future__ import annotations

import re

from flask import Blueprint, Response, request, url_for

from radir_pacs.callers import AuditEvent, Caller, Role
from radir_pacs.web.proxies import client_address
from radir_pacs.web.services import services

from . import session, view

blueprint: Blueprint = view.guarded("admin", __name__)
blueprint.static_folder = "static"
blueprint.static_url_path = "/static"
_TOKEN_CHARACTERS = 500
_OWN = re.compile(r"/admin(?:/[A-Za-z0-9._-]+)*")


@blueprint.route("/sign-in", methods=["GET", "POST"])
def sign_in() -> Response:
    """A form for the token; a right one begins a session and leads to ``to``, a page of the administrator's."""
    context = services()
    to = request.values.get("to", "")
    to = to if _OWN.fullmatch(to) else url_for("admin_overview.overview")
    if not context.bearers.are_needed:
        return view.after(to)
    if request.method == "GET":
        return view.page("sign_in.html", to=to, wrong=None)
    token = view.field("token", _TOKEN_CHARACTERS)
    address = client_address(context.settings)
    known = context.bearers.of(f"Bearer {token}")
    if known is None or known.role is not Role.ADMINISTRATOR:
        name, role = (known.name, known.role) if known is not None else ("", Role.NOBODY)
        _note_refused(Caller(name=name, role=role, address=address))
        wrong = "wrong_token" if known is None else "wrong_role"
        return view.page("sign_in.html", status=401 if known is None else 403, to=to, wrong=wrong)
    by = Caller(name=known.name, role=known.role, address=address)
    context.catalogue.audit.note(AuditEvent.SIGNED_IN, by)
    session.begin(token, context.settings)
    response = view.after(to)
    session.keep(response, context.settings)
    return response


@blueprint.post("/sign-out")
def sign_out() -> Response:
    """End the session in this browser."""
    response = view.after(url_for("admin.sign_in"))
    session.end(response)
    return response


def _note_refused(by: Caller) -> None:
    """Once in a while per address, so that a flood of guesses does not fill the trail."""
    context, what = services(), ("refused sign-in", by.name, by.address)
    if what not in context.opened:
        context.catalogue.audit.note(AuditEvent.REFUSED, by, route=session.SIGN_IN)
        context.opened.add(what)
