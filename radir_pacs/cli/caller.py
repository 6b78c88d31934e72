"""Who runs a command, for the audit trail."""

from __future__ import annotations

import getpass
import os

from radir_pacs.callers import Caller, Role


def caller() -> Caller:
    """The user by name, or by number where it has no name, as in a container."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = f"uid {os.getuid()}"
    return Caller(name=name, role=Role.COMMAND)
