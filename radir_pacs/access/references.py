"""Anonymous references: a name for a case that says nothing about a patient and stays the same within one installation.

It is a keyed hash of the Study Instance UID. Only the holder of the installation's key can find the
study again; each such look-up is noted in ``logs/audit.log``.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from radir_pacs import durable
from radir_pacs.catalogue import Studies
from radir_pacs.config import Settings
from radir_pacs.errors import BadInput, SettingError

_KEY_BYTES = 32
_REFERENCE = re.compile(r"\bSC-[0-9A-F]{5}-[0-9A-F]{5}\b")


def reference(study_uid: str, settings: Settings) -> str:
    """The reference of a study."""
    return _hashed(study_uid, _key(settings.home / "reference.key"))


def reference_in(text: str) -> str | None:
    """The reference in what somebody pasted, perhaps with the region and score that were copied with it."""
    found = _REFERENCE.search(text.upper())
    return found[0] if found else None


def resolve(text: str, studies: Studies, settings: Settings, *, by: str) -> tuple[str, ...]:
    """The studies that the reference in ``text`` means: one, none if it was deleted, very rarely two.

    by: who asks, for the audit log. Raises BadInput when there is no reference in ``text``.
    """
    wanted = reference_in(text)
    if wanted is None:
        raise BadInput("this is not a reference of the form SC-12345-6789A")
    key = _key(settings.home / "reference.key")
    found = tuple(uid for uid in studies.uids() if _hashed(uid, key) == wanted)
    _note(settings, {"reference": wanted, "by": by, "found": len(found)})
    return found


def _hashed(study_uid: str, key: bytes) -> str:
    digest = hashlib.blake2b(study_uid.encode(), key=key, digest_size=5).hexdigest().upper()
    return f"SC-{digest[:5]}-{digest[5:]}"


@cache
def _key(path: Path) -> bytes:
    """The installation's secret, created on first use; the first of several processes wins.

    Raises SettingError for a file that was cut short: with an empty key everybody could compute the references.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        durable.create(path, secrets.token_bytes(_KEY_BYTES), mode=0o600)
    key = path.read_bytes()
    if len(key) != _KEY_BYTES:
        raise SettingError(
            f"{path} does not hold a key of {_KEY_BYTES} bytes: put the right one back; without it a new one is made,"
            " and no reference of before is found again"
        )
    return key


def _note(settings: Settings, what: dict[str, object]) -> None:
    """Record the look-up before anybody learns the answer; one that cannot be recorded is not answered (OSError)."""
    path = settings.home / "logs" / "audit.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps({"at": datetime.now(UTC).isoformat(timespec="seconds"), "event": "reference resolved", **what})
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, f"{line}\n".encode())  # one write: lines of several processes do not mix
    finally:
        os.close(file)
