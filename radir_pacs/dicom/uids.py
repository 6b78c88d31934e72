"""Unique identifiers, PS3.5 chapter 9."""

from __future__ import annotations

import hashlib
import re
import uuid

_UID = re.compile(r"[0-9]+(?:\.[0-9]+)+\Z")


def is_valid_uid(text: str) -> bool:
    """Whether ``text`` is a UID by PS3.5 9.1, digits in dotted components, at most 64 characters.

    Components with leading zeros, which PS3.5 forbids, occur in the field and are accepted. A UID is safe in a path,
    a URL and a log line.
    """
    return len(text) <= 64 and _UID.match(text) is not None


def derived_uid(*names: str) -> str:
    """The same UID for the same names (PS3.5 B.2 form), so that generated objects keep their identity across runs."""
    digest = hashlib.sha256("\x1f".join(names).encode()).digest()
    return f"2.25.{uuid.UUID(bytes=digest[:16], version=4).int}"
