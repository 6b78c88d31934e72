"""Writes docs/reference/ from the code. `make reference` runs it; a test keeps it true."""

from __future__ import annotations

import argparse
import inspect
import os
import re
import sys
from dataclasses import fields
from pathlib import Path
from string import Template
from typing import Any
from unittest.mock import Mock

import yaml
from pydicom.uid import UID, UID_dictionary
from pynetdicom import PYNETDICOM_IMPLEMENTATION_UID, PYNETDICOM_IMPLEMENTATION_VERSION

from radir_pacs.anatomy import PRIVATE_SCHEME
from radir_pacs.callers import AuditEvent, Role
from radir_pacs.cli import parser
from radir_pacs.config import ENV_PREFIX, Settings
from radir_pacs.delivery.dicom_json import PRIVATE_CREATOR, PRIVATE_GROUP, PRIVATE_TAGS
from radir_pacs.dicom.transfer_syntaxes import DECODABLE, NATIVE, NO_CODEC
from radir_pacs.intake.instances import CANNOT_UNDERSTAND, CONFLICT, MISMATCH, OUT_OF_RESOURCES, SUCCESS
from radir_pacs.listener.association_request import APPLICATION_CONTEXT
from radir_pacs.listener.bounds import LEAST_BYTES_PER_S, MAX_PDU_BYTES
from radir_pacs.listener.c_store import INVALID_INSTANCE, SOP_CLASS_NOT_SUPPORTED
from radir_pacs.listener.contexts import is_storage
from radir_pacs.tls_door import CIPHERS
from radir_pacs.web.app import create_app
from radir_pacs.web.route_rights import RIGHTS

FOLDER = Path(__file__).parent / "reference"
RULES = Path(__file__).parents[1] / "deploy" / "prometheus" / "radir-alerts.yml"
_NOTE = "Made by `make reference` from the code.\n"


def settings_page() -> str:
    """Every setting with its flag, environment variable, default and meaning."""
    lines = [
        "# Settings",
        "",
        _NOTE,
        "A value comes from the first of these that has one: the flag, the environment variable, the TOML file",
        "(`--config`, else `radir.toml` in the home folder, with the name as key), the default. An empty variable of a",
        "number or a folder counts as not set. A wrong value stops the start with a message that names it.",
        "`RADIR_CONFIG` names the file as `--config` does. `api_tokens`, `s3_secret_access_key`, `pull_authorization`,",
        "and `database_url` and `broker_url` with a password, are refused as flags: `--NAME-file FILE` (as",
        "`--api-tokens-file`) or `RADIR_NAME_FILE` in the environment names a file that holds the value.",
        "It must hold one; the variable itself is then empty or not set, since two values are an error.",
        "",
        "| flag | environment | default | meaning |",
        "|---|---|---|---|",
    ]
    for f in fields(Settings):
        default = ", ".join(f.default) if isinstance(f.default, tuple) else str(f.default)
        choices = f" One of {', '.join(f.metadata['choices'])}." if f.metadata["choices"] else ""
        flag = "--" + f.name.replace("_", "-")
        shown = f"`{default}`" if default else ""
        lines.append(f"| `{flag}` | `{ENV_PREFIX}{f.name.upper()}` | {shown} | {f.metadata['doc']}{choices} |")
    return "\n".join(lines) + "\n"


def commands_page() -> str:
    """Every command as its own help tells it, without the settings that all of them take."""
    os.environ["COLUMNS"] = "100"
    root = parser()
    lines = [
        "# Commands",
        "",
        _NOTE,
        "Commands that need an installation take every [setting](settings.md) as a flag (`--help-settings`).",
        "",
    ]
    (commands,) = [action for action in root._actions if isinstance(action, argparse._SubParsersAction)]
    helps = {choice.dest: choice.help for choice in commands._choices_actions}
    for name, command in sorted(commands.choices.items()):
        lines += [f"## radir {name}", "", f"{helps.get(name, '')}", ""]
        rows = list(_rows(command))
        if rows:
            lines += ["| argument | meaning |", "|---|---|", *rows, ""]
    return "\n".join(lines)


def _rows(command: argparse.ArgumentParser) -> list[str]:
    rows = []
    for action in command._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help for choice in action._choices_actions}
            for name, sub in sorted(action.choices.items()):
                rows.append(f"| **{name}** | {helps.get(name, '')} |")
                rows += _rows(sub)
        elif action.dest not in ("help", "help_settings") and not _is_setting(action):
            shown = ", ".join(action.option_strings) or action.metavar or action.dest
            meaning = (action.help or "").replace("%(default)s", str(action.default)).replace("|", "\\|")
            rows.append(f"| `{shown}` | {meaning} |")
    return rows


def _is_setting(action: argparse.Action) -> bool:
    """A setting, or the file of them; ``radir train`` has a --config of its own."""
    return action.dest.startswith("setting_") or (action.dest == "config" and action.metavar == "FILE")


_LETTERS = {Role.ADMINISTRATOR: "a", Role.RADIOLOGIST: "r", Role.RESEARCHER: "x", Role.SERVICE: "s"}


def routes_page() -> str:
    """Every route with its methods, the roles that reach it and the first line of what it says of itself."""
    anything: Any = Mock()
    app = create_app(Settings(), anything, anything, anything)
    lines = [
        "# Routes",
        "",
        _NOTE,
        "Roles are those of [tokens](../how-to/control-access.md): (a)dministrator, (r)adiologist, researcher (x),"
        " (s)ervice; *open* needs none.",
        "",
        "| route | methods | roles | |",
        "|---|---|---|---|",
    ]
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule):
        if rule.endpoint.endswith("static"):
            continue
        methods = ", ".join(sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})) or "OPTIONS"
        meaning = ((app.view_functions[rule.endpoint].__doc__ or "").strip().splitlines() or [""])[0]
        path = rule.rule.replace("<", "{").replace(">", "}")
        roles = " ".join(sorted(_LETTERS[role] for role in RIGHTS.get(rule.endpoint, ()))) or "open"
        lines.append(f"| `{path}` | {methods} | {roles} | {meaning} |")
    app.extensions["radir"].decoder.close()
    return "\n".join(lines) + "\n"


_STATUSES = (
    (SUCCESS, "Success", "the bytes are on the disk and the row is committed"),
    (OUT_OF_RESOURCES, "Refused: out of resources", "no room, too large, or storing failed"),
    (MISMATCH, "Error: data set does not match SOP class", "it is not the instance that was announced"),
    (CANNOT_UNDERSTAND, "Error: cannot understand", "the reason is in Error Comment (0000,0902)"),
    (CONFLICT, "Error: cannot understand", "stored already with other pixels, in another series, or from another site"),
    (NO_CODEC, "Error: cannot understand", "no codec here reads the pixels"),
    (INVALID_INSTANCE, "Invalid object instance", "the Affected SOP Instance UID is no UID"),
    (SOP_CLASS_NOT_SUPPORTED, "SOP class not supported", "the Affected SOP Class UID is no UID"),
)
_CHARACTER_SETS = ", ".join(
    f"ISO_IR {number}" for number in (6, 100, 101, 109, 110, 144, 127, 126, 138, 148, 203, 13, 166, 192)
)


def conformance_page() -> str:
    """The DICOM conformance statement (PS3.2 Annex N): prose of the template, lists and numbers of the code."""
    storage = sorted(
        (str(UID(uid).name), uid)
        for uid, (_, kind, *_rest) in UID_dictionary.items()
        if kind == "SOP Class" and is_storage(uid) and "Retired" not in UID(uid).name
    )
    syntaxes = [f"| {UID(uid).name} | {uid} | yes |" for uid in (*sorted(NATIVE), *sorted(DECODABLE - NATIVE))]
    template = Template((Path(__file__).parent / "conformance.template.md").read_text("utf-8"))
    return template.substitute(
        {f.name: getattr(Settings(), f.name) for f in fields(Settings)},
        note=_NOTE.strip(),
        application_context=APPLICATION_CONTEXT,
        implementation=f"{PYNETDICOM_IMPLEMENTATION_UID}, {PYNETDICOM_IMPLEMENTATION_VERSION}",
        pdu_bytes=MAX_PDU_BYTES,
        least_bytes_per_s=LEAST_BYTES_PER_S,
        syntaxes="\n".join(syntaxes),
        statuses="\n".join(f"| {code:04X} | {name} | {why} |" for code, name, why in _STATUSES),
        storage_count=len(storage),
        storage="\n".join(f"| {name} | {uid} |" for name, uid in storage),
        scheme=PRIVATE_SCHEME,
        group=PRIVATE_GROUP,
        creator=PRIVATE_CREATOR,
        private="\n".join(f"| {tag} | {name.replace('_', ' ')} |" for name, tag in PRIVATE_TAGS.items()),
        character_sets=_CHARACTER_SETS,
        suites="\n".join(f"- {suite}" for suite in CIPHERS.split(":")),
        events="\n".join(f"| {name} | {said} |" for name, said in _events()),
    )


def _events() -> list[tuple[str, str]]:
    """Each audit event with the comment beside it; without one it is like the event before."""
    found = []
    said = ""
    for name, _, comment in re.findall(r'^    (\w+) = "\w+"(  # (.*))?$', inspect.getsource(AuditEvent), re.MULTILINE):
        said = comment or said
        found.append((name, said))
    return found


def alarms_page() -> str:
    """Each alarm of deploy/prometheus: when it rises, what it means, what to do."""
    (group,) = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    lines = [
        "# Alarms",
        "",
        "Made by `make reference` from `deploy/prometheus/radir-alerts.yml`. What they look at: [the figures]"
        "(../how-to/watch.md#figures).",
        "",
        "| alarm | means | what to do | when |",
        "|---|---|---|---|",
    ]
    for rule in sorted(group["rules"], key=lambda rule: rule["labels"]["severity"]):
        said = rule["annotations"]
        means = re.sub(r"\{\{ \$labels\.(\w+) \}\}", r"*\1*", said["summary"])
        when = "`" + rule["expr"].replace("|", "\\|") + "`" + (f" for {rule['for']}" if "for" in rule else "")
        severity = rule["labels"]["severity"]
        lines.append(f"| `{rule['alert']}` ({severity}) | {means} | {said['action'].strip()} | {when} |")
    return "\n".join(lines) + "\n"


PAGES = {
    "alarms.md": alarms_page,
    "settings.md": settings_page,
    "commands.md": commands_page,
    "routes.md": routes_page,
    "conformance.md": conformance_page,
}


def main() -> int:
    FOLDER.mkdir(exist_ok=True)
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
