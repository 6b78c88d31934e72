"""Labels of an image as statements, for collections that have no reports."""

from __future__ import annotations

import re
from collections.abc import Sequence

from radir_pacs import anatomy
from radir_pacs.reports import Item, Miner, similarity_items
from radir_pacs.reports.lexicon_terms import ROOT
from radir_pacs.types import ImageKind

from .statements import Said

_NORMAL = {"no finding", "no findings", "normal"}


def label_list(cell: str) -> tuple[str, ...]:
    """The labels in a cell such as "Infiltration|Pleural_Thickening", in words; semicolons separate them as well."""
    return tuple(words for part in re.split(r"[|;]", cell) if (words := part.replace("_", " ").strip()))


def said_by(labels: Sequence[str], kind: ImageKind, miner: Miner) -> Said:
    """Each label is a concept of the lexicon at its default region, as a finding named without a place; "No Finding"
    alone is a normal chest. A missing label is no denial: label lists are short."""
    found = similarity_items(miner.mine(" ".join(f"{label.capitalize()}." for label in labels), kind))
    if not found and any(label.lower() in _NORMAL for label in labels):
        return {anatomy.ROOT: (Item(concept=ROOT, region=anatomy.ROOT, present=False),)}
    return found
