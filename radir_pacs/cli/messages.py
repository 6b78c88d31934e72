"""``radir messages``: HL7 messages that could not be used and are kept: show one as it came, or drop what is mended."""

from __future__ import annotations

import argparse
import sys

from radir_pacs import config
from radir_pacs.callers import AuditEvent
from radir_pacs.catalogue import Catalogue
from radir_pacs.cli.caller import caller
from radir_pacs.cli.output import counted, out, print_json
from radir_pacs.cli.state import must_run
from radir_pacs.config import Settings
from radir_pacs.errors import BadInput, NotFound


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("messages", help="HL7 messages that could not be used and are kept: show, drop")
    parser.add_argument("action", choices=("show", "drop"), help="show prints the message, which names its patient")
    parser.add_argument("number", nargs="?", type=int, help="as radir problems lists it")
    parser.add_argument("--all", action="store_true", help="drop every one")
    parser.add_argument("--json", action="store_true", help="for machines")
    config.add_flags(parser)
    parser.set_defaults(run=run, needs_settings=True)


def run(args: argparse.Namespace, settings: Settings) -> int:
    must_run(settings)
    if (args.number is None) != args.all or (args.action == "show" and args.all):
        raise BadInput(f"radir messages {args.action} takes a number{' or --all' if args.action == 'drop' else ''}")
    with Catalogue.open(settings) as catalogue:
        if args.action == "show":
            body = catalogue.messages.body(args.number)
            catalogue.audit.note(AuditEvent.OPENED, caller(), message=args.number)
            sys.stdout.buffer.write(body.replace(b"\r\n", b"\n").replace(b"\r", b"\n"))
            return 0
        dropped = catalogue.messages.drop(args.number)
    if args.number is not None and not dropped:
        raise NotFound(f"no message {args.number} is kept")
    if args.json:
        print_json({"dropped": dropped})
    else:
        out.print(f"{counted(dropped, 'message')} dropped")
    return 0
