"""How much room the disk of the home folder has."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

from radir_pacs.config import Settings


@dataclass(frozen=True, kw_only=True)
class Disk:
    """``kept_free_bytes``: with less than that free, nothing more is stored (``min_free_disk_mib``)."""

    free_bytes: int
    total_bytes: int
    kept_free_bytes: int

    @property
    def is_full(self) -> bool:
        return self.free_bytes < self.kept_free_bytes


def disk_of(settings: Settings) -> Disk | None:
    """Of the home folder; None where it is on another machine."""
    try:
        usage = shutil.disk_usage(settings.home)
    except FileNotFoundError:
        return None
    kept = settings.min_free_disk_mib << 20
    return Disk(free_bytes=usage.free, total_bytes=usage.total, kept_free_bytes=kept)
