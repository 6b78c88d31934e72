"""The regions that a page offers for a study: first those for which its model has a vector, then the others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from radir_pacs import anatomy
from radir_pacs.catalogue import Catalogue
from radir_pacs.types import ImageKind, Region

Choice = tuple[str, tuple[Region, ...]]  # the heading (a text of the pages) and the regions under it


def choices(catalogue: Catalogue, study_uid: str) -> tuple[Choice, ...]:
    """Groups of regions for the study, parents before children; empty if no active model has encoded it."""
    known: set[str] = set()
    kinds: set[ImageKind] = set()
    for model_id, kind in catalogue.encodings.models_of_study(study_uid):
        encoding = catalogue.encodings.get(study_uid, model_id)
        if encoding is not None:
            kinds.add(kind)
            known.update(encoding.regions)
    return grouped(known, sorted(kinds))


def grouped(known: Iterable[str], kinds: Sequence[ImageKind]) -> tuple[Choice, ...]:
    """``known``: keys of the regions that the model has. The others are those shown by images of ``kinds``.

    A chest radiograph shows abdominal organs by their gas at best: they are offered only if the model knows them.
    """
    keys = set(known)
    own = tuple(region for region in anatomy.regions() if region.key in keys)
    shown = {region.key for kind in kinds for region in anatomy.regions(kind)}
    if ImageKind.CT not in kinds:
        shown.difference_update(region.key for region in anatomy.descendants("abdomen"))
    others = tuple(region for region in anatomy.regions() if region.key in shown - keys)
    groups = (("known_regions", own), ("other_regions", others))
    return tuple((heading, regions) for heading, regions in groups if regions)
