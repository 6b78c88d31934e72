"""Settings as environment variables, for the processes that we start."""

from __future__ import annotations

from dataclasses import fields

from .settings import Settings

ENV_PREFIX = "RADIR_"


def to_environment(settings: Settings) -> dict[str, str]:
    """The environment that gives a child process these same settings, whatever files of secrets ours names."""
    shown = {}
    for f in fields(Settings):
        value = getattr(settings, f.name)
        shown[ENV_PREFIX + f.name.upper()] = ",".join(value) if isinstance(value, tuple) else str(value)
        if f.metadata["secret"]:
            shown[f"{ENV_PREFIX}{f.name.upper()}_FILE"] = ""
    return shown
