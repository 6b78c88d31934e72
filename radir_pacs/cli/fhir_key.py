"""``radir fhir-key``: the key set that a FHIR server's administrator registers for us (SMART Backend Services)."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from radir_pacs import config, durable
from radir_pacs.cli.output import print_json
from radir_pacs.config import Settings
from radir_pacs.errors import SettingError
from radir_pacs.intake.fhir_authorization import new_key, public_keys, read_key

_OWNER_ONLY = 0o600


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "fhir-key",
        help="print the public key set that a FHIR server registers for us; makes the private key where there is none",
    )
    config.add_flags(parser, only=("home", "fhir_client_key"))
    parser.set_defaults(run=run, needs_settings=True)


def run(_: argparse.Namespace, settings: Settings) -> int:
    if not settings.fhir_client_key:
        raise SettingError("fhir_client_key: no file is set")
    path = Path(settings.fhir_client_key).expanduser()
    try:
        is_new = not path.exists() and durable.create(path, new_key(), _OWNER_ONLY)
    except OSError as error:
        raise SettingError(f"fhir_client_key: the file cannot be written: {error.strerror}") from None
    if is_new:
        print("a new private key was made: back it up", file=sys.stderr)
    print_json(public_keys(read_key(path)))
    return 0
