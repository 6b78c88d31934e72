"""How much room is left for what arrives, and how much is to be made: the disk's, or the budget's."""

from __future__ import annotations

import shutil
import time

from radir_pacs.catalogue import Catalogue
from radir_pacs.config import Settings
from radir_pacs.errors import StorageFailed
from radir_pacs.storage.blobs import SWEEP_PARTS, BlobStore

_MIB = 1 << 20
_ASKED_S = 5.0


class Room:
    def __init__(self, catalogue: Catalogue, blobs: BlobStore, settings: Settings) -> None:
        self._catalogue, self._blobs, self._settings = catalogue, blobs, settings
        self._used_bytes, self._asked_at = 0, float("-inf")

    def check(self) -> None:
        """Raise StorageFailed when the disk is fuller than the settings allow, or the budget is used up."""
        free_mib = shutil.disk_usage(self._blobs.root).free // _MIB
        if free_mib < self._settings.min_free_disk_mib:
            raise StorageFailed(f"{free_mib} MiB of disk left, {self._settings.min_free_disk_mib} are kept free")
        budget_mib = self._settings.disk_budget_mib
        if budget_mib and self._used() >= budget_mib * _MIB:
            raise StorageFailed(f"the files take {self._used() // _MIB} MiB, disk_budget_mib allows {budget_mib}")

    def excess_bytes(self) -> int:
        """How many bytes have to make room: 0 below ``evict_above``, else what is above ``evict_below``."""
        if self._settings.disk_budget_mib:
            total, used = self._settings.disk_budget_mib * _MIB, self._used()
        else:
            disk = shutil.disk_usage(self._blobs.root)
            total, used = disk.total, disk.total - disk.free
        if used < self._settings.evict_above * total:
            return 0
        return max(int(used - self._settings.evict_below * total), 0)

    def _used(self) -> int:
        """As the sweep last counted; what it has not come to yet is taken to be like the rest."""
        now_s = time.monotonic()
        if now_s - self._asked_at > _ASKED_S:
            _, counted, parts = self._catalogue.disk.usage()
            self._used_bytes = counted * SWEEP_PARTS // max(parts, 1)
            self._asked_at = now_s
        return self._used_bytes
