"""One installation on three machines without a common folder, as three hosts of a hospital would carry it.

front: listener, web; work: worker, indexer, transfer; keep: relay, and the services that all share.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from radir_pacs import config
from radir_pacs.config import Settings
from tests.machines import engines
from tests.machines.machine import Machine, Program
from tests.machines.network import Network, need_namespaces, remove_leftovers
from tests.vector_engines import has_milvus

FRONT, WORK, KEEP = "front", "work", "keep"
ROLES = {FRONT: ("listener", "web"), WORK: ("worker", "indexer", "transfer"), KEEP: ("relay",)}
SERVICES = ("database", "broker", "store", "vectors")
TOKEN = "a-token-of-the-tests-alone"
LISTENER_PORT, WEB_PORT = 11112, 8042
START_S = 300.0
_standing: list[Network] = []  # of this process: an installation may be made on the front machine of another


@dataclass
class Installation:
    network: Network
    machines: dict[str, Machine]
    settings: dict[str, str]  # as variables of the environment

    @property
    def web(self) -> str:
        return f"http://{self.network.address(FRONT)}:{WEB_PORT}"

    def of_outside(self, home: Path) -> Settings:
        """Settings of a catalogue's reader at the tests' own place."""
        return config.load(environ=self.settings | {"RADIR_HOME": str(home)})

    def power_off(self, name: str) -> None:
        self.machines[name].power_off()

    def power_on(self, name: str) -> None:
        self.machines[name].power_on(plugged=False)

    def radir(self, machine: str, *arguments: str, seconds: float = 120) -> str:
        """What a command says that somebody types on a machine. Raises subprocess.CalledProcessError."""
        return self.machines[machine].run([sys.executable, "-m", "radir_pacs.cli", *arguments], "radir", seconds)

    def said(self, most: int = 3000) -> str:
        return "\n".join(machine.said(most) for machine in self.machines.values())


@contextlib.contextmanager
def three_machines(**settings: str) -> Iterator[Installation]:
    """The machines, switched on and their processes ready; whatever happens, nothing of them is left at the end.

    ``settings``: beyond or in place of those that three machines need.
    """
    need_namespaces()
    has_milvus()
    remove_leftovers()
    base = Path(tempfile.mkdtemp(prefix="radir-machines-"))
    base.chmod(0o755)  # Postgres runs as a user of its own
    network = _network()
    homes = {name: base / name for name in ROLES}
    for home in homes.values():
        home.mkdir()
    machines = {
        name: Machine(name, home, network, [other for other in homes.values() if other != home])
        for name, home in homes.items()
    }
    variables = _settings(network, settings)
    for name, machine in machines.items():
        roles = [*ROLES[name], *(["hl7"] if name == FRONT and "hl7_port" in settings else [])]
        machine.programs = [_radir(roles, machine.home, variables, network.address(name))]
    made = Installation(network, machines, variables)
    try:
        _standing.append(network)
        network.build()
        machines[KEEP].programs = [*_shared(network, homes[KEEP]), *machines[KEEP].programs]
        machines[KEEP].power_on()
        _wait_for_services(made)
        for name in (FRONT, WORK):
            machines[name].power_on()
        _wait_until_ready(made)
        yield made
    finally:
        for machine in machines.values():
            machine.kill()
        network.remove()
        _standing.remove(network)
        shutil.rmtree(base, ignore_errors=True)


def front_address() -> str:
    """Of the front machine of the installation that will be made next."""
    return _network().address(FRONT)


def _network() -> Network:
    network = Network({}, len(_standing))
    of = network.subnet
    network.hosts |= {
        FRONT: {FRONT: f"{of}.11"},
        WORK: {WORK: f"{of}.12"},
        KEEP: {KEEP: f"{of}.13"} | {name: f"{of}.{21 + n}" for n, name in enumerate(SERVICES)},
    }
    return network


def _shared(network: Network, home: Path) -> list[Program]:
    make: dict[str, Callable[[Path, str], Program]] = {
        "database": engines.postgres,
        "broker": engines.rabbitmq,
        "store": engines.s3,
        "vectors": engines.milvus,
    }
    return [make[name](home, network.address(name)) for name in SERVICES]


def _settings(network: Network, given: dict[str, str]) -> dict[str, str]:
    front, at = network.address(FRONT), {name: network.address(name) for name in SERVICES}
    ports = engines.PORTS
    settings = {
        "database_url": f"postgresql://postgres@{at['database']}:{ports['database']}/postgres",
        "broker_url": f"amqp://guest:guest@{at['broker']}:{ports['broker']}//",
        "blob_store": f"s3://{engines.BUCKET}/blobs",
        "s3_endpoint": f"http://{at['store']}:{ports['store']}",
        "s3_access_key_id": engines.ACCESS_KEY,
        "s3_secret_access_key": engines.SECRET,
        "index_engine": "milvus",
        "milvus_url": f"http://{at['vectors']}:{ports['vectors']}",
        "listener_host": front,
        "listener_port": str(LISTENER_PORT),
        "listener_processes": "1",
        "calling_ae_titles": "RADIR-SEND",
        "web_host": front,
        "web_port": str(WEB_PORT),
        "web_processes": "1",
        "api_tokens": TOKEN,
        "quiet_period_s": "0.5",
        "device": "cpu",
        "torch_threads": "1",
        "quality_weekly": "False",  # what begins at night would begin in tests at night
        "monitor_port": "9100",
    }
    return {f"RADIR_{name.upper()}": value for name, value in (settings | given).items()}


def _radir(roles: Sequence[str], home: Path, settings: dict[str, str], address: str) -> Program:
    own = {"RADIR_HOME": str(home / "radir"), "RADIR_MONITOR_HOST": address, "HOME": str(home)}
    command = [sys.executable, "-m", "radir_pacs.cli", "serve", *roles]
    return Program(name="radir", command=command, environment=settings | own)


def _wait_for_services(made: Installation) -> None:
    deadline = time.monotonic() + START_S
    for name in SERVICES:
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection((made.network.address(name), engines.PORTS[name]), 1).close()
                break
            assert time.monotonic() < deadline, f"{name} does not come up\n{made.said()}"
            time.sleep(0.1)


def _wait_until_ready(made: Installation) -> None:
    """Until the monitor of each machine says so, which needs no token."""
    for name, machine in made.machines.items():
        deadline = time.monotonic() + START_S
        while not is_ready(made.network.address(name)):
            assert machine.process.poll() is None, f"{name} ended\n{made.said()}"
            assert time.monotonic() < deadline, f"{name} does not come up\n{made.said()}"
            time.sleep(0.1)


def is_ready(address: str) -> bool:
    """What a load balancer sees: whether /health/ready answers 200 within two seconds."""
    with contextlib.suppress(OSError), socket.create_connection((address, 9100), 2) as connection:
        connection.settimeout(2)
        connection.sendall(b"GET /health/ready HTTP/1.0\r\n\r\n")
        return connection.recv(64).startswith(b"HTTP/1.0 200")
    return False
