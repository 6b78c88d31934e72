"""What a new token or account may be called and may see, as a person writes it in a command or a form."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date

from radir_pacs.callers import Role
from radir_pacs.catalogue import OF_TOKENS, Rights
from radir_pacs.errors import BadInput
from radir_pacs.scopes import DEPARTMENT, SITE_LABEL, Scope

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._@-]{0,63}")
_TAKEN = frozenset({"settings", "this machine", "link", "web"})  # callers that the trail knows without a token


def check_name(name: str) -> None:
    """Raise BadInput for a name that the audit trail could take for another kind of caller, or that is none."""
    if name.lower() in _TAKEN:
        raise BadInput(f"{name!r} names another kind of caller in the audit trail: choose another name")
    if not _NAME.fullmatch(name):
        raise BadInput("a name has at most 64 letters, digits, spaces and . _ @ -")


def rights(
    role: str,
    *,
    sites: Iterable[str] = (),
    departments: Iterable[str] = (),
    modalities: Iterable[str] = (),
    since: date | None = None,
    until: date | None = None,
    names: bool = False,
) -> Rights:
    """Raises BadInput for what does not go together."""
    if role not in OF_TOKENS:
        raise BadInput(f"a role is one of {', '.join(OF_TOKENS)}")
    labels = frozenset(site.strip() for site in sites)
    if not all(SITE_LABEL.fullmatch(site) for site in labels):
        raise BadInput("a site is an AE title or the label of a peer: at most 64 characters without a backslash")
    parts = frozenset(department.strip() for department in departments)
    if not all(DEPARTMENT.fullmatch(part) for part in parts):
        raise BadInput("a department is as images name it: at most 64 characters without a comma or a backslash")
    kinds = frozenset(modality.strip().upper() for modality in modalities)
    if not all(re.fullmatch(r"[A-Z0-9_ ]{1,16}", kind) for kind in kinds):
        raise BadInput("a modality is a code such as CT, DX or CR")
    if since and until and since > until:
        raise BadInput("the first day is after the last")
    scope = Scope(sites=labels, departments=parts, modalities=kinds, since=since, until=until)
    if scope.restricts and role == Role.ADMINISTRATOR:
        raise BadInput("an administrator sees every study: choose another role, or leave the restrictions out")
    if names and role == Role.RESEARCHER:
        raise BadInput("a researcher sees pseudonyms only: choose another role, or leave names out")
    return Rights(role=Role(role), scope=scope, names=names)
