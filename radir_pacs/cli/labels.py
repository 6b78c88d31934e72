"""Notes on names of sites and departments that no study has: misspelt, or yet to come."""

from __future__ import annotations

from collections.abc import Iterable

from radir_pacs.catalogue import Catalogue
from radir_pacs.cli.output import errors
from radir_pacs.config import Settings
from radir_pacs.printable import printable

_SHOWN = 20


def note_unknown(
    catalogue: Catalogue, settings: Settings, *, sites: Iterable[str] = (), departments: Iterable[str] = ()
) -> None:
    """Say on standard error which of them are nowhere, and which there are."""
    if sites:
        pulled = (settings.pull_site,) if settings.pull_url else ()
        here = {*catalogue.studies.sites(), *settings.calling_ae_titles, *pulled}
        _note("nobody is labelled", "sites", sites, here)
    if departments:
        _note("no study names", "departments", departments, set(catalogue.studies.departments()))


def _note(what: str, of: str, given: Iterable[str], here: set[str]) -> None:
    shown = ", ".join(map(printable, sorted(here)[:_SHOWN])) + (" …" if len(here) > _SHOWN else "")
    for name in sorted(set(given) - here):
        errors.print(f"{what} {name!r}; {of} here: {shown or 'none yet'}", markup=False, soft_wrap=True)
