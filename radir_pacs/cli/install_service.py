"""``radir install-service``: systemd units, one per role, under one target; ``--print`` shows them.

With ``--sockets`` systemd opens the ports and hands them over (`handed_sockets`).
"""

from __future__ import annotations

import argparse
import ipaddress
import re
import shlex
import shutil
import sys
from collections.abc import Collection, Mapping
from pathlib import Path

from radir_pacs import config, durable
from radir_pacs.cli.output import out
from radir_pacs.cli.roles import ALL, Role
from radir_pacs.cli.up import addresses
from radir_pacs.config import Settings
from radir_pacs.errors import BadInput

TARGET = "radir.target"
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_PLAIN = re.compile(r"[A-Za-z0-9/._-]+")
_ALL = "all"
_TASKS = 4096  # threads and processes of one unit
_PROGRAMS_GRACE_S = 20  # beyond drain_s, until systemd ends what is left
_NEED_DEVICES = frozenset({Role.WORKER.value, Role.RELAY.value, _ALL})  # a GPU: to encode, and to train

_UNIT = """\
# Made by `radir install-service`; change it by `systemctl edit {name}`.
[Unit]
Description=RadIR-PACS: {what}
After=network-online.target postgresql.service{after_socket}
Wants=network-online.target{requires_socket}
PartOf={target}
StartLimitIntervalSec=0

[Service]
Type=exec
User={user}
Group={user}
ExecStart={program} serve {role}
Environment=RADIR_HOME={home} RADIR_LOG_TO=stderr{config}{monitor}
Restart=always
RestartSec=2
RestartPreventExitStatus=78
TimeoutStopSec={stop_s}
KillMode=mixed
UMask=0077
LimitNOFILE=65536
TasksMax={tasks}
OOMPolicy=continue

ProtectSystem=strict
ReadWritePaths={home}
ProtectHome=true
PrivateTmp=true
PrivateDevices={private_devices}
NoNewPrivileges=true
CapabilityBoundingSet=
AmbientCapabilities=
ProtectKernelTunables=true
ProtectKernelModules=true
ProtectKernelLogs=true
ProtectControlGroups=true
ProtectClock=true
ProtectHostname=true
ProtectProc=invisible
LockPersonality=true
RestrictRealtime=true
RestrictSUIDSGID=true
RestrictNamespaces=true
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RemoveIPC=false
SystemCallArchitectures=native
SystemCallFilter=@system-service landlock_create_ruleset landlock_add_rule landlock_restrict_self
SystemCallErrorNumber=EPERM

[Install]
WantedBy={target}
"""

_SOCKET = """\
# Made by `radir install-service`; make it again when a port or its address changes.
[Unit]
Description=RadIR-PACS: ports of: {what}
PartOf={target}

[Socket]
{listen}
BindIPv6Only={v6_only}
FreeBind=true
Backlog=128

[Install]
WantedBy={target}
"""

_TARGET_UNIT = """\
# Made by `radir install-service`.
[Unit]
Description=RadIR-PACS: similar cases beside the PACS
Wants={units}

[Install]
WantedBy=multi-user.target
"""

_WHAT: Mapping[str, str] = {
    Role.LISTENER: "DICOM listener",
    Role.HL7: "HL7 listener",
    Role.WEB: "web service",
    Role.RELAY: "relay",
    Role.INDEXER: "indexer",
    Role.TRANSFER: "exchange with other machines",
    Role.WORKER: "encoding",
    _ALL: "everything on one machine",
}


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "install-service",
        help="write systemd units for the roles of this machine",
        description="Writes one unit per role and a target that starts them. With the embedded database there is one"
        " unit for everything. Settings come from the file that --config names. Then: systemctl daemon-reload,"
        " systemctl enable --now radir.target.",
    )
    parser.add_argument(
        "roles", nargs="*", metavar="ROLE", help=f"{', '.join(Role)} (default: those that the settings use)"
    )
    parser.add_argument("--user", default="radir", help="whom the processes run as (default %(default)s)")
    parser.add_argument("--folder", default="/etc/systemd/system", help="where the units go (default %(default)s)")
    parser.add_argument("--program", default="", help="the radir command (default: this one)")
    parser.add_argument(
        "--sockets",
        action="store_true",
        help="let systemd open the ports: they may be below 1024, and whoever calls during a restart waits",
    )
    parser.add_argument("--print", action="store_true", help="print the units, write nothing")
    config.add_flags(parser)
    parser.set_defaults(run=run, needs_settings=True)


def run(args: argparse.Namespace, settings: Settings) -> int:
    found = units(
        settings,
        roles=args.roles,
        user=args.user,
        program=args.program or _program(),
        config_file=args.config or "",
        sockets=args.sockets,
    )
    if args.print:
        for name, text in found.items():
            print(f"# {name}\n{text}")
        return 0
    folder = Path(args.folder)
    for name, text in found.items():
        durable.replace(folder / name, text.encode())
        out.print(f"written: {folder / name}", markup=False)
    for path in _left_over(folder, found):
        path.unlink()
        out.print(f"removed: {path}; end it by systemctl disable --now {path.name}", markup=False)
    out.print(f"the user {args.user} must own {settings.home}:", markup=False)
    out.print(f"  useradd --system --home-dir {settings.home} --shell /usr/sbin/nologin {args.user}", markup=False)
    out.print(f"  install -d -o {args.user} -g {args.user} -m 0700 {settings.home}", markup=False)
    out.print(f"then: systemctl daemon-reload && systemctl enable --now {TARGET}", markup=False)
    return 0


def _left_over(folder: Path, found: Mapping[str, str]) -> list[Path]:
    """Sockets that an earlier call made: a service that opens its own ports would find them taken."""
    made = f"{_SOCKET.splitlines()[0]}\n".encode()
    return [
        path for path in sorted(folder.glob("radir-*.socket")) if path.name not in found and made in path.read_bytes()
    ]


def units(
    settings: Settings,
    *,
    roles: Collection[str],
    user: str,
    program: str,
    config_file: str = "",
    sockets: bool = False,
) -> dict[str, str]:
    """The text of each unit by its name, the target last. Raises BadInput for what systemd would read otherwise."""
    chosen = _chosen(settings, roles)
    if not _USER.fullmatch(user):
        raise BadInput(f"--user: {user!r} is not a name of a system user")
    for what, path in (("home", str(settings.home)), ("--program", program), ("--config", config_file)):
        if path and not _PLAIN.fullmatch(path):
            raise BadInput(f"{what}: {path!r} holds characters that a unit file reads otherwise")
    made = {}
    for number, role in enumerate(chosen):
        port = settings.monitor_port + number if settings.monitor_port else 0
        listening = addresses(settings, ALL if role == _ALL else {Role(role)}) if sockets else []
        if listening:
            made[f"radir-{role}.socket"] = _socket(role, listening)
        made[f"radir-{role}.service"] = _UNIT.format(
            name=f"radir-{role}.service",
            what=_WHAT[role],
            target=TARGET,
            user=user,
            program=program,
            role=role,
            after_socket=f" radir-{role}.socket" if listening else "",
            requires_socket=f"\nRequires=radir-{role}.socket" if listening else "",
            home=settings.home,
            config=f" RADIR_CONFIG={Path(config_file).resolve()}" if config_file else "",
            monitor=f" RADIR_MONITOR_PORT={port}" if port else "",
            stop_s=round(settings.drain_s) + _PROGRAMS_GRACE_S,
            tasks=_TASKS,
            private_devices="false" if role in _NEED_DEVICES else "true",
        )
    return made | {TARGET: _TARGET_UNIT.format(units=" ".join(made))}


def _socket(role: str, listening: Collection[tuple[str, str, int]]) -> str:
    lines = []
    for setting, host, port in listening:
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            raise BadInput(f"--sockets: of {setting}, {host!r} is no IP address") from None
        lines.append(f"ListenStream={f'[{address}]' if address.version == 6 else address}:{port}")
    return _SOCKET.format(
        what=_WHAT[role],
        target=TARGET,
        listen="\n".join(lines),
        v6_only="both" if role == Role.LISTENER else "ipv6-only",  # as each role opens its ports itself
    )


def _chosen(settings: Settings, roles: Collection[str]) -> list[str]:
    if unknown := sorted(set(roles) - set(Role)):
        raise BadInput(f"{unknown[0]!r} is none of {', '.join(Role)}")
    if not settings.database_url:
        if roles:
            raise BadInput("database_url is not set: with the embedded database there is one unit for everything")
        return [_ALL]
    used = {role for role in ALL if role is not Role.HL7 or settings.hl7_port}
    return [role.value for role in Role if role in (set(map(Role, roles)) or used)]


def _program() -> str:
    found = shutil.which("radir", path=str(Path(sys.executable).parent)) or shutil.which("radir")
    if found is None:
        raise BadInput("--program: the radir command is not found; name it")
    return shlex.quote(found)
