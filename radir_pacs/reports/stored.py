"""Findings as the catalogue keeps them: JSON, with the version of the parser that read them."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Any, TypeVar

from radir_pacs.reports.findings import (
    Certainty,
    Change,
    Finding,
    FindingKind,
    Laterality,
    Polarity,
    Severity,
)

_Word = TypeVar("_Word", bound=StrEnum)
PARSER = "en+de-8"  # languages and version: a report mined by another version is mined again


def findings_to_json(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """One object per finding; empty fields are left out."""
    shown = []
    for finding in findings:
        fields = finding._asdict()
        shown.append(
            {
                name: list(value) if isinstance(value, tuple) else value
                for name, value in fields.items()
                if value is not None and value != ()
            }
        )
    return shown


def findings_from_json(stored: Any) -> tuple[Finding, ...]:
    """The findings that `findings_to_json` wrote. Raises ValueError for anything else."""
    try:
        return tuple(_finding(fields) for fields in stored)
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError("not stored findings") from error


def _by_value(words: type[_Word]) -> dict[str, _Word]:
    """To call an enumeration takes as long as all the rest, and an answer reads some hundred findings."""
    return {word.value: word for word in words}


_KINDS, _POLARITIES, _CERTAINTIES = _by_value(FindingKind), _by_value(Polarity), _by_value(Certainty)
_LATERALITIES, _SEVERITIES, _CHANGES = _by_value(Laterality), _by_value(Severity), _by_value(Change)


def _finding(fields: dict[str, Any]) -> Finding:
    return Finding(
        concept=fields["concept"],
        kind=_KINDS[fields["kind"]],
        polarity=_POLARITIES[fields["polarity"]],
        certainty=_CERTAINTIES[fields["certainty"]],
        regions=tuple(fields["regions"]),
        laterality=_LATERALITIES[fields["laterality"]] if "laterality" in fields else None,
        severity=_SEVERITIES[fields["severity"]] if "severity" in fields else None,
        size_mm=fields.get("size_mm"),
        change=_CHANGES[fields["change"]] if "change" in fields else None,
        images=tuple(fields.get("images", ())),
        prior=fields.get("prior"),
        span=(fields["span"][0], fields["span"][1]),
        sentence=(fields["sentence"][0], fields["sentence"][1]),
        section=fields["section"],
    )
