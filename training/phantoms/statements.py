"""The truth about a synthetic patient as statements like those of a mined report, so that one measure serves both."""

from __future__ import annotations

from collections.abc import Sequence

from radir_pacs import anatomy
from radir_pacs.reports import Item
from radir_pacs.reports.lexicon_terms import ROOT
from radir_pacs.types import ImageKind

from .findings import CATALOGUE, PhantomFinding

CONCEPTS = {
    "effusion": "pleural_effusion",
    "oedema": "edema",
    "cardiomegaly": "cardiomegaly",
    "rib_fracture": "fracture",
    "vertebral_compression": "fracture",
    "aortic_calcification": "vascular_calcification",
    "aortic_dilatation": "aortic_aneurysm",
    "hilar_adenopathy": "lymphadenopathy",
    "elevated_hemidiaphragm": "diaphragm_abnormality",
    "central_line": "catheter",
    "endotracheal_tube": "tube",
    "nasogastric_tube": "tube",
}  # the others have the same name in both vocabularies


def true_items(findings: Sequence[PhantomFinding], kind: ImageKind) -> dict[str, tuple[Item, ...]]:
    """Items at every region where the phantom can be abnormal: its findings, or that it is normal; propagated
    upwards."""
    by_region: dict[str, set[Item]] = {}
    for finding in findings:
        item = Item(
            concept=CONCEPTS.get(finding.concept, finding.concept),
            region=finding.region,
            present=True,
            severity=finding.severity,
        )
        for key in (finding.region, *(above.key for above in anatomy.ancestors(finding.region))):
            by_region.setdefault(key, set()).add(item)
    for place in sorted({place for known in CATALOGUE.values() for place in known.regions}):
        for key in (place, *(above.key for above in anatomy.ancestors(place))):
            by_region.setdefault(key, {Item(concept=ROOT, region=key, present=False)})
    known = {region.key for region in anatomy.regions(kind)}
    return {key: tuple(sorted(items)) for key, items in by_region.items() if key in known}
