"""What installations share, as programs of a machine: Postgres, RabbitMQ, an S3 server, Milvus, each on an address of
its own and durable in a folder.

rclone serves the bucket: moto's objects would be gone with its process. Milvus is milvus-lite's server.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from radir_pacs.catalogue import postgres_programs
from tests.machines.machine import Program
from tests.services import need

ACCESS_KEY, SECRET = "radir", "not-a-secret"  # of a bucket that lives as long as a test
BUCKET = "radir"
PORTS = {"database": 5432, "broker": 5672, "store": 9000, "vectors": 19530}


def postgres(folder: Path, address: str) -> Program:
    """Its data survives its process, not a power cut of the machine that runs the tests."""
    user = postgres_programs.server_user()
    data = folder / "postgres"
    data.mkdir()
    identity = []
    if user.uid is not None:
        os.chown(data, user.uid, user.gid or -1)
        identity = ["setpriv", f"--reuid={user.uid}", f"--regid={user.gid}", "--clear-groups"]
    data.chmod(0o700)
    postgres_programs.initdb(data, user)
    with (data / "pg_hba.conf").open("a") as rules:
        rules.write("host all all 198.18.0.0/15 trust\n")
    settings = {
        "listen_addresses": address,
        "unix_socket_directories": "",
        "max_connections": "300",
        "fsync": "off",
        "full_page_writes": "off",
        "log_min_error_statement": "panic",
    }
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    clean = f"rm -f {data}/postmaster.pid; exec"  # the id in it is another process's by now
    server = [*identity, postgres_programs.client_program("postgres"), "-D", str(data), *options]
    return Program(name="postgres", command=["sh", "-c", f'{clean} "$@"', "sh", *server])


def rabbitmq(folder: Path, address: str) -> Program:
    need("rabbitmq-server"), need("epmd")
    place = folder / "rabbitmq"
    place.mkdir()
    (place / "plugins").write_text("[].\n")
    (place / "rabbitmq.conf").write_text("loopback_users = none\n")
    return Program(
        name="rabbitmq",
        command=["/usr/lib/rabbitmq/bin/rabbitmq-server"],  # the one on PATH changes to the user rabbitmq
        environment={
            "HOME": str(place),
            "RABBITMQ_NODENAME": "radir@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": address,
            "RABBITMQ_NODE_PORT": str(PORTS["broker"]),
            "RABBITMQ_MNESIA_BASE": str(place / "mnesia"),
            "RABBITMQ_LOG_BASE": str(place / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(place / "plugins"),
            "RABBITMQ_CONFIG_FILE": str(place / "rabbitmq"),
            "RABBITMQ_CONF_ENV_FILE": str(place / "none"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1",
        },
    )


def s3(folder: Path, address: str) -> Program:
    (folder / "s3" / BUCKET).mkdir(parents=True)
    words = ["serve", "s3", str(folder / "s3"), "--addr", f"{address}:{PORTS['store']}"]
    return Program(
        name="s3",
        command=[str(Path(sys.executable).with_name("rclone")), *words, "--auth-key", f"{ACCESS_KEY},{SECRET}"],
        environment={"HOME": str(folder), "RCLONE_CONFIG": "/dev/null"},
    )


def milvus(folder: Path, address: str) -> Program:
    program = str(Path(sys.executable).with_name("milvus-lite"))
    words = ["server", "--data-dir", str(folder / "milvus"), "--host", address, "--port", str(PORTS["vectors"])]
    return Program(name="milvus", command=[program, *words], environment={"HOME": str(folder)})
