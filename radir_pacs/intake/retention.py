"""How long pixels are kept, as data: of each picture the first rule decides whose conditions all hold.

Without a rule a picture is kept. What the rules may state is said by ``KEEP_ALL``, which `radir retention show` prints.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from radir_pacs.catalogue import Evictable
from radir_pacs.config import Settings
from radir_pacs.errors import SettingError
from radir_pacs.scopes import SITE_LABEL
from radir_pacs.table_files import tables_of, text_of

from .sources import load_sources

KEEP_ALL = """\
# How long pixels are kept. Of each picture the first rule decides whose conditions all hold; without one it is kept.
#
# Conditions, each one of a list: site (labels of senders: all that sent to the study must be named), modality,
# sop_class (UIDs).
# What is said of such a picture, one of these:
#   keep = true            it stays, unless files have to make room (evict_files)
#   days = 30              it goes so many days after the last image of its study came
#   until_encoded = true   it goes once every model that serves or is in shadow has encoded its study. A model with
#                          other weights that comes later needs it from the PACS again, as does a full retraining
# needs_source = false     it goes even where the PACS does not say that it has it; then nobody may have it any more

[[rule]]
name = "keep"
keep = true
"""
_DEEDS = ("keep", "days", "until_encoded")
_LISTS = ("site", "modality", "sop_class")
_KNOWN = {*_DEEDS, *_LISTS, "name", "needs_source"}
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_MOST_DAYS = 36_500


@dataclass(frozen=True, kw_only=True)
class RetentionRule:
    """``days`` after the study's last image, or once all models have it; neither: kept. None of a list: any will do."""

    name: str
    days: float | None = None
    until_encoded: bool = False
    needs_source: bool = True
    site: frozenset[str] | None = None
    modality: frozenset[str] | None = None
    sop_class: frozenset[str] | None = None

    @property
    def removes(self) -> bool:
        return self.days is not None or self.until_encoded

    def holds(self, sites: Sequence[str], modality: str, sop_class: str) -> bool:
        return (
            (self.site is None or (bool(sites) and self.site.issuperset(sites)))
            and (self.modality is None or modality in self.modality)
            and (self.sop_class is None or sop_class in self.sop_class)
        )

    def is_due(self, study: Evictable, now: datetime) -> bool:
        """Whether such a picture of the study may go now."""
        if self.days is not None:
            return now - study.last_instance_at >= timedelta(days=self.days)
        return self.until_encoded and study.is_encoded


NO_RULE = RetentionRule(name="no-rule")


@dataclass(frozen=True, kw_only=True)
class RetentionRules:
    rules: tuple[RetentionRule, ...] = ()
    sha256: str = ""  # of their text

    @property
    def removes(self) -> bool:
        """Whether any of them ends anything."""
        return any(rule.removes for rule in self.rules)

    @property
    def needs_source(self) -> bool:
        return any(rule.removes and rule.needs_source for rule in self.rules)

    def newest(self, now: datetime) -> datetime:
        """A study whose last image came later has nothing that is due."""
        days = [rule.days or 0.0 for rule in self.rules if rule.removes]
        return now - timedelta(days=min(days, default=0.0))

    def of(self, sites: Sequence[str], modality: str, sop_class: str) -> RetentionRule:
        """The rule that decides on such a picture."""
        return next((rule for rule in self.rules if rule.holds(sites, modality, sop_class)), NO_RULE)

    def by_rule(self, study: Evictable) -> list[tuple[RetentionRule, Evictable]]:
        """The study with those of its pictures alone on which a rule decides, for each such rule."""
        found: dict[RetentionRule, list[int]] = defaultdict(list)
        for number, (modality, sop_class) in enumerate(zip(study.modalities, study.sop_classes, strict=True)):
            found[self.of(study.sites, modality, sop_class)].append(number)
        return [(rule, only(study, numbers)) for rule, numbers in found.items()]


KEEPS_ALL = RetentionRules()


def only(study: Evictable, numbers: Sequence[int]) -> Evictable:
    """The study with these of its pictures alone."""
    return replace(
        study,
        hashes=[study.hashes[number] for number in numbers],
        sop_uids=[study.sop_uids[number] for number in numbers],
        modalities=[study.modalities[number] for number in numbers],
        sop_classes=[study.sop_classes[number] for number in numbers],
        sizes=[study.sizes[number] for number in numbers],
    )


def retention_of(settings: Settings) -> RetentionRules:
    """The rules in force. Raises SettingError, also where they need a source PACS and none is named."""
    rules = load_retention(settings.retention_file)
    if rules.needs_source and not load_sources(settings):
        raise SettingError(
            "retention_file: a rule ends what the source PACS has, and none is named: set pull_url or sources_file, or"
            " say needs_source = false in the rule"
        )
    return rules


def retention_text(file: str) -> str:
    """The text of the rules in force. Raises SettingError."""
    if not file:
        return KEEP_ALL
    return text_of("retention_file", file)


@functools.lru_cache(maxsize=8)
def load_retention(file: str = "") -> RetentionRules:
    """The rules of that file; without one, all is kept. Raises SettingError that names the rule and what is wrong."""
    text = retention_text(file)
    tables = tables_of("retention_file", file, text, "rule")
    rules = tuple(_rule(number, table) for number, table in enumerate(tables, 1))
    if len({rule.name for rule in rules}) != len(rules):
        raise SettingError("retention_file: two rules have the same name")
    return RetentionRules(rules=rules, sha256=hashlib.sha256(text.encode()).hexdigest())


def _rule(number: int, table: dict[str, Any]) -> RetentionRule:
    name = table.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise SettingError(f"retention_file: rule {number} needs a name of small letters, digits and hyphens")
    wrong = functools.partial(_wrong, name)
    if unknown := sorted(set(table) - _KNOWN):
        raise wrong(f"{unknown[0]} is not known")
    said = [key for key in _DEEDS if key in table]
    if len(said) != 1:
        raise wrong("it must say one of keep, days and until_encoded")
    if said[0] != "days" and table[said[0]] is not True:
        raise wrong(f"{said[0]} can only be true")
    days = table.get("days")
    if days is not None and not _is_number(days):
        raise wrong(f"days must be a number above 0, at most {_MOST_DAYS}")
    needs_source = table.get("needs_source", True)
    if not isinstance(needs_source, bool) or (said[0] == "keep" and not needs_source):
        raise wrong("needs_source must be true or false, and says nothing beside keep")
    return RetentionRule(
        name=name,
        days=None if days is None else float(days),
        until_encoded=said[0] == "until_encoded",
        needs_source=needs_source,
        **{key: _listed(wrong, key, table[key]) for key in _LISTS if key in table},
    )


def _wrong(name: str, what: str) -> SettingError:
    return SettingError(f"retention_file: rule {name}: {what}")


def _is_number(days: Any) -> bool:
    return isinstance(days, (int, float)) and not isinstance(days, bool) and 0 < days <= _MOST_DAYS


def _listed(wrong: Any, key: str, said: Any) -> frozenset[str]:
    if not isinstance(said, list) or not said or not all(isinstance(one, str) and one for one in said):
        raise wrong(f"{key} must be a list of texts")
    if key == "site" and not all(SITE_LABEL.fullmatch(one) for one in said):
        raise wrong("a site is not a label")
    return frozenset(said)
