"""Regions of chest radiographs and chest CT: hierarchy, words, codes, outlines, heights, windows."""

from radir_pacs.anatomy.heights import height, slices_of
from radir_pacs.anatomy.outlines import Outline, outline, outlines
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
from radir_pacs.anatomy.windows import LUNG, Window, ct_window
from radir_pacs.anatomy.wording import look_up, nearest, normalise

__all__ = [
    "LUNG",
    "PRIVATE_SCHEME",
    "ROOT",
    "Outline",
    "Window",
    "ancestors",
    "children",
    "ct_window",
    "descendants",
    "height",
    "look_up",
    "nearest",
    "normalise",
    "outline",
    "outlines",
    "region",
    "regions",
    "slices_of",
    "standard_code",
    "trained",
]
