"""The roles of an installation, and the processes that play each of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from enum import StrEnum

from radir_pacs.config import Settings

Command = list[str]  # a module with its arguments


class Role(StrEnum):
    """What one machine may run alone, with a database that all share."""

    LISTENER = "listener"
    HL7 = "hl7"
    WEB = "web"
    RELAY = "relay"
    INDEXER = "indexer"
    TRANSFER = "transfer"
    WORKER = "worker"


ALL: frozenset[Role] = frozenset(Role)
LISTENING = frozenset({"radir_pacs.listener", "radir_pacs.hl7", "radir_pacs.web"})  # modules with ports


def processes_of(settings: Settings, roles: Collection[Role] = ALL, suffix: str = "") -> list[tuple[str, Command]]:
    """Name and command of each process. ``suffix`` tells the names of one machine from those of others."""
    return [made for role in Role if role in roles for made in _PROCESSES[role](settings, suffix)]


def set_name(roles: Collection[Role], suffix: str = "") -> str:
    """How locks and files name a set of roles on a machine, such as listener-relay@gpu1; empty for all of them."""
    return "" if frozenset(roles) == ALL else "-".join(role for role in Role if role in roles) + suffix


def _several(role: Role, module: str, count: int, suffix: str, *words: str) -> Sequence[tuple[str, Command]]:
    names = [_numbered(role, number) + suffix for number in range(count)]
    return [(name, [module, *words, "--name", name]) for name in names]


def _numbered(name: str, number: int) -> str:
    """The first of a kind has its plain name, and so its log, however many there are."""
    return f"{name}-{number + 1}" if number else name


def _workers(settings: Settings, suffix: str) -> Sequence[tuple[str, Command]]:
    made = _several(Role.WORKER, "radir_workers", settings.worker_processes, suffix, Role.WORKER)
    return [(name, [*command, "--number", str(number)]) for number, (name, command) in enumerate(made)]


_PROCESSES: Mapping[Role, Callable[[Settings, str], Sequence[tuple[str, Command]]]] = {
    Role.LISTENER: lambda s, suffix: _several(Role.LISTENER, "radir_pacs.listener", s.listener_process_count, suffix),
    Role.HL7: lambda s, suffix: _several(Role.HL7, "radir_pacs.hl7", int(bool(s.hl7_port)), suffix),
    Role.WEB: lambda s, suffix: _several(Role.WEB, "radir_pacs.web", s.web_process_count, suffix),
    Role.RELAY: lambda s, suffix: _several(Role.RELAY, "radir_workers", 1, suffix, Role.RELAY),
    Role.INDEXER: lambda s, suffix: _several(Role.INDEXER, "radir_workers", 1, suffix, Role.INDEXER),
    Role.TRANSFER: lambda s, suffix: _several(Role.TRANSFER, "radir_workers", 1, suffix, Role.TRANSFER),
    Role.WORKER: _workers,
}
