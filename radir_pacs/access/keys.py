"""Secrets of one installation, each a file in the home folder that is made on first use."""

from __future__ import annotations

import secrets
from functools import cache
from pathlib import Path

from radir_pacs import durable
from radir_pacs.errors import SettingError

_KEY_BYTES = 32


@cache
def installation_key(path: Path, without: str) -> bytes:
    """The key in this file; the first of several processes that want it makes it.

    ``without``: what happens when another key takes its place, for the error. Raises SettingError for a file that was
    cut short: with an empty key everybody could compute what the key protects.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        durable.create(path, secrets.token_bytes(_KEY_BYTES), mode=0o600)
    key = path.read_bytes()
    if len(key) != _KEY_BYTES:
        raise SettingError(
            f"{path} does not hold a key of {_KEY_BYTES} bytes: put the right one back; without it a new one is made,"
            f" and {without}"
        )
    return key
