"""Which studies a caller may see. It is applied inside every search, so that ten asked are ten allowed (P7).

Three places decide by the same rule, and a test compares them: here, the columns of ``query.case_table``, and SQL
(``is_in_scope`` in schema.sql, ``of_scope`` in ``catalogue.qido_statements``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from enum import IntEnum
from typing import Any, Protocol, Self

DEPARTMENT = re.compile(r"[^\\,\x00-\x1f]{1,64}")  # LO (PS3.5 6.2); forms write lists with commas
SITE_LABEL = re.compile(r"[!-\[\]-~]([ -\[\]-~]{0,62}[!-\[\]-~])?")  # printable ASCII, without a backslash
# Modalities of what lies beside the images of a study; they neither open nor close it (PS3.3 C.7.3.1.1.1).
WITHOUT_IMAGES = frozenset({"SR", "PR", "KO", "DOC", "SEG", "AU"})


class Withheld(IntEnum):
    """From whom a patient's studies are withheld; each degree includes the one before."""

    FROM_NOBODY = 0
    FROM_RESEARCH = 1
    FROM_ALL = 2  # but those who administer


class Scoped(Protocol):
    """What of a study decides; `radir_pacs.types.CatalogueStudy` is one."""

    @property
    def study_uid(self) -> str: ...
    @property
    def sites(self) -> tuple[str, ...]: ...
    @property
    def departments(self) -> tuple[str, ...]: ...
    @property
    def modalities(self) -> tuple[str, ...]: ...
    @property
    def study_date(self) -> date | None: ...
    @property
    def withheld(self) -> int: ...


@dataclass(frozen=True, kw_only=True)
class Scope:
    """Empty fields restrict nothing. Dates inclusive; ``sees``: the highest degree of withholding that is still seen.

    A study is in scope of ``sites`` when all that sent to it are among them, of ``departments`` when it names one and
    all that it names are among them (0008,1040), of ``modalities`` when all its images are.
    opened: studies (UIDs) that are inside for a while, whatever else is said (ADR 0040).
    """

    sites: frozenset[str] = frozenset()
    departments: frozenset[str] = frozenset()
    modalities: frozenset[str] = frozenset()
    since: date | None = None
    until: date | None = None
    sees: Withheld = Withheld.FROM_ALL
    opened: frozenset[str] = frozenset()

    @property
    def restricts(self) -> bool:
        """Whether any study can be outside."""
        return self.without_opened() != _WHOLE

    @property
    def confines(self) -> bool:
        """Whether it leaves out a part of the archive, and not only patients who are withheld."""
        return self.seeing(Withheld.FROM_ALL).restricts

    def admits(self, study: Scoped) -> bool:
        """Whether the study is inside."""
        day = study.study_date
        return study.study_uid in self.opened or (
            self.admits_sites(study.sites)
            and self.admits_departments(study.departments)
            and self.admits_modalities(study.modalities)
            and (self.since is None or (day is not None and day >= self.since))
            and (self.until is None or (day is not None and day <= self.until))
            and study.withheld <= self.sees
        )

    def admits_sites(self, sites: Iterable[str]) -> bool:
        """A study of unknown origin is outside, and so is one to which a foreign site has added anything."""
        found = frozenset(sites)
        return not self.sites or bool(found and found <= self.sites)

    def admits_departments(self, departments: Iterable[str]) -> bool:
        """A study that names none is outside."""
        found = frozenset(departments)
        return not self.departments or bool(found and found <= self.departments)

    def admits_modalities(self, modalities: Iterable[str]) -> bool:
        found = frozenset(modalities)
        return not self.modalities or bool(found & self.modalities and found <= self.modalities | WITHOUT_IMAGES)

    @property
    def site(self) -> str | None:
        """The site in whose name its bearer stores: its only one."""
        return next(iter(self.sites)) if len(self.sites) == 1 else None

    def seeing(self, sees: Withheld) -> Self:
        return replace(self, sees=sees)

    def without_opened(self) -> Self:
        return replace(self, opened=frozenset()) if self.opened else self

    def as_json(self) -> dict[str, Any]:
        """As the catalogue keeps it; ``sees`` follows from the role, and ``opened`` is never given to anybody else."""
        return {
            name: value
            for name, value in {
                "sites": sorted(self.sites),
                "departments": sorted(self.departments),
                "modalities": sorted(self.modalities),
                "since": self.since.isoformat() if self.since else None,
                "until": self.until.isoformat() if self.until else None,
            }.items()
            if value
        }

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Self:
        return cls(
            sites=frozenset(kept.get("sites", ())),
            departments=frozenset(kept.get("departments", ())),
            modalities=frozenset(kept.get("modalities", ())),
            since=date.fromisoformat(kept["since"]) if "since" in kept else None,
            until=date.fromisoformat(kept["until"]) if "until" in kept else None,
        )


_WHOLE = Scope()
