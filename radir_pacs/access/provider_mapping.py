"""What the groups of a provider may do here: a TOML file of ``[[allow]]`` tables, of which the first that fits counts.

Whoever is in none of the groups may do nothing.

    [[allow]]
    group = "radiology-north"
    role = "radiologist"
    sites = ["North"]
    departments = ["Radiology"]
    modalities = ["CT", "MR"]
    names = true
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from typing import Any

from radir_pacs.callers import Role
from radir_pacs.catalogue import OF_ACCOUNTS, Rights
from radir_pacs.errors import SettingError
from radir_pacs.scopes import DEPARTMENT, SITE_LABEL, Scope
from radir_pacs.table_files import tables_of, text_of

_KEYS = frozenset({"group", "role", "sites", "departments", "modalities", "since", "until", "names"})


@dataclass(frozen=True, kw_only=True)
class Allowed:
    """What one group may do."""

    group: str
    rights: Rights


def load(file: str) -> tuple[Allowed, ...]:
    """Raises SettingError that names the table and what is wrong."""
    tables = tables_of("oidc_mapping", file, text_of("oidc_mapping", file), "allow")
    return tuple(_allowed(number, table) for number, table in enumerate(tables, 1))


def rights_of(groups: Collection[str], allowed: tuple[Allowed, ...]) -> Rights | None:
    """Of a person in these groups; None: no right at all."""
    return next((one.rights for one in allowed if one.group in groups), None)


def _allowed(number: int, table: dict[str, Any]) -> Allowed:
    def wrong(what: str) -> SettingError:
        return SettingError(f"oidc_mapping: table {number}: {what}")

    if not set(table) <= _KEYS:
        raise wrong(f"a key is none of {', '.join(sorted(_KEYS))}")
    group, role = table.get("group"), table.get("role")
    if not isinstance(group, str) or not group:
        raise wrong("group is missing")
    if role not in {str(one) for one in OF_ACCOUNTS}:
        raise wrong(f"role is none of {', '.join(OF_ACCOUNTS)}")
    lists = {key: table.get(key, []) for key in ("sites", "modalities")}
    departments = table.get("departments", [])
    if not isinstance(departments, list) or not all(
        isinstance(one, str) and DEPARTMENT.fullmatch(one) for one in departments
    ):
        raise wrong("departments is not a list of names")
    for key, values in lists.items():
        if not isinstance(values, list) or not all(
            isinstance(one, str) and SITE_LABEL.fullmatch(one) for one in values
        ):
            raise wrong(f"{key} is not a list of labels")
    days = {key: table.get(key) for key in ("since", "until")}
    if not all(one is None or type(one) is date for one in days.values()):
        raise wrong("since and until are days, such as 2024-12-31")
    names = table.get("names", False)
    if not isinstance(names, bool) or (names and role == Role.RESEARCHER):
        raise wrong("names is true or false, and never true for a researcher")
    scope = Scope(
        sites=frozenset(lists["sites"]),
        departments=frozenset(departments),
        modalities=frozenset(one.upper() for one in lists["modalities"]),
        since=days["since"],
        until=days["until"],
    )
    if scope.restricts and role == Role.ADMINISTRATOR:
        raise wrong("an administrator sees every study")
    return Allowed(group=group, rights=Rights(role=Role(role), scope=scope, names=names))
