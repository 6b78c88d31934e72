"""Listening sockets that systemd has opened for us (sd_listen_fds(3)), found by the addresses that settings name.

The first process of a unit gets them and hands them on to its processes that listen. So a port below 1024 needs no
capability, and whoever calls while nobody serves waits in the socket's queue.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
from collections.abc import Iterable

_FIRST = 3  # SD_LISTEN_FDS_START
_MOST = 64
_MOST_TURNED_AWAY = 1024  # newcomers must not keep it busy


Address = tuple[str, int]  # host and port


def descriptors() -> dict[Address, int]:
    """The descriptor of each by its address: those given to this process, or to the one that started it."""
    if os.environ.get("LISTEN_PID") not in (str(os.getpid()), str(os.getppid())):
        return {}
    count = os.environ.get("LISTEN_FDS", "")
    given = range(_FIRST, _FIRST + min(int(count), _MOST)) if count.isdecimal() else range(0)
    found = {}
    for descriptor in given:
        with contextlib.suppress(OSError), _opened(descriptor) as one:  # else it is no socket, or was not handed on
            if one.family in (socket.AF_INET, socket.AF_INET6) and one.type == socket.SOCK_STREAM:
                found[_address(*one.getsockname()[:2])] = descriptor
    return found


def at(host: str, port: int) -> socket.socket | None:
    """The socket that listens at this address; None when none was handed over: bind one."""
    descriptor = descriptors().get(_address(host, port))
    return None if descriptor is None else _opened(descriptor)


def has(host: str, port: int) -> bool:
    """Whether this address was handed over."""
    return _address(host, port) in descriptors()


def without(named: Iterable[Address]) -> set[Address]:
    """Where we would listen though no setting says so. A port open to all needs more than one on loopback."""
    return set(descriptors()) - {_address(host, port) for host, port in named}


def _address(host: str, port: int) -> Address:
    """One spelling of each address; a name is none that systemd opens."""
    with contextlib.suppress(ValueError):
        host = str(ipaddress.ip_address(host))
    return host, port


def turn_away() -> None:
    """Close the connections that wait. For the first one, systemd would start a service that failed again, at once."""
    for descriptor in descriptors().values():
        with _opened(descriptor) as one, contextlib.suppress(OSError):
            one.setblocking(False)
            for _ in range(_MOST_TURNED_AWAY):
                one.accept()[0].close()


def _opened(descriptor: int) -> socket.socket:
    """A socket of its own over the same queue, closed on its own. Raises OSError."""
    copy = os.dup(descriptor)
    try:
        return socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        raise
