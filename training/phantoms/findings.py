"""Findings of a synthetic chest: a catalogue, their possible places, and how they are drawn at random."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

LOBES = ("right_upper_lobe", "right_middle_lobe", "right_lower_lobe", "left_upper_lobe", "left_lower_lobe")


@dataclass(frozen=True, kw_only=True)
class PhantomFinding:
    """One finding. ``severity`` 1 mild, 2 moderate, 3 severe; ``side`` -1 right, +1 left, 0 neither or both.

    ``at`` holds numbers in [0, 1] that choose the place within the region, so that a finding stays in
    its place on another day; ``size_mm`` is the longest extent where a report would measure one.
    """

    concept: str
    region: str
    side: int
    severity: int
    at: tuple[float, float, float]
    size_mm: float | None = None

    def __post_init__(self) -> None:
        if self.concept not in CATALOGUE:
            raise ValueError(f"unknown concept {self.concept!r}")
        if self.severity not in (1, 2, 3):
            raise ValueError("a finding has severity 1, 2 or 3; severity 0 is no finding")

    @property
    def laterality(self) -> str | None:
        return {-1: "right", 1: "left", 0: None}[self.side]

    @property
    def key(self) -> tuple[str, str]:
        return self.concept, self.region


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A concept of the catalogue: its places, its frequency, and whether it can resolve."""

    regions: tuple[str, ...]
    weight: float
    acute: bool = False  # may resolve between two studies
    device: bool = False
    sizes_mm: tuple[tuple[float, float], ...] = ()  # range per severity, for findings that are measured
    severities: tuple[float, float, float] = (0.4, 0.35, 0.25)  # weights of 1, 2 and 3


CATALOGUE: dict[str, Kind] = {
    "effusion": Kind(regions=("right_pleura", "left_pleura"), weight=2.2, acute=True),
    "pneumothorax": Kind(regions=("right_pleura", "left_pleura"), weight=1.0, acute=True),
    "nodule": Kind(regions=LOBES, weight=1.6, sizes_mm=((8, 12), (13, 20), (21, 29)), severities=(0.3, 0.4, 0.3)),
    "mass": Kind(regions=LOBES, weight=0.8, sizes_mm=((31, 38), (39, 50), (51, 70))),
    "consolidation": Kind(regions=LOBES, weight=2.0, acute=True),
    "ground_glass": Kind(regions=LOBES, weight=1.2, acute=True),
    "atelectasis": Kind(regions=("right_lower_lobe", "left_lower_lobe", "right_middle_lobe"), weight=1.4, acute=True),
    "cardiomegaly": Kind(regions=("heart",), weight=2.2),
    "oedema": Kind(regions=("lungs",), weight=1.3, acute=True),
    "emphysema": Kind(regions=("lungs",), weight=1.2),
    "fibrosis": Kind(regions=("lungs",), weight=0.7),
    "rib_fracture": Kind(regions=("right_ribs", "left_ribs"), weight=0.9),
    "vertebral_compression": Kind(regions=("thoracic_spine",), weight=0.8),
    "aortic_calcification": Kind(regions=("aortic_arch",), weight=1.2),
    "aortic_dilatation": Kind(
        regions=("aortic_arch", "thoracic_aorta"), weight=1.0, sizes_mm=((40, 44), (45, 52), (53, 65))
    ),
    "hilar_adenopathy": Kind(
        regions=("right_hilum", "left_hilum"), weight=0.8, sizes_mm=((12, 17), (18, 26), (27, 40))
    ),
    "elevated_hemidiaphragm": Kind(regions=("right_hemidiaphragm", "left_hemidiaphragm"), weight=0.5),
    "pacemaker": Kind(regions=("heart",), weight=0.7, device=True),
    "endotracheal_tube": Kind(regions=("trachea",), weight=0.6, acute=True, device=True),
    "nasogastric_tube": Kind(regions=("stomach",), weight=0.6, acute=True, device=True),
    "central_line": Kind(regions=("superior_vena_cava",), weight=0.6, acute=True, device=True),
}


def side_of(region: str) -> int:
    return -1 if region.startswith("right_") else 1 if region.startswith("left_") else 0


def place(concept: str, region: str, severity: int, rng: np.random.Generator) -> PhantomFinding:
    """A finding at a random place within its region."""
    sizes = CATALOGUE[concept].sizes_mm
    u, v, w = (float(value) for value in rng.random(3))
    size = float(np.round(rng.uniform(*sizes[severity - 1]))) if sizes else None
    return PhantomFinding(
        concept=concept, region=region, side=side_of(region), severity=severity, at=(u, v, w), size_mm=size
    )


def draw(
    age_years: int, rng: np.random.Generator, mix: Mapping[str, float] = MappingProxyType({})
) -> tuple[PhantomFinding, ...]:
    """The findings of a first study: none for about one person in five, several for most, more with age.

    ``mix``: how much more often than usual a concept is drawn.
    """
    if rng.random() < 0.22:
        return ()
    wanted = 1 + int(rng.poisson(1.1 + max(0, age_years - 40) / 50))
    names = list(CATALOGUE)
    weights = np.array([_weight(name, age_years) * mix.get(name, 1.0) for name in names])
    found: dict[tuple[str, str], PhantomFinding] = {}
    for _ in range(wanted):
        finding = draw_one(names[int(rng.choice(len(names), p=weights / weights.sum()))], rng)
        if not any(clash(finding, other) for other in found.values()):
            found[finding.key] = finding
        if finding.concept == "effusion" and rng.random() < 0.45:  # effusions rarely come alone
            other_side = "left_pleura" if finding.side < 0 else "right_pleura"
            extra = place("effusion", other_side, int(rng.integers(1, finding.severity + 1)), rng)
            if not any(clash(extra, other) for other in found.values()):
                found[extra.key] = extra
    return tuple(found.values())


def draw_one(concept: str, rng: np.random.Generator) -> PhantomFinding:
    kind = CATALOGUE[concept]
    region = kind.regions[int(rng.integers(len(kind.regions)))]
    return place(concept, region, 1 + int(rng.choice(3, p=kind.severities)), rng)


def _weight(concept: str, age_years: int) -> float:
    weight = CATALOGUE[concept].weight
    if concept in {"aortic_calcification", "vertebral_compression", "pacemaker", "aortic_dilatation", "emphysema"}:
        weight *= float(np.clip((age_years - 35) / 30, 0.05, 1.6))
    return weight


def clash(new: PhantomFinding, old: PhantomFinding) -> bool:
    """Whether two findings exclude each other, or could not be distinguished in one image."""
    if new.key == old.key:
        return True
    if new.region == old.region and new.region in LOBES:
        opaque = {"consolidation", "atelectasis", "mass", "ground_glass"}
        return {new.concept, old.concept} <= opaque or {new.concept, old.concept} == {"nodule", "mass"}
    if new.side and new.side == old.side:
        pair = {new.concept, old.concept}
        drowned = {"consolidation", "atelectasis", "nodule", "mass", "ground_glass", "pneumothorax"}
        for one, other in ((new, old), (old, new)):
            if one.concept == "effusion" and one.severity == 3 and other.concept in drowned:
                return True
            if one.concept == "pneumothorax" and one.severity == 3 and other.concept in drowned:
                return True
        return "elevated_hemidiaphragm" in pair and bool(pair & {"effusion", "atelectasis"})
    return {new.concept, old.concept} in ({"emphysema", "fibrosis"}, {"emphysema", "oedema"})
