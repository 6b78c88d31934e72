"""``radir …``: one parser; each command in a file of its own, those of other packages by entry point."""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module
from importlib.metadata import entry_points

from radir_pacs import __version__, config, handed_sockets
from radir_pacs.errors import RadirError, SettingError
from radir_pacs.logs import keep_quiet

# Each command and its module; a command imports only its own module.
_OWN = {
    "audit": "audit",
    "backup": "backup",
    "restore": "restore",
    "tokens": "tokens",
    "up": "up",
    "rules": "rules",
    "serve": "serve",
    "sr": "sr",
    "status": "status",
    "peers": "peers",
    "problems": "problems",
    "pull-fhir": "pull_fhir",
    "regions": "regions",
    "similar": "similar",
    "save": "save",
    "send": "send",
    "complete": "admin",
    "delete": "admin",
    "demo": "demo",
    "disk": "disk",
    "emergencies": "emergencies",
    "erase": "erase",
    "doctor": "doctor",
    "feedback": "feedback",
    "fhir-key": "fhir_key",
    "import-images": "import_images",
    "index": "index",
    "install-service": "install_service",
    "messages": "messages",
    "mine": "mine",
    "models": "models",
    "quality": "quality",
    "reports": "reports",
    "resolve": "resolve",
    "retention": "retention",
    "studies": "studies",
    "users": "users",
    "viewer": "viewer",
    "withhold": "withhold",
}


def parser(command: str | None = None) -> argparse.ArgumentParser:
    """The parser for one command; for an unknown one, with all commands, as docs/reference/commands.md needs it."""
    points = {point.name: point for point in entry_points(group="radir.commands")}
    known = command in _OWN or command in points
    root = config.Parser(prog="radir", description="Similar cases beside the PACS. Decision support, not diagnosis.")
    root.add_argument("--version", action="version", version=f"radir {__version__}")
    config.add_help_settings(root)
    commands = root.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in dict.fromkeys(module for name, module in _OWN.items() if not known or name == command):
        import_module(f"radir_pacs.cli.{module}").register(commands)
    for name in sorted(points):
        if not known or name == command:
            points[name].load()(commands)
    return root


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Exit codes: 0 done, 1 an error stated in one line, 2 wrong usage, 130 interrupted.

    `radir serve` ends with 78 for wrong settings, by which a service manager knows that no restart will help.
    """
    given = sys.argv[1:] if arguments is None else arguments
    args = parser(given[0] if given else None).parse_args(given)
    keep_quiet()
    try:
        settings = config.load(args) if getattr(args, "needs_settings", False) else None
        code: int = args.run(args, settings)
    except RadirError as error:
        print(f"error: {error}", file=sys.stderr)
        if args.command != "serve":
            return 1
        if error.exit_code == SettingError.exit_code:
            handed_sockets.turn_away()
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `radir … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # a file named on the command line, a full disk
        print(f"error: {error.filename or 'the system'}: {error.strerror or error}", file=sys.stderr)
        return 1
    return code


if __name__ == "__main__":
    sys.exit(main())
