"""``radir …``: one parser; each command in a file of its own, those of other packages by entry point."""

from __future__ import annotations

import argparse
import os
import sys
from importlib.metadata import entry_points

from radir_pacs import __version__, config
from radir_pacs.cli import admin, demo, feedback, send, similar, status, up, viewer
from radir_pacs.errors import RadirError

_OWN = (up, status, similar, send, admin, demo, feedback, viewer)


def parser() -> argparse.ArgumentParser:
    """The whole command line, as ``docs/reference/commands.md`` shows it."""
    root = argparse.ArgumentParser(
        prog="radir", description="Similar cases beside the PACS. Decision support, not diagnosis."
    )
    root.add_argument("--version", action="version", version=f"radir {__version__}")
    commands = root.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in _OWN:
        module.register(commands)
    for point in sorted(entry_points(group="radir.commands"), key=lambda point: point.name):
        point.load()(commands)
    return root


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Exit codes: 0 done, 1 an error said in one line, 2 wrong usage, 130 interrupted."""
    args = parser().parse_args(arguments)
    try:
        settings = config.load(args) if getattr(args, "needs_settings", False) else None
        code: int = args.run(args, settings)
    except RadirError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
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
