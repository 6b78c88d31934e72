"""What happens to a patient over time: visits some weeks apart, findings that grow, shrink, clear and appear."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from types import MappingProxyType

import numpy as np

from radir_pacs.types import ImageKind

from .findings import CATALOGUE, PhantomFinding, clash, draw, draw_one
from .patient import Patient


@dataclass(frozen=True, kw_only=True)
class Visit:
    """One study: its day, its kind of imaging, and its findings."""

    number: int
    on: date
    kind: ImageKind
    findings: tuple[PhantomFinding, ...]


@dataclass(frozen=True, kw_only=True)
class Course:
    """A patient with all visits, oldest first."""

    index: int
    patient: Patient
    visits: tuple[Visit, ...]


def draw_patient(
    seed: int, index: int, mix: Mapping[str, float] = MappingProxyType({})
) -> tuple[Patient, tuple[PhantomFinding, ...]]:
    """The person and the first findings; the same numbers always give the same ones."""
    rng = np.random.default_rng([seed, index, 1])
    patient = Patient.sample(rng)
    return patient, draw(patient.age_years, rng, mix)


def draw_course(
    seed: int, index: int, kinds: frozenset[ImageKind], mix: Mapping[str, float] = MappingProxyType({})
) -> Course:
    """First a radiograph where wanted, then CT within days or weeks, then often a later radiograph."""
    patient, findings = draw_patient(seed, index, mix)
    rng = np.random.default_rng([seed, index, 2])
    on = date(2018, 1, 1) + timedelta(days=int(rng.integers(0, 1800)))
    order = [ImageKind.CXR, ImageKind.CT]
    if rng.random() < 0.4:
        order.append(ImageKind.CXR)
    visits: list[Visit] = []
    for kind in (kind for kind in order if kind in kinds):
        visits.append(Visit(number=len(visits) + 1, on=on, kind=kind, findings=findings))
        days = int(rng.integers(1, 15) if rng.random() < 0.5 else rng.integers(20, 240))
        on, findings = on + timedelta(days=days), develop(findings, days, rng)
    return Course(index=index, patient=patient, visits=tuple(visits))


def develop(findings: tuple[PhantomFinding, ...], days: int, rng: np.random.Generator) -> tuple[PhantomFinding, ...]:
    """The findings some days later."""
    later: list[PhantomFinding] = []
    for finding in findings:
        kind = CATALOGUE[finding.concept]
        chance = rng.random()
        if kind.device:
            if not (kind.acute and chance < 0.6):
                later.append(finding)
        elif kind.acute:
            step = -1 if chance < 0.45 else 1 if chance < 0.62 else 0
            if days > 60 and chance < 0.6:
                step = -3
            if finding.severity + step >= 1:
                later.append(replace(finding, severity=min(3, finding.severity + step)))
        elif finding.size_mm and chance < 0.3 and days > 30 and finding.concept in {"nodule", "mass"}:
            later.append(_grown(finding))
        else:
            later.append(finding)
    if rng.random() < 0.25:
        names = [name for name, kind in CATALOGUE.items() if kind.acute]
        new = draw_one(names[int(rng.integers(len(names)))], rng)
        if not any(clash(new, other) for other in later):
            later.append(new)
    return tuple(later)


def _grown(finding: PhantomFinding) -> PhantomFinding:
    """A quarter larger, within its grade's range."""
    _, most = CATALOGUE[finding.concept].sizes_mm[finding.severity - 1]
    return replace(finding, size_mm=float(min(most, round((finding.size_mm or 0) * 1.25))))
