"""``radir pull-fhir URL``: reports of a FHIR server that changed since the last pull; run it by a timer."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

from radir_pacs import config
from radir_pacs.catalogue import Catalogue
from radir_pacs.cli.output import out, print_json
from radir_pacs.cli.state import must_run
from radir_pacs.config import Settings
from radir_pacs.errors import BadInput
from radir_pacs.intake.fhir_authorization import Authorization, FixedAuthorization, SmartAuthorization, read_key
from radir_pacs.intake.fhir_pull import FhirPull

_NAMED = 20  # so many unusable reports are named one by one


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("pull-fhir", help="take reports from a FHIR server: what changed since the last pull")
    parser.add_argument("url", metavar="URL", help="the server's base address, such as https://fhir.example/r4")
    parser.add_argument("--since", metavar="TIME", help="instead of the last pull: changed since, 2026-03-01T08:00")
    parser.add_argument(
        "--authorization-file", type=Path, metavar="FILE", help="holds the Authorization header, as 'Bearer …'"
    )
    parser.add_argument("--json", action="store_true", help="for machines")
    config.add_flags(parser)
    parser.set_defaults(run=run, needs_settings=True)


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Exit code 1 when a report could not be used."""
    must_run(settings)
    authorization = _authorization(args, settings)
    with Catalogue.open(settings) as catalogue:
        pull = FhirPull(args.url, catalogue.report_versions, settings.home / "pulled", authorization=authorization)
        done = pull.run(_since(args.since))
    for line in done.unusable[:_NAMED]:
        print(f"error: {line}", file=sys.stderr)
    if args.json:
        counts = {str(outcome).lower(): count for outcome, count in done.received.items()}
        print_json({"received": counts, "unusable": len(done.unusable), "pages": done.pages})
    else:
        shown = ", ".join(f"{count} {outcome.lower()}" for outcome, count in done.received.items()) or "none"
        out.print(f"reports: {shown}; {len(done.unusable)} could not be used", markup=False)
    return 1 if done.unusable else 0


def _authorization(args: argparse.Namespace, settings: Settings) -> Authorization:
    """By a file with the header, else by SMART Backend Services where the settings say so, else none."""
    if args.authorization_file is not None:
        try:
            return FixedAuthorization(args.authorization_file.read_text("utf-8").strip())
        except (OSError, UnicodeDecodeError):
            raise BadInput("--authorization-file: the file cannot be read") from None
    if not settings.fhir_client_id:
        return FixedAuthorization()
    key = read_key(Path(settings.fhir_client_key).expanduser())
    return SmartAuthorization(args.url, client_id=settings.fhir_client_id, key=key, scope=settings.fhir_scope)


def _since(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise BadInput("--since: not a time, such as 2026-03-01T08:00") from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
