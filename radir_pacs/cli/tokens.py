"""``radir tokens create|list|revoke``: tokens by name and role, for the web service."""

from __future__ import annotations

import argparse

from rich import box
from rich.table import Table
from rich.text import Text

from radir_pacs import config
from radir_pacs.access.rights import check_name, rights
from radir_pacs.callers import Role
from radir_pacs.catalogue import OF_TOKENS, Catalogue, Rights, TokenRow
from radir_pacs.cli.caller import caller
from radir_pacs.cli.labels import note_unknown
from radir_pacs.cli.output import errors, out, print_json, say
from radir_pacs.cli.state import must_run
from radir_pacs.config import DAY_S, Settings
from radir_pacs.errors import BadInput
from radir_pacs.printable import printable
from radir_pacs.scopes import Scope

_DAYS = 365.0
_SITE = (
    "only studies sent by this site: the label of a peer, else its AE title (repeat); whatever the bearer of a token of"
    " one site stores is of that site"
)


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "tokens",
        help="who may call the web service: tokens by name and role",
        description="As soon as one was made, every request needs a token or a session. A radiologist reads, asks,"
        " judges and reports; a researcher sees pseudonyms; a service is another system that stores, deletes and"
        " reads; an administrator may do everything. A token may be confined to the studies of some sites,"
        " departments, modalities or days.",
    )
    actions = parser.add_subparsers(dest="action", required=True)
    create = actions.add_parser("create", help="a new token, shown once")
    create.add_argument("name", help="whose it is; the audit trail names it")
    create.add_argument("--role", required=True, choices=[str(role) for role in OF_TOKENS], help="what it may do")
    add_rights(create)
    create.add_argument("--days", type=float, default=_DAYS, help="how long it is valid (%(default)s); 0: for good")
    listed = actions.add_parser("list", help="every token there was; never the tokens themselves")
    revoke = actions.add_parser("revoke", help="refuse a token from now on")
    revoke.add_argument("name", help="as in the list")
    for action in (create, listed, revoke):
        action.add_argument("--json", action="store_true", help="for machines")
        config.add_flags(action)
        action.set_defaults(run=run, needs_settings=True)


def add_rights(action: argparse.ArgumentParser) -> None:
    """The flags that say which studies, and whether patients are named."""
    action.add_argument("--site", action="append", default=[], metavar="LABEL", help=_SITE)
    action.add_argument(
        "--department",
        action="append",
        default=[],
        metavar="NAME",
        help="only studies whose images name this Institutional Department Name, exactly so (repeat)",
    )
    action.add_argument("--modality", action="append", default=[], help="only studies of these modalities (repeat)")
    action.add_argument("--since", type=config.day, metavar="YYYY-MM-DD", help="only studies from this day on")
    action.add_argument("--until", type=config.day, metavar="YYYY-MM-DD", help="only studies up to this day")
    action.add_argument("--names", action="store_true", help="rows of similar cases name their patients")


def rights_of(args: argparse.Namespace) -> Rights:
    """What those flags and the role say. Raises BadInput."""
    return rights(
        args.role,
        sites=args.site,
        departments=args.department,
        modalities=args.modality,
        since=args.since,
        until=args.until,
        names=args.names,
    )


def run(args: argparse.Namespace, settings: Settings) -> int:
    must_run(settings)
    with Catalogue.open(settings) as catalogue:
        match args.action:
            case "create":
                _create(args, catalogue, settings)
            case "revoke":
                catalogue.access_tokens.revoke(args.name, by=caller())
                say(
                    {"revoked": args.name},
                    f"{args.name} is revoked; every process refuses it within a second",
                    as_json=args.json,
                )
            case _:
                _list(args, catalogue.access_tokens.all())
    return 0


def _create(args: argparse.Namespace, catalogue: Catalogue, settings: Settings) -> None:
    check_name(args.name)
    if not 0 <= args.days <= 36_500:
        raise BadInput("--days is from 0 to 36500")
    made = rights_of(args)
    if len(made.scope.sites) > 1 and Role(args.role) is Role.SERVICE and not args.json:
        errors.print("A token of several sites cannot store: what it stored would be of none of them.")
    was_open = catalogue.access_tokens.in_force() is None
    token = catalogue.access_tokens.create(
        args.name,
        Role(args.role),
        by=caller(),
        valid_s=args.days * DAY_S if args.days else None,
        scope=made.scope,
        names=made.names,
    )
    say({"name": args.name, "role": args.role, "token": token}, token, as_json=args.json)
    note_unknown(catalogue, settings, sites=made.scope.sites, departments=made.scope.departments)
    if not args.json:
        errors.print("It is shown this once. Send it as bearer, or give it as the password in a browser.")
    if was_open:
        errors.print("From now on every request to the web service needs a token.")


def _list(args: argparse.Namespace, rows: tuple[TokenRow, ...]) -> None:
    if args.json:
        fields = ("name", "role", "in_force", "created_at", "created_by", "expires_at", "last_used_at", "revoked_at")
        print_json(
            [
                {field: getattr(row, field) for field in fields} | {"scope": row.scope.as_json(), "names": row.names}
                for row in rows
            ]
        )
        return
    table = Table("name", "role", "sees", "state", "made", "by", "last used", box=box.SIMPLE)
    for row in rows:
        used = f"{row.last_used_at:%Y-%m-%d %H:%M}" if row.last_used_at else "never"
        made = f"{row.created_at:%Y-%m-%d}"
        table.add_row(
            Text(row.name),
            row.role,
            Text(seen(row.scope)),
            Text(_state(row)),
            made,
            Text(printable(row.created_by)),
            used,
        )
    out.print(table if rows else "no token was ever made; radir tokens create NAME --role ROLE")


def seen(scope: Scope) -> str:
    """A scope in words."""
    parts = [", ".join(sorted(names)) for names in (scope.sites, scope.departments, scope.modalities) if names]
    if scope.since or scope.until:
        parts.append(f"{scope.since or ''}..{scope.until or ''}")
    return "; ".join(parts) or "all studies"


def _state(row: TokenRow) -> str:
    if row.revoked_at:
        return f"revoked {row.revoked_at:%Y-%m-%d} by {row.revoked_by}"
    if not row.in_force:
        return f"expired {row.expires_at:%Y-%m-%d}"
    return f"until {row.expires_at:%Y-%m-%d}" if row.expires_at else "until revoked"
