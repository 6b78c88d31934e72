"""Memory that was freed, given back to the system: the C library keeps much of it for what may be asked for next."""

from __future__ import annotations

import contextlib
import ctypes


def give_back() -> None:
    """For after something that took far more than stays. It takes milliseconds; without glibc it does nothing."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
