"""The stack of the acceptance tests on three machines (RADIR_TEST_MACHINES=3); the tests run on the front one."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

from tests.machines.installation import FRONT, LISTENER_PORT, WEB_PORT, three_machines
from tests.stack import Stack

_CLONE_NEWNET = 0x40000000  # sched.h


@contextlib.contextmanager
def running_on_three(**settings: str) -> Iterator[Stack]:
    """As `running_stack`, with the home folder of the front machine."""
    loopback = {"listener_host": "127.0.0.1", "web_host": "127.0.0.1", "api_tokens": "", "calling_ae_titles": ""}
    with three_machines(**(loopback | settings)) as made:
        front = made.machines[FRONT]
        home = front.home / "radir"
        ours = {name: value for name, value in os.environ.items() if not name.startswith("RADIR_")}
        with _at(made.network.namespace(FRONT)):
            yield Stack(home, LISTENER_PORT, WEB_PORT, front.process, ours | made.settings | {"RADIR_HOME": str(home)})


@contextlib.contextmanager
def _at(namespace: str) -> Iterator[None]:
    """This thread, and what it starts from now on, is in the network of a machine."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/proc/thread-self/ns/net").open("rb") as own, Path(f"/run/netns/{namespace}").open("rb") as there:
        _enter(libc, there.fileno())
        try:
            yield
        finally:
            _enter(libc, own.fileno())


def _enter(libc: ctypes.CDLL, descriptor: int) -> None:
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")
