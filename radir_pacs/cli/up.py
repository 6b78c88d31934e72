"""``radir up``: everything on one machine, until Ctrl-C or SIGTERM. ``radir serve`` runs roles of it the same way."""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Iterator
from importlib.util import find_spec

from radir_pacs import config, handed_sockets
from radir_pacs.catalogue import Catalogue, Processes, start_embedded, stop_embedded
from radir_pacs.cli.monitor import monitoring
from radir_pacs.cli.named_files import check_files
from radir_pacs.cli.roles import ALL, Role, set_name
from radir_pacs.cli.state import end_orphans, make_home, only_one
from radir_pacs.cli.supervisor import WRONG_SETTINGS, Supervisor, last_words
from radir_pacs.config import Settings, check_user_info, to_environment
from radir_pacs.errors import RadirError, SettingError
from radir_pacs.logs import set_up_logging
from radir_pacs.storage import bucket_of
from radir_pacs.storage.s3 import Bucket
from radir_pacs.storage.s3_blobs import OWNER

READY_S = 90.0  # a start that takes longer is told of
_GIVE_UP_S = 600.0
_BROKER_S = 15.0  # for its check, which gives up by itself long before
_CORRECT_BROKER = "; start it, or correct broker_url"
_ENDINGS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # asked to stop, Ctrl-C, the terminal was closed


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("up", help="run listener, web service, workers and relay until Ctrl-C")
    config.add_flags(parser)
    parser.set_defaults(run=run, needs_settings=True)


def run(args: argparse.Namespace, settings: Settings) -> int:
    return serve(settings)


def serve(settings: Settings, roles: Collection[Role] = ALL, suffix: str = "") -> int:
    """Run the roles until told to stop; 1 when the supervisor broke."""
    make_home(settings)
    file = settings.home / "logs" / f"supervisor{'-' * (roles != ALL)}{set_name(roles, suffix)}.log"
    set_up_logging(settings, "supervisor" + suffix, file=file if settings.log_to == "files" else None)
    with running(settings, roles, suffix) as supervisor:
        if not supervisor.stopping.is_set():
            print_addresses(settings, roles)
        while not supervisor.stopping.wait(0.5):
            pass
    return 1 if supervisor.broken else 0


def print_addresses(settings: Settings, roles: Collection[Role] = ALL) -> None:
    if Role.LISTENER in roles:
        if settings.listener_plain:
            print(f"DICOM     {settings.ae_title}@{settings.listener_host}:{settings.listener_port}")
        if settings.listener_tls_port:
            print(f"DICOM     {settings.ae_title}@{settings.listener_host}:{settings.listener_tls_port} (TLS)")
    if settings.hl7_port and Role.HL7 in roles:
        print(f"HL7       {settings.hl7_host}:{settings.hl7_port}{' (TLS)' if settings.hl7_tls_certificate else ''}")
    if Role.WEB in roles:
        print(f"DICOMweb  {settings.public_url}/dicom-web")
        print(f"Page      {settings.public_url}/")
        if (settings.ohif_dist / "index.html").is_file():
            print(f"OHIF      {settings.public_url}/ohif/")
    if settings.monitor_port:
        print(f"Monitor   http://{settings.monitor_host}:{settings.monitor_port}/metrics")
    print(f"State     {settings.home}", flush=True)
    for silence, until in ((broker_silence(settings), "encoded"), (store_silence(settings), "stored or encoded")):
        if silence:
            print(f"{silence}; nothing is {until} until then", file=sys.stderr, flush=True)


@contextlib.contextmanager
def running(settings: Settings, roles: Collection[Role] = ALL, suffix: str = "") -> Iterator[Supervisor]:
    """The roles, ready; they are stopped at the end of the body, which must end when ``stopping`` is set.

    Signals that ask the process to stop set it, from before the first child starts: none may outlive its supervisor.
    Raises SettingError for a taken port or an unusable home folder, RadirError when a process cannot stay up.
    """
    name = set_name(roles, suffix)
    with contextlib.ExitStack() as watched, only_one(settings, name):
        end_orphans(settings, name)
        listening = addresses(settings, roles)
        if strange := handed_sockets.without((host, port) for _, host, port in listening):
            open_for_us = "{}:{}".format(*min(strange))
            raise SettingError(
                f"{open_for_us} is open for us, and no setting names it: radir install-service --sockets"
            )
        for setting, host, port in listening:
            if not handed_sockets.has(host, port):
                check_free(setting, host, port)
        check_broker(settings.broker_url)
        check_store(settings)
        check_files(settings, roles)  # a process that starts with a wrong file would end again and again
        supervisor = Supervisor(settings, roles, suffix)
        thread = threading.Thread(target=supervisor.run, name="supervisor")
        _stop_on_signals(supervisor)
        try:
            if not settings.database_url:
                start_embedded(settings.home, supervisor.stopping.is_set)
            catalogue = watched.enter_context(Catalogue.open(settings))  # brings the schema up to date
            if settings.monitor_port:  # until the last process has ended
                watched.enter_context(monitoring(settings, supervisor, catalogue))
            thread.start()
            _wait_until_ready(settings, supervisor, catalogue.processes)
            yield supervisor
        finally:
            supervisor.stop()
            if thread.ident is not None:
                thread.join()
            watched.close()
            if not settings.database_url:
                stop_embedded(settings.home)


def _stop_on_signals(supervisor: Supervisor) -> None:
    for number in _ENDINGS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup leaves SIGHUP
            signal.signal(number, lambda *_: supervisor.stop())


def addresses(settings: Settings, roles: Collection[Role]) -> list[tuple[str, str, int]]:
    """Where these roles listen: the setting that names a port, host and port."""
    plain_port = settings.listener_port if settings.listener_plain else 0
    every = (
        (Role.LISTENER, "listener_port", settings.listener_host, plain_port),
        (Role.LISTENER, "listener_tls_port", settings.listener_host, settings.listener_tls_port),
        (Role.WEB, "web_port", settings.web_host, settings.web_port),
        (Role.HL7, "hl7_port", settings.hl7_host, settings.hl7_port),
    )
    return [(setting, host, port) for role, setting, host, port in every if port and role in roles]


def check_free(name: str, host: str, port: int) -> None:
    """Raise SettingError when nothing can be bound there."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            advice = f"choose another by --{name.replace('_', '-')}"
            if error.errno == errno.EACCES:  # below 1024
                advice += ", or let systemd open it (radir install-service --sockets)"
            raise SettingError(f"{name}: {host}:{port} cannot be used: {error.strerror}; {advice}") from None


def check_broker(url: str) -> None:
    """Raise SettingError for a broker that no worker could use: without its client nothing would ever be encoded.

    Also for a password that breaks the URL, parts of which would be shown.
    """
    for one in url.split(";"):  # several brokers, the first that answers is used
        if url not in ("", "pgmq") and "://" not in one:
            raise SettingError("broker_url: not a URL, or ; of a password is not written %3B")
        check_user_info("broker_url", one)
    scheme = url.partition("://")[0].partition("+")[0].lower()
    if scheme in ("redis", "rediss"):
        if find_spec("redis") is None:
            raise SettingError("broker_url: Redis needs a missing package: pip install -e '.[redis]' in the clone")
    elif url and scheme not in ("amqp", "amqps", "pyamqp", "pgmq"):
        raise SettingError(f"broker_url: {scheme}:// is none of redis, rediss, amqp, amqps, pgmq")


def check_store(settings: Settings) -> None:
    """Raise SettingError for a blob_store that names no bucket."""
    try:
        bucket_of(settings)
    except SettingError as wrong:
        raise SettingError(f"blob_store: {wrong}; it is no folder, that of home holds the files without it") from None


def broker_silence(settings: Settings) -> str:
    """Why the broker cannot be used, and what to do, without its password; empty where it can, or is the database."""
    if not settings.broker_url or settings.broker_url.startswith("pgmq"):
        return ""
    command = [sys.executable, "-m", "radir_workers.broker_check"]  # only workers know brokers
    environment = os.environ | to_environment(settings)
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            env=environment,
            timeout=_BROKER_S,
        )
    except subprocess.TimeoutExpired:
        return f"the broker does not answer within {_BROKER_S:.0f} s{_CORRECT_BROKER}"
    said = done.stdout.strip()
    if done.returncode != 0:
        said = f"the broker cannot be used: its check ended with {done.returncode}"
    return f"{said}{_CORRECT_BROKER}" if said else ""


def store_silence(settings: Settings) -> str:
    """Why the bucket of blob_store cannot be used, and what to do; empty where it can, or there is none."""
    bucket = bucket_of(settings)
    return Bucket(bucket).silence(OWNER) if bucket else ""


def _wait_until_ready(settings: Settings, supervisor: Supervisor, processes: Processes) -> None:
    """Return when every process has said that it runs, or when it is asked to stop.

    Raises SettingError or RadirError for a process that cannot stay up, and when one is silent for ten minutes: a start
    from a cold disk, or on a busy machine, is only slow.
    """
    began = time.monotonic()
    told = False
    silent: list[str] = []
    while time.monotonic() < began + _GIVE_UP_S and not supervisor.stopping.is_set():
        failed = supervisor.failed()
        if failed is not None:
            log = supervisor.log_of(failed.name)
            said = last_words(log)
            if failed.last_exit == WRONG_SETTINGS:
                raise SettingError(f"{failed.name}: {said.removeprefix('error: ')}")
            raise RadirError(f"{failed.name} does not stay up: {said} (log: {log})")
        # Rows of an earlier run may have the same process ids: a container assigns them in the same order again.
        since_s = time.monotonic() - began
        seen = {row.name: row.pid for row in processes.all() if row.silent_s < since_s}
        silent = [name for name, pid in supervisor.pids().items() if seen.get(name) != pid]
        if not silent:
            return
        if since_s >= READY_S and not told:
            told = True
            print(
                f"not ready after {since_s:.0f} s, and going on: {', '.join(silent)} did not say that they run. A first"
                f" start, or one on a busy machine, may be slow; what they do is in {settings.home / 'logs'}",
                file=sys.stderr,
                flush=True,
            )
        time.sleep(0.1)
    if not supervisor.stopping.is_set():
        raise RadirError(
            f"not ready after {_GIVE_UP_S:.0f} s: {', '.join(silent)} did not say that they run; their logs are in"
            f" {settings.home / 'logs'}"
        )
