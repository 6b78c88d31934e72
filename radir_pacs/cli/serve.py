"""``radir serve ROLE ...``: some roles on this machine, until SIGTERM; all of them share a database and a broker."""

from __future__ import annotations

import argparse
import platform
import re
from collections.abc import Collection

from radir_pacs import config
from radir_pacs.cli.roles import ALL, Role
from radir_pacs.cli.up import serve
from radir_pacs.config import Settings
from radir_pacs.errors import SettingError

_ALL = "all"
_MACHINE = re.compile(r"[A-Za-z0-9.-]{1,64}")


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "serve",
        help="run one role, or several, on this machine",
        description="Runs the processes of one role, or several, until SIGTERM, and starts again what ends. Every"
        " machine needs the same database_url and broker_url. 'all' is what 'radir up' runs.",
    )
    parser.add_argument(
        "roles", nargs="+", choices=[*map(str, Role), _ALL], metavar="ROLE", help=", ".join((*Role, _ALL))
    )
    parser.add_argument("--machine", default="", help="name of this machine in 'radir status' (default: its host name)")
    config.add_flags(parser)
    parser.set_defaults(run=run, needs_settings=True)


def run(args: argparse.Namespace, settings: Settings) -> int:
    if _ALL in args.roles:
        return serve(settings)
    roles = frozenset(map(Role, args.roles))
    check(settings, roles)
    return serve(settings, roles, f"@{machine(args.machine)}")


def check(settings: Settings, roles: Collection[Role]) -> None:
    """Raise SettingError for roles that cannot be run alone with these settings."""
    if roles != ALL and not settings.database_url:
        raise SettingError(
            "database_url: needed to run some roles alone, since they share a database; the embedded one is for 'all'"
        )
    if Role.HL7 in roles and not settings.hl7_port:
        raise SettingError("hl7_port: no port is set")


def machine(said: str) -> str:
    """The name by which the processes of this machine are told from those of others. Raises SettingError."""
    name = said or platform.node().partition(".")[0] or "machine"
    if not _MACHINE.fullmatch(name):
        raise SettingError(f"--machine: {name!r} is not of letters, digits, dots and hyphens")
    return name
