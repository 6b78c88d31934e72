"""Accounts: who there is, what each may see, and everything that ``radir users`` does with one.

A password is made up here and shown once; its bearer has to change it. Nobody locks the own account.
"""

from __future__ import annotations

from flask import Response, url_for

from radir_pacs.access import passwords
from radir_pacs.access.administrators import may_be_without_account
from radir_pacs.access.rights import check_name
from radir_pacs.access.sign_in import hash_of_name
from radir_pacs.catalogue import OF_ACCOUNTS, Rights
from radir_pacs.errors import BadInput, NotFound
from radir_pacs.web import audit
from radir_pacs.web.services import services

from . import rights_form, view

blueprint = view.guarded("admin_accounts", __name__)

_NOT_ONE_S_OWN = frozenset({"disable", "remove", "password"})


@blueprint.get("/accounts")
def accounts() -> Response:
    """All accounts, and a form for a new one."""
    return _listed()


@blueprint.post("/accounts")
def add() -> Response:
    """A new account, with a password that is shown once."""
    name = view.field("name", 200)
    check_name(name)
    password = passwords.made_up()
    services().catalogue.accounts.add(name, _rights(), passwords.hashed(password), by=audit.caller(), must_change=True)
    return _listed(made=name, password=password)


@blueprint.get("/accounts/<name>")
def account(name: str) -> Response:
    """One account: its rights, its sessions, failed attempts, and what may be done with it."""
    return _shown(name)


@blueprint.post("/accounts/<name>")
def change(name: str) -> Response:
    """Another role and scope."""
    wanted, by = _rights(), audit.caller()
    if _is_own(name) and wanted.role is not by.role:
        raise BadInput("nobody takes the own role away: ask another administrator")
    services().catalogue.accounts.set_rights(name, wanted, by=by, may_be_last=_may_be_last())
    return view.after(url_for("admin_accounts.account", name=name))


@blueprint.post("/accounts/<name>/<action>")
def act(name: str, action: str) -> Response:
    """Disable, enable, remove, unlock it, end its sessions, or give it another password. Raises NotFound, BadInput."""
    context, by = services(), audit.caller()
    held = context.catalogue.accounts
    if _is_own(name) and action in _NOT_ONE_S_OWN:
        raise BadInput("nobody does that to the own account: ask another administrator")
    match action:
        case "disable":
            held.disable(name, by=by, may_be_last=_may_be_last())
        case "enable":
            held.enable(name, by=by)
        case "sign-out":
            held.end_sessions(name, by=by)
        case "unlock":
            held.unlocked(held.get(name).name, by=by)
            context.catalogue.sign_ins.forgive(hash_of_name(name, context.settings))
        case "password":
            password = passwords.made_up()
            held.set_password(name, passwords.hashed(password), by=by, must_change=True)
            return _shown(name, password=password)
        case "remove":
            held.remove(name, by=by, may_be_last=_may_be_last())
            return view.after(url_for("admin_accounts.accounts"))
        case _:
            raise NotFound("there is no such action")
    return view.after(url_for("admin_accounts.account", name=name))


def _listed(made: str = "", password: str = "") -> Response:
    found = services().catalogue.accounts.all()
    return view.page("accounts.html", accounts=found, roles=OF_ACCOUNTS, made=made, password=password)


def _shown(name: str, password: str = "") -> Response:
    context = services()
    found = context.catalogue.accounts.get(name)
    attempts = context.catalogue.sign_ins.attempts(hash_of_name(found.name, context.settings))
    return view.page(
        "account.html",
        account=found,
        roles=OF_ACCOUNTS,
        attempts=attempts,
        password=password,
        is_own=_is_own(found.name),
    )


def _is_own(name: str) -> bool:
    """Whether the account is the caller's own, in whatever case its name is written, as the catalogue finds it."""
    return name.lower() == audit.caller().name.lower()


def _may_be_last() -> bool:
    context = services()
    return may_be_without_account(context.settings, context.catalogue.access_tokens)


def _rights() -> Rights:
    """Of the form. Raises BadInput, also for a role that only tokens have."""
    wanted = rights_form.of_form()
    if wanted.role not in OF_ACCOUNTS:
        raise BadInput(f"no account has the role {wanted.role}: choose {', '.join(OF_ACCOUNTS)}")
    return wanted
