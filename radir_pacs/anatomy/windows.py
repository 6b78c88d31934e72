"""The window for viewing a region on a CT slice (PS3.3 C.11.2.1.2)."""

from __future__ import annotations

from radir_pacs.anatomy.table import ROOT, ancestors, region

Window = tuple[float, float]  # Window Center and Window Width in HU

LUNG: Window = (-600.0, 1500.0)
BONE: Window = (400.0, 1800.0)
SOFT_TISSUE: Window = (40.0, 400.0)

_WINDOWS = {
    **dict.fromkeys(("lungs", "airways", "pleura", "right_hemithorax", "left_hemithorax"), LUNG),
    "bones": BONE,
}


def ct_window(key: str) -> Window | None:
    """The window for region ``key``; None for the whole chest, which has no single one. Raises UnknownRegion."""
    if region(key).key == ROOT:
        return None
    chain = (key, *(above.key for above in ancestors(key)))
    return next((window for name in chain if (window := _WINDOWS.get(name))), SOFT_TISSUE)
