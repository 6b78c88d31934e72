"""Regions of chest radiographs and chest CT: hierarchy, words, codes, outlines."""

from radir_pacs.anatomy.outlines import Outline, outline
from radir_pacs.anatomy.table import (
    PRIVATE_SCHEME,
    ROOT,
    ancestors,
    children,
    descendants,
    region,
    regions,
    standard_code,
    trained,
)
from radir_pacs.anatomy.wording import look_up, nearest, normalise

__all__ = [
    "PRIVATE_SCHEME",
    "ROOT",
    "Outline",
    "ancestors",
    "children",
    "descendants",
    "look_up",
    "nearest",
    "normalise",
    "outline",
    "region",
    "regions",
    "standard_code",
    "trained",
]
