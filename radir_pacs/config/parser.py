"""The one kind of parser of command lines, and the forms that dates and times have on them."""

from __future__ import annotations

import argparse
from datetime import date, datetime
from typing import Any


class Parser(argparse.ArgumentParser):
    """Takes no flag that is cut short, nor do the parsers of its commands: ``--rules FILE`` would be taken for the
    setting ``--rules-file``, and ``--password WORD`` for ``--password-file``, for all users of the machine to see.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})


def day(text: str) -> date:
    """A ``type`` of an argument. Raises ArgumentTypeError."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"not a day: {text} (for example 2026-03-01)") from None


def moment(text: str) -> datetime:
    """A ``type`` of an argument; without a zone where the text has none. Raises ArgumentTypeError."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"not a time: {text} (for example 2026-03-01T08:00)") from None
