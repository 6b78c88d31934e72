"""Who runs a command, for the audit trail and the history of models."""

from __future__ import annotations

import os
import pwd

from radir_pacs.callers import Caller, Role


def caller() -> Caller:
    """The user by name, or by number where it has no name, as in a container."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name  # not what LOGNAME says
    except KeyError:
        name = f"uid {os.getuid()}"
    return Caller(name=name, role=Role.COMMAND)
