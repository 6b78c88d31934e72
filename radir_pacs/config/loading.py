"""The settings from all their sources; the only reader of the environment."""

from __future__ import annotations

import argparse
import os
import tomllib
from collections.abc import Mapping
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

from radir_pacs.errors import SettingError

from .declaring import expanded
from .environment import ENV_PREFIX
from .flags import flag_value, held_by
from .parsing import is_set, parsed
from .settings import Settings


def _toml(path: Path, *, required: bool) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        if required:
            raise SettingError(f"config: there is no file {path}") from None
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingError(f"config: {path} cannot be read: {error}") from None


def _in_environment(f: Field[Any], env: Mapping[str, str]) -> tuple[str, str] | None:
    """What the environment says of a setting, and which variable says it. Raises SettingError."""
    variable = ENV_PREFIX + f.name.upper()
    text, holder = env.get(variable), f"{variable}_FILE"
    if f.metadata["secret"] and (path := env.get(holder, "").strip()):
        if text and text.strip():  # an empty one is not set: compose files pass it on
            raise SettingError(f"{f.name}: both {variable} and {holder} are set; one of them must go")
        return held_by(f, path, holder), holder
    return (text, variable) if text is not None and is_set(f, text) else None


def load(args: argparse.Namespace | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings from flags, environment, TOML file and defaults. Raises SettingError naming the culprit.

    A secret may be in a file that a variable names, such as RADIR_API_TOKENS_FILE: containers are given secrets so.
    """
    env = os.environ if environ is None else environ
    flags = {f.name: flag_value(f, args) for f in fields(Settings)}
    home = flags["home"] or env.get(ENV_PREFIX + "HOME", "").strip() or str(Settings.home)
    named = getattr(args, "config", None) or env.get(ENV_PREFIX + "CONFIG")
    path = Path(named) if named else expanded(home) / "radir.toml"
    from_file = _toml(path, required=bool(named))
    known = {f.name: f for f in fields(Settings)}
    in_files = {f"{name}_file" for name, f in known.items() if f.metadata["secret"]}
    for name in from_file:
        if name not in known:
            raise SettingError(f"{name}: unknown setting in {path}")
    for name in env:
        setting = name.removeprefix(ENV_PREFIX).lower()
        if (
            name.startswith(ENV_PREFIX)
            and setting not in known
            and setting not in in_files
            and setting != "config"
            and not setting.startswith(("test_", "demo_"))
        ):
            raise SettingError(f"{name}: unknown setting in the environment")
    values: dict[str, Any] = {}
    for name, f in known.items():
        if flags[name] is not None:
            values[name] = parsed(f, flags[name], "the command line")
        elif (said := _in_environment(f, env)) is not None:
            values[name] = parsed(f, *said)
        elif name in from_file:
            values[name] = parsed(f, from_file[name], str(path))
    return Settings(**values)
