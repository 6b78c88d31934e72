"""On how many examples a property is tried: on all of them in `make test`, on a fifth in `make unit`."""

from __future__ import annotations

from hypothesis import settings

USUAL = 100  # hypothesis's own number, of which a profile asks for more or fewer


def examples(count: int) -> int:
    """``count``, or its share under a profile that asks for fewer than the usual number."""
    profile = settings.default
    assert profile is not None
    return max(1, count * profile.max_examples // USUAL)
