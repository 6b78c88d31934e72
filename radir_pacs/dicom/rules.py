"""Which images a site wants encoded, as data: the first rule decides whose conditions all hold.

The built-in rules stand in encoding_rules.toml, which also says what a rule may state.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from radir_pacs.dicom.body_parts import BodyPart, body_part_of
from radir_pacs.dicom.json_model import text, value
from radir_pacs.dicom.views import view_of
from radir_pacs.errors import SettingError
from radir_pacs.reasons import ReasonCode
from radir_pacs.table_files import tables_of, text_of
from radir_pacs.types import RADIOGRAPH_MODALITIES, InstanceHeader, View

_UNKNOWN = "unknown"
_LISTS: Mapping[str, frozenset[str] | None] = {
    "modality": frozenset({*RADIOGRAPH_MODALITIES, "CT"}),
    "sop_class": None,
    "body_part": frozenset(part.value for part in BodyPart),
    "view": frozenset({*(view.value.lower() for view in View), _UNKNOWN}),
}
_PATTERNS = ("kernel", "site")
_KNOWN = {*_LISTS, *_PATTERNS, "name", "encode", "reason", "because", "slice_thickness_mm"}
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the rules look at in one image; empty or None: it does not state that."""

    modality: str
    sop_class: str
    body_part: str
    view: str
    slice_thickness_mm: float | None
    kernel: str
    site: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """``encode``, or skip with ``reason`` and the words of ``because``. A condition that is absent always holds."""

    name: str
    encode: bool
    reason: ReasonCode = ReasonCode.EXCLUDED
    because: str = "excluded by a rule"
    lists: Mapping[str, frozenset[str]] = field(default_factory=dict)
    patterns: Mapping[str, re.Pattern[str]] = field(default_factory=dict)
    above_mm: float | None = None
    below_mm: float | None = None

    def holds(self, facts: Facts) -> bool:
        return (
            all(getattr(facts, key) in allowed for key, allowed in self.lists.items())
            and ("kernel" not in self.patterns or bool(self.patterns["kernel"].search(facts.kernel)))
            and ("site" not in self.patterns or any(self.patterns["site"].search(one) for one in facts.site))
            and self._is_as_thick(facts.slice_thickness_mm)
        )

    def _is_as_thick(self, thickness_mm: float | None) -> bool:
        if self.above_mm is None and self.below_mm is None:
            return True
        if thickness_mm is None:
            return False
        return (self.above_mm is None or thickness_mm > self.above_mm) and (
            self.below_mm is None or thickness_mm < self.below_mm
        )


NO_RULE = Rule(name="no-rule", encode=False, because="no rule covers it")


@dataclass(frozen=True, kw_only=True)
class Rules:
    rules: tuple[Rule, ...]

    def of(self, header: InstanceHeader) -> Rule:
        """The rule that decides on this image."""
        facts = facts_of(header)
        return next((rule for rule in self.rules if rule.holds(facts)), NO_RULE)


def facts_of(header: InstanceHeader) -> Facts:
    attributes = header.attributes
    view = view_of(attributes)
    thickness = value(attributes, "SliceThickness")
    return Facts(
        modality=header.modality or "",
        sop_class=header.sop_class_uid,
        body_part=body_part_of(header).value,
        view=view.value.lower() if view else _UNKNOWN,
        slice_thickness_mm=float(thickness) if isinstance(thickness, (int, float)) and thickness > 0 else None,
        kernel=text(attributes, "ConvolutionKernel"),
        site=tuple(said for key in ("InstitutionName", "StationName") if (said := text(attributes, key))),
    )


def rules_text(file: str) -> str:
    """The text of the rules in force: of the file that the setting names, or the built-in ones. Raises SettingError."""
    if not file:
        return files("radir_pacs.dicom").joinpath("encoding_rules.toml").read_text("utf-8")
    return text_of("rules_file", file)


@functools.lru_cache(maxsize=8)
def load_rules(file: str = "") -> Rules:
    """The rules of that file, or the built-in ones. Raises SettingError that names the rule and what is wrong."""
    tables = tables_of("rules_file", file, rules_text(file), "rule")
    rules = tuple(_rule(number, table) for number, table in enumerate(tables, 1))
    if len({rule.name for rule in rules}) != len(rules):
        raise SettingError("rules_file: two rules have the same name")
    return Rules(rules=rules)


def _rule(number: int, table: dict[str, Any]) -> Rule:
    name = table.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise SettingError(f"rules_file: rule {number} needs a name of small letters, digits and hyphens")
    wrong = functools.partial(_wrong, name)
    if unknown := sorted(set(table) - _KNOWN):
        raise wrong(f"{unknown[0]} is not a condition")
    if not isinstance(table.get("encode"), bool):
        raise wrong("encode must be true or false")
    lists = {key: _listed(wrong, key, allowed, table[key]) for key, allowed in _LISTS.items() if key in table}
    patterns = {key: _pattern(wrong, key, table[key]) for key in _PATTERNS if key in table}
    above_mm, below_mm = _thickness(wrong, table.get("slice_thickness_mm", {}))
    reason = str(table.get("reason", ReasonCode.EXCLUDED))
    if reason not in ReasonCode.__members__:
        raise wrong(f"{reason!r} is not a reason code: {', '.join(ReasonCode)}")
    because = table.get("because", f"excluded by the rule {name}")
    if not isinstance(because, str) or not 0 < len(because) <= 200:
        raise wrong("because must be a text of at most 200 characters")
    return Rule(
        name=name,
        encode=table["encode"],
        reason=ReasonCode(reason),
        because=because,
        lists=lists,
        patterns=patterns,
        above_mm=above_mm,
        below_mm=below_mm,
    )


def _wrong(name: str, what: str) -> SettingError:
    return SettingError(f"rules_file: rule {name}: {what}")


def _listed(wrong: Any, key: str, allowed: frozenset[str] | None, said: Any) -> frozenset[str]:
    if not isinstance(said, list) or not said or not all(isinstance(one, str) for one in said):
        raise wrong(f"{key} must be a list of texts")
    if allowed is not None and (other := sorted(set(said) - allowed)):
        raise wrong(f"{key}: {other[0]!r} is none of {', '.join(sorted(allowed))}")
    return frozenset(said)


def _pattern(wrong: Any, key: str, said: Any) -> re.Pattern[str]:
    try:
        return re.compile(said, re.IGNORECASE)
    except (re.error, TypeError):
        raise wrong(f"{key} is not a regular expression") from None


def _thickness(wrong: Any, said: Any) -> tuple[float | None, float | None]:
    if not isinstance(said, dict) or set(said) - {"above", "below"}:
        raise wrong("slice_thickness_mm must be {above = ..., below = ...}")
    for bound in said.values():
        if isinstance(bound, bool) or not isinstance(bound, (int, float)):
            raise wrong("slice_thickness_mm takes numbers")
    return said.get("above"), said.get("below")
