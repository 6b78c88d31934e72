"""Tokens by name: those there were, a new one, which is shown once, and the end of one."""

from __future__ import annotations

from flask import Response, url_for

from radir_pacs.access.rights import check_name
from radir_pacs.catalogue import OF_TOKENS
from radir_pacs.config import DAY_S
from radir_pacs.errors import BadInput
from radir_pacs.web import audit
from radir_pacs.web.services import services

from . import rights_form, view

blueprint = view.guarded("admin_tokens", __name__)

_LONGEST_DAYS = 36_500


@blueprint.get("/tokens")
def tokens() -> Response:
    """All tokens there were, and a form for a new one."""
    return _listed()


@blueprint.post("/tokens")
def create() -> Response:
    """A new token, shown once."""
    name = view.field("name", 200)
    check_name(name)
    try:
        days = int(view.field("days", 10) or 0)
    except ValueError:
        days = -1
    if not 0 <= days <= _LONGEST_DAYS:
        raise BadInput(f"the days are a number from 0 to {_LONGEST_DAYS}")
    wanted = rights_form.of_form()
    token = services().catalogue.access_tokens.create(
        name,
        wanted.role,
        by=audit.caller(),
        valid_s=days * DAY_S if days else None,
        scope=wanted.scope,
        names=wanted.names,
    )
    return _listed(made=name, token=token)


@blueprint.post("/tokens/revoke")
def revoke() -> Response:
    """Refuse the token of this name from now on. Raises NotFound."""
    services().catalogue.access_tokens.revoke(view.field("name", 200), by=audit.caller())
    return view.after(url_for("admin_tokens.tokens"))


def _listed(made: str = "", token: str = "") -> Response:
    found = services().catalogue.access_tokens.all()
    return view.page("tokens.html", tokens=found, roles=OF_TOKENS, made=made, token=token)
