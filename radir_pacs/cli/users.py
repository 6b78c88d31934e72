"""``radir users …``: accounts of people, who sign in with a password, or at the provider of ``oidc_issuer``."""

from __future__ import annotations

import argparse
import getpass
import sys
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from radir_pacs import config
from radir_pacs.access import passwords
from radir_pacs.access.administrators import may_be_without_account
from radir_pacs.access.rights import check_name
from radir_pacs.access.sign_in import hash_of_name
from radir_pacs.catalogue import OF_ACCOUNTS, Account, Catalogue
from radir_pacs.cli.caller import caller
from radir_pacs.cli.labels import note_unknown
from radir_pacs.cli.output import errors, out, print_json, say
from radir_pacs.cli.state import must_run
from radir_pacs.cli.tokens import add_rights, rights_of, seen
from radir_pacs.config import Settings
from radir_pacs.errors import BadInput
from radir_pacs.printable import printable

_PASSWORD_BYTES = 4096
_DEEDS = {
    "disable": ("disabled", "nobody signs in with it, and whoever was signed in is not within a second"),
    "enable": ("enabled", "it signs in again"),
    "remove": ("removed", "the account is gone; what it did stays in the audit trail"),
    "sign-out": ("signed out", "whoever was signed in has to sign in again"),
    "unlock": ("unlocked", "failed attempts to sign in are forgotten"),
}


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "users",
        help="accounts of people, who sign in on the pages",
        description="As soon as one was made, every request needs a session or a token. Roles and scopes are those of"
        " tokens. A password is asked for on the terminal, or read from a file; it is never a flag.",
    )
    actions = parser.add_subparsers(dest="action", required=True)
    add = actions.add_parser("add", help="a new account")
    change = actions.add_parser("set", help="another role and scope: what is not given is not kept")
    for action in (add, change):
        action.add_argument("name", help="with which the person signs in; the audit trail names it")
        action.add_argument("--role", required=True, choices=[str(role) for role in OF_ACCOUNTS], help="what it may do")
        add_rights(action)
    password = actions.add_parser("password", help="another password; all its sessions end")
    password.add_argument("name", help="as in the list")
    for action in (add, password):
        action.add_argument("--password-file", type=Path, metavar="FILE", help="that holds the password; -: stdin")
        action.add_argument(
            "--generate", action="store_true", help="make one up, shown once, which the person has to change"
        )
    listed = actions.add_parser("list", help="all accounts")
    shown = actions.add_parser("show", help="one account: rights, sessions, failed attempts")
    deeds = [actions.add_parser(name, help=what) for name, (_, what) in _DEEDS.items()]
    for action in (shown, *deeds):
        action.add_argument("name", help="as in the list")
    for action in (add, change, password, listed, shown, *deeds):
        action.add_argument("--json", action="store_true", help="for machines")
        config.add_flags(action)
        action.set_defaults(run=run, needs_settings=True)


def run(args: argparse.Namespace, settings: Settings) -> int:
    must_run(settings)
    with Catalogue.open(settings) as catalogue:
        match args.action:
            case "add":
                _add(args, catalogue, settings)
            case "set":
                may_be_last = may_be_without_account(settings, catalogue.access_tokens)
                rights = rights_of(args)
                catalogue.accounts.set_rights(args.name, rights, by=caller(), may_be_last=may_be_last)
                say({"changed": args.name}, f"{args.name} has these rights within a second", as_json=args.json)
                note_unknown(catalogue, settings, sites=rights.scope.sites, departments=rights.scope.departments)
            case "password":
                _password(args, catalogue)
            case "list":
                _list(args, catalogue.accounts.all())
            case "show":
                _show(args, catalogue, settings)
            case _:
                _act(args, catalogue, settings)
    return 0


def _add(args: argparse.Namespace, catalogue: Catalogue, settings: Settings) -> None:
    check_name(args.name)
    rights = rights_of(args)
    was_open = catalogue.access_tokens.in_force() is None
    password = _chosen(args)
    hashed = passwords.hashed(password)
    catalogue.accounts.add(args.name, rights, hashed, by=caller(), must_change=args.generate)
    _told({"name": args.name, "role": args.role}, f"{args.name} may sign in", password, args)
    note_unknown(catalogue, settings, sites=rights.scope.sites, departments=rights.scope.departments)
    if was_open:
        errors.print("From now on every request to the web service needs a session or a token.")


def _password(args: argparse.Namespace, catalogue: Catalogue) -> None:
    catalogue.accounts.get(args.name)  # before anybody types
    password = _chosen(args)
    catalogue.accounts.set_password(args.name, passwords.hashed(password), by=caller(), must_change=args.generate)
    _told({"changed": args.name}, f"{args.name} has another password; its sessions have ended", password, args)


def _told(value: dict[str, Any], line: str, password: str, args: argparse.Namespace) -> None:
    if args.generate:
        say(value | {"password": password}, password, as_json=args.json)
        if not args.json:
            errors.print("It is shown this once, and has to be changed at the first sign-in.")
    else:
        say(value, line, as_json=args.json)


def _chosen(args: argparse.Namespace) -> str:
    """The password, from where the flags say. Raises BadInput for one that is too easily guessed."""
    if args.generate:
        if args.password_file:
            raise BadInput("--generate and --password-file do not go together")
        return passwords.made_up()
    if args.password_file:
        password = _of_file(args.password_file)
    elif sys.stdin.isatty():
        password = getpass.getpass("Password: ")
        if getpass.getpass("Again: ") != password:
            raise BadInput("that was another password: begin again")
    else:
        raise BadInput("there is no terminal to ask for the password: --password-file FILE, or - for standard input")
    passwords.check(password, args.name)
    return password


def _of_file(file: Path) -> str:
    """Its first line; a line end is no part of a password."""
    if str(file) == "-":
        held = sys.stdin.buffer.read(_PASSWORD_BYTES)
    else:
        with file.open("rb") as opened:
            held = opened.read(_PASSWORD_BYTES)
    try:
        return held.decode().splitlines()[0]
    except (UnicodeDecodeError, IndexError):
        raise BadInput("the password is not a line of UTF-8") from None


def _act(args: argparse.Namespace, catalogue: Catalogue, settings: Settings) -> None:
    done, what = _DEEDS[args.action]
    may_be_last = may_be_without_account(settings, catalogue.access_tokens)
    match args.action:
        case "disable":
            catalogue.accounts.disable(args.name, by=caller(), may_be_last=may_be_last)
        case "enable":
            catalogue.accounts.enable(args.name, by=caller())
        case "remove":
            catalogue.accounts.remove(args.name, by=caller(), may_be_last=may_be_last)
        case "sign-out":
            catalogue.accounts.end_sessions(args.name, by=caller())
        case _:
            catalogue.accounts.unlocked(catalogue.accounts.get(args.name).name, by=caller())
            catalogue.sign_ins.forgive(hash_of_name(args.name, settings))
    say({done.replace(" ", "_"): args.name}, f"{args.name} is {done}: {what}", as_json=args.json)


def _list(args: argparse.Namespace, accounts: tuple[Account, ...]) -> None:
    if args.json:
        print_json([_json(one) for one in accounts])
        return
    table = Table("name", "role", "sees", "signs in", "state", "last signed in", "sessions", box=box.SIMPLE)
    for one in accounts:
        way = "at the provider" if one.issuer else "by password"
        sees = Text(seen(one.rights.scope))
        row = (Text(printable(one.name)), one.rights.role, sees, way, _state(one), _last(one), str(one.sessions))
        table.add_row(*row)
    out.print(table if accounts else "there are no accounts; radir users add NAME --role ROLE")


def _show(args: argparse.Namespace, catalogue: Catalogue, settings: Settings) -> None:
    one = catalogue.accounts.get(args.name)
    attempts = catalogue.sign_ins.attempts(hash_of_name(args.name, settings))
    tries = [{"address": a.address, "tries": a.tries, "blocked_until": a.blocked_until} for a in attempts]
    if args.json:
        print_json(_json(one) | {"failed_attempts": tries})
        return
    for key, value in _in_words(one).items():
        out.print(f"{key:18} {printable(value)}", markup=False)
    for failed in attempts:
        until = f"{failed.blocked_until:%Y-%m-%d %H:%M:%S}"
        out.print(f"failed from        {failed.address}: {failed.tries}, next one after {until}", markup=False)


def _in_words(one: Account) -> dict[str, str]:
    way = f"at the provider {one.issuer}, as {one.subject}" if one.issuer else "by password"
    return {
        "name": one.name,
        "role": one.rights.role,
        "sees": seen(one.rights.scope),
        "patients": "named" if one.rights.names else "not named",
        "sign-in": way + (", has to choose another one" if one.must_change else ""),
        "state": _state(one),
        "made": f"{one.created_at:%Y-%m-%d} by {one.created_by}",
        "last signed in": _last(one),
        "sessions": str(one.sessions),
    }


def _state(one: Account) -> str:
    return f"disabled {one.disabled_at:%Y-%m-%d}" if one.disabled_at else "enabled"


def _last(one: Account) -> str:
    return f"{one.last_signed_in_at:%Y-%m-%d %H:%M}" if one.last_signed_in_at else "never"


def _json(one: Account) -> dict[str, Any]:
    fields = ("issuer", "subject", "must_change", "created_at", "created_by", "last_signed_in_at", "disabled_at")
    told = {field: getattr(one, field) for field in fields}
    rights = {"role": one.rights.role, "scope": one.rights.scope.as_json(), "names": one.rights.names}
    return {"name": one.name} | rights | told | {"sessions": one.sessions}
