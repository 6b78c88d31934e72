"""Settings on the command line: one flag each, and files for secrets."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Collection, Sequence
from dataclasses import Field, fields
from pathlib import Path
from typing import Any, NoReturn

from radir_pacs.errors import SettingError

from .environment import ENV_PREFIX
from .parser import Parser
from .settings import Settings

_SETTINGS_TITLE = "settings (each also RADIR_NAME in the environment, name in radir.toml)"
_SHOWN = frozenset({"home"})  # settings that every --help shows


def add_flags(parser: argparse.ArgumentParser, only: Collection[str] = ()) -> None:
    """Give the parser one flag per setting, and ``--config``; ``only``: the settings that the command uses, where it
    uses few.

    ``--help`` shows few of them, so that the command's own flags stand out; ``--help-settings`` shows all. Every user
    of the machine can read a flag in the process list, so a secret is given by a file.
    """
    group = parser.add_argument_group(_SETTINGS_TITLE)
    _add_settings(group, only, shown=only or _SHOWN)
    if not only:
        add_help_settings(group)


def add_help_settings(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--help-settings", action=_HelpSettings, help="show all settings and exit")


def _add_settings(group: argparse._ActionsContainer, only: Collection[str], shown: Collection[str]) -> None:
    group.add_argument("--config", metavar="FILE", help="TOML file of settings", default=None)
    for f in fields(Settings):
        if only and f.name not in only:
            continue
        flag = "--" + f.name.replace("_", "-")
        group.add_argument(
            flag,
            dest="setting_" + f.name,
            default=None,
            metavar=str(f.type).split("[")[0].upper(),
            help=f.metadata["doc"] if f.name in shown else argparse.SUPPRESS,
        )
        if f.metadata["secret"]:
            told = f"File that holds {f.name}, which is refused as a flag where it holds a secret."
            group.add_argument(
                flag + "-file",
                dest=f"setting_{f.name}_file",
                default=None,
                metavar="FILE",
                help=told if f.name in shown else argparse.SUPPRESS,
            )


class _HelpSettings(argparse.Action):
    """``--help-settings``: every setting, which would bury the command's own flags in ``--help``."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *rest: object) -> NoReturn:
        usage = f"{parser.prog} [--SETTING VALUE ...]"
        settings = Parser(prog=parser.prog, usage=usage, add_help=False)
        _add_settings(settings.add_argument_group(_SETTINGS_TITLE), (), {f.name for f in fields(Settings)})
        settings.print_help()
        parser.exit()


def flag_value(f: Field[Any], args: argparse.Namespace | None) -> str | None:
    """The value of a setting on the command line. Raises SettingError for a secret: everybody could read it there."""
    flag = f.name.replace("_", "-")
    said: str | None = getattr(args, "setting_" + f.name, None)
    if said is not None and f.metadata["secret"] and _shows_secret(f.name, said):
        raise SettingError(
            f"{f.name}: as a flag, every user of this machine can read it; give it by --{flag}-file FILE,"
            f" {ENV_PREFIX}{f.name.upper()} or radir.toml"
        )
    path: str | None = getattr(args, f"setting_{f.name}_file", None)
    if path is None:
        return said
    if said:
        raise SettingError(f"{f.name}: both --{flag} and --{flag}-file are given; one of them must go")
    return held_by(f, path, f"--{flag}-file")


def held_by(f: Field[Any], path: str, source: str) -> str:
    """The secret in the file that ``source``, a flag or a variable, names. Raises SettingError, also for an empty file.

    A message shows the path only where it exists: what does not may be the secret itself, given in the wrong place.
    """
    exists = os.path.exists(path)  # noqa: PTH110 - Path.exists raises where the name is too long
    file = f"{f.name}: the file{f' {path}' if exists else ''} that {source} names"
    try:
        held = Path(path).read_text("utf-8-sig").strip()
    except OSError as error:
        raise SettingError(f"{file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingError(f"{file} cannot be read: not UTF-8") from None
    if not held:  # not rendered yet, perhaps: as a value it would start another database
        raise SettingError(f"{file} is empty")
    return held


def _shows_secret(name: str, text: str) -> bool:
    """URLs are secret because of the password they may hold."""
    return (
        not name.endswith("_url")
        or "password" in text.lower()
        or bool(re.search(r"://([^/@]*:[^/@]*|[^@?]*:[^?]*)@", text))
    )
