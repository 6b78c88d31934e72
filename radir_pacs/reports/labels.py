"""Label tables of public collections, derived from findings by the rules in ``labels/*.toml``.

A rule: ``any`` lists concepts that set the label ("=x" leaves out x's descendants, "x@region" asks for a place at or
below the region), ``but`` concepts that do not count, ``least`` the weakest certainty that counts (default
the table's own, or "possible"); ``none`` sets the label when no such finding is present and the report denies
something: a silent report does not state that anything is normal.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from radir_pacs import anatomy
from radir_pacs.errors import BadInput, SettingError
from radir_pacs.reports.findings import Certainty, Finding, Polarity
from radir_pacs.reports.lexicon import Lexicon, load

FOLDER = Path(__file__).parent / "labels"
_STRENGTH = {Certainty.POSSIBLE: 0, Certainty.PROBABLE: 1, Certainty.CERTAIN: 2}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Wanted:
    concepts: frozenset[str]
    regions: frozenset[str] | None  # None: anywhere

    def meets(self, finding: Finding) -> bool:
        return finding.concept in self.concepts and (
            self.regions is None or any(region in self.regions for region in finding.regions)
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """One label's rule."""

    wanted: tuple[_Wanted, ...]
    but: frozenset[str]
    least: int
    negated: bool

    @property
    def concepts(self) -> frozenset[str]:
        """The concepts that the rule looks for."""
        return frozenset(key for wanted in self.wanted for key in wanted.concepts) - self.but

    def holds(self, findings: Sequence[Finding]) -> bool:
        found = any(
            finding.asserted
            and _STRENGTH.get(finding.certainty, -1) >= self.least
            and finding.concept not in self.but
            and any(wanted.meets(finding) for wanted in self.wanted)
            for finding in findings
        )
        return not found and any(map(_denies, findings)) if self.negated else found


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelSet:
    """A label table's columns in order, each with its rule."""

    name: str
    id_column: str
    rules: Mapping[str, Rule]

    def of(self, findings: Iterable[Finding]) -> dict[str, int]:
        """0 or 1 for every label, for a report with text; one without text (``is_blank``) has no labels."""
        findings = tuple(findings)
        return {label: int(rule.holds(findings)) for label, rule in self.rules.items()}


def label_sets() -> tuple[str, ...]:
    """The names of all label sets."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


def described(name: str) -> str:
    """A label set's description, in one line."""
    return str(tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))["description"])


@lru_cache(maxsize=8)
def label_set(name: str, lexicon: Lexicon | None = None) -> LabelSet:
    """The label set of this name; BadInput if there is none, SettingError if its file names unknown concepts."""
    lexicon = lexicon or load()
    path = FOLDER / f"{name}.toml"
    if name not in label_sets():
        raise BadInput(f"unknown label set {name!r}; there are {', '.join(label_sets())}")
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    suffix, least = table.get("suffix", ""), table.get("least", "possible")
    return LabelSet(
        name=name,
        id_column=table["id_column"],
        rules={label + suffix: _rule(label, {"least": least} | row, lexicon) for label, row in table["labels"].items()},
    )


def _denies(finding: Finding) -> bool:
    """A normal statement, or a finding said to be absent now."""
    asked = (Certainty.HISTORICAL, Certainty.HYPOTHETICAL)
    return finding.polarity is Polarity.ABSENT and finding.certainty not in asked


def _rule(label: str, row: Mapping[str, object], lexicon: Lexicon) -> Rule:
    negated = "none" in row
    wanted = row["none" if negated else "any"]
    but = row.get("but", [])
    if not isinstance(wanted, list) or not isinstance(but, list):
        raise SettingError(f"label {label!r}: 'any', 'none' and 'but' are lists")
    return Rule(
        wanted=tuple(_wanted(str(text), lexicon) for text in wanted),
        but=frozenset(key for text in but for key in _wanted(str(text), lexicon).concepts),
        least=_STRENGTH[Certainty(str(row.get("least", "possible")))],
        negated=negated,
    )


def _wanted(text: str, lexicon: Lexicon) -> _Wanted:
    name, _, region = text.partition("@")
    exact, name = name.startswith("="), name.removeprefix("=")
    if name not in lexicon.concepts:
        raise SettingError(f"a label rule names the unknown concept {name!r}")
    concepts = {name} if exact else {key for key, above in lexicon.ancestors.items() if name in above}
    regions = frozenset({region, *(below.key for below in anatomy.descendants(region))}) if region else None
    return _Wanted(concepts=frozenset(concepts), regions=regions)
