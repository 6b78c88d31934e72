"""``python -m radir_pacs.encode.check FOLDER…``: whether these bundles can be served, without serving them.

In a process of its own, since loading one brings torch, which a supervisor has no use for.
"""

from __future__ import annotations

import sys
from pathlib import Path

from radir_pacs.encode.bundle import Bundle
from radir_pacs.errors import BundleRefused


def main(folders: list[str]) -> int:
    """Exit status 1, with the reason in one line on standard error, for the first that is refused."""
    try:
        for folder in folders:
            Bundle.load(Path(folder))
    except BundleRefused as error:
        print(f"{folder}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
