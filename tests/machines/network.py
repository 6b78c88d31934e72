"""A private network of machines that are Linux network namespaces, whose links are cut without a word to either end.

Neighbours are fixed: each end knows the other's hardware address. A cut replaces it by one that nobody has, so that
packets are lost silently, as behind a switch that failed: no end is told, and nothing but a time limit helps.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.services import IN_CI

OUTSIDE = "outside"  # the tests' own namespace
_NOBODY = "02:00:00:00:00:ff"
_PREFIX = "radir"
_NEEDED = ("ip", "nsenter", "unshare", "setpriv", "hostname", "mount")


def need_namespaces() -> None:
    """Without them a test skips, in CI too: not every CI machine may make some. One that may must have all the rest."""
    if os.geteuid() != 0:
        pytest.skip("namespaces need root")
    if shutil.which("ip") is None:
        pytest.skip("ip is not installed")
    name = f"{_PREFIX}-{os.getpid()}-try"
    try:
        _ip("netns", "add", name)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no namespaces here: {error.stderr!r}")
    try:
        reason = _lacking(name)
    finally:
        _ip("netns", "del", name)
    if reason and IN_CI:
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)


def _lacking(namespace: str) -> str:
    """What machines need beyond a namespace of the network, and is not here."""
    if missing := [program for program in _NEEDED if shutil.which(program) is None]:
        return f"{', '.join(missing)} not installed"
    try:
        _ip("-n", namespace, "link", "add", "v0", "type", "veth", "peer", "name", "v1")
        _ip("-n", namespace, "link", "add", "b0", "type", "bridge")
        subprocess.run(["unshare", "--mount", "--uts", "--pid", "--fork", "true"], check=True, capture_output=True)
    except subprocess.CalledProcessError as error:
        return f"no machines here: {error.stderr!r}"
    return ""


@dataclass
class Network:
    """Machines by name, each with the addresses of what it serves; ``OUTSIDE`` is the tests' own.

    ``number``: below 2; that of the networks of this process which stand already, for names and addresses of its own.
    """

    hosts: dict[str, dict[str, str]]
    number: int = 0
    _cut: set[tuple[str, str, str]] = field(default_factory=set)  # machine, peer, address

    @property
    def subnet(self) -> str:
        """The first three numbers, of a range that no network uses (RFC 2544)."""
        worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 5  # no two of one run share it
        return f"198.{18 + self.number}.{50 * worker + os.getpid() % 50}"

    def namespace(self, machine: str) -> str:
        return f"{_PREFIX}-{os.getpid()}-{machine}{self.number}"

    @property
    def _bridge(self) -> str:
        return f"rd{os.getpid()}{'ab'[self.number]}"

    def _device(self, machine: str) -> str:
        return f"{self._bridge}{machine[:3]}"

    def _mac(self, machine: str) -> str:
        return f"02:00:00:00:01:{[*self.hosts, OUTSIDE].index(machine):02x}"

    def addresses(self, machine: str) -> dict[str, str]:
        """By name of what answers there."""
        return {OUTSIDE: f"{self.subnet}.1"} if machine == OUTSIDE else self.hosts[machine]

    def address(self, service: str) -> str:
        return {name: at for machine in self.hosts for name, at in self.addresses(machine).items()}[service]

    def build(self) -> None:
        _ip("link", "add", self._bridge, "address", self._mac(OUTSIDE), "type", "bridge")
        _ip("addr", "add", f"{self.subnet}.1/24", "dev", self._bridge)
        _ip("link", "set", self._bridge, "up")
        for machine in self.hosts:
            self.plug(machine)

    def plug(self, machine: str) -> None:
        """A new namespace for a machine, with all its links."""
        space, device = self.namespace(machine), self._device(machine)
        _ip("netns", "add", space)
        _ip("-n", space, "link", "set", "lo", "up")
        _ip("link", "add", device, "type", "veth", "peer", "name", "eth0", "netns", space)
        _ip("-n", space, "link", "set", "eth0", "address", self._mac(machine))
        for at in self.addresses(machine).values():
            _ip("-n", space, "addr", "add", f"{at}/24", "dev", "eth0")
        _ip("-n", space, "link", "set", "eth0", "up")
        _ip("link", "set", device, "master", self._bridge, "up")
        for peer in [*self.hosts, OUTSIDE]:
            if peer != machine:
                for at in self.addresses(peer).values():
                    self._know(machine, peer, at)
                for at in self.addresses(machine).values():
                    self._know(peer, machine, at)

    def unplug(self, machine: str) -> None:
        """The plug is pulled: nobody outside hears a last word. Its processes must have been killed afterwards."""
        _ip("link", "del", self._device(machine))

    def forget(self, machine: str) -> None:
        _ip("netns", "del", self.namespace(machine))

    @contextlib.contextmanager
    def cut(self, machine: str, peer: str, *services: str) -> Iterator[None]:
        """The link between two machines loses every packet; with ``services``: the way to these of ``peer`` alone."""
        ways = {(machine, peer, self.addresses(peer)[name]) for name in services or self.addresses(peer)}
        if not services:
            ways |= {(peer, machine, at) for at in self.addresses(machine).values()}
        self._cut |= ways
        self._tell(ways)
        try:
            yield
        finally:
            self._cut -= ways
            self._tell(ways)

    def remove(self) -> None:
        """All that was made, whatever of it stands."""
        for machine in self.hosts:
            for remove in (self.unplug, self.forget):
                with contextlib.suppress(subprocess.CalledProcessError):
                    remove(machine)
        with contextlib.suppress(subprocess.CalledProcessError):
            _ip("link", "del", self._bridge)

    def _tell(self, ways: set[tuple[str, str, str]]) -> None:
        for way in ways:
            with contextlib.suppress(subprocess.CalledProcessError):  # the machine is off
                self._know(*way)

    def _know(self, machine: str, peer: str, at: str) -> None:
        """Fix the hardware address of ``peer``, or nobody's, for ``at``."""
        mac = _NOBODY if (machine, peer, at) in self._cut else self._mac(peer)
        where = ["dev", self._bridge] if machine == OUTSIDE else ["dev", "eth0"]
        space = [] if machine == OUTSIDE else ["-n", self.namespace(machine)]
        with contextlib.suppress(subprocess.CalledProcessError):  # a machine that is not there yet, or off
            _ip(*space, "neigh", "replace", at, "lladdr", mac, "nud", "permanent", *where)


def remove_leftovers() -> None:
    """Namespaces and links of test runs that were killed."""
    for name in _ip("netns", "list").split():
        prefix, _, rest = name.partition("-")
        owner = rest.partition("-")[0]
        if prefix == _PREFIX and owner.isdigit() and not Path(f"/proc/{owner}").exists():
            with contextlib.suppress(subprocess.CalledProcessError):
                _ip("netns", "del", name)
                _ip("link", "del", f"rd{owner}a")  # what stood inside a namespace is gone with it


def _ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=30).stdout
