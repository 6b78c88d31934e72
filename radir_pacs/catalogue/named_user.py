"""``python named_user.py PROGRAM ARGUMENT…``: run a program under a user id that has a name.

Postgres' initdb looks up the name of its user and refuses an id without an entry in /etc/passwd, as containers often
have. In a user namespace of its own the program sees the id of some named user; its files belong to the real one. Linux
only. It is run as a file, so it uses only the standard library. Exit status 125: the system allows no user namespace.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import sys
from pathlib import Path
from typing import NoReturn

NOT_ALLOWED = 125
_CLONE_NEWUSER = 0x10000000


def has_name() -> bool:
    """Whether the user id of this process has a name."""
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError:
        return False
    return True


def main(command: list[str]) -> NoReturn:
    """Becomes ``command``, or ends with NOT_ALLOWED."""
    uid, gid = os.geteuid(), os.getegid()
    named = next((entry for entry in pwd.getpwall() if entry.pw_uid != 0), None)  # Postgres refuses root
    if named is None or ctypes.CDLL(None).unshare(_CLONE_NEWUSER) != 0:
        sys.exit(NOT_ALLOWED)
    try:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{named.pw_uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{named.pw_gid} {gid} 1")
    except OSError:
        sys.exit(NOT_ALLOWED)
    os.execv(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
