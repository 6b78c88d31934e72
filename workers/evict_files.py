"""Evict job: the oldest pictures make room, where the PACS names them.

Only what is indexed and has nothing under way; its rows, reports and vectors stay, so it goes on answering. Storing an
instance again meanwhile makes its file young, and a young file is not deleted (`BlobStore.delete`).
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import replace
from datetime import datetime

from radir_pacs.catalogue import Catalogue, Evictable
from radir_pacs.config import DAY_S, Settings
from radir_pacs.errors import PeerFailed
from radir_pacs.intake.room import Room
from radir_pacs.storage.blobs import BlobStore
from radir_pacs.types import Job

from .bounded_answer import AnswerBounds, bounded_get
from .pull_study import Pacs

log = logging.getLogger(__name__)

_PAGE = 500
_LONGEST_S = 600.0  # the relay asks again
_ASKED = 1000  # instances in one answer
_BOUNDS = AnswerBounds(most_bytes=16 << 20, least_bytes_s=0, deadline_s=30.0)
_SOP_INSTANCE_UID = "00080018"
_MOST_LACKING = 100_000  # studies to remember for a day, so that the PACS is not asked for them every ten minutes


class EvictFiles:
    """The use case of JobKind.EVICT."""

    def __init__(self, catalogue: Catalogue, blobs: BlobStore, pacs: Pacs, settings: Settings) -> None:
        self._catalogue, self._blobs, self._pacs, self._settings = catalogue, blobs, pacs, settings
        self._lacking: dict[tuple[str, datetime], float] = {}  # studies that the PACS lacks, and when it said so

    def __call__(self, job: Job) -> None:
        """Ends the job when there is room again, or nothing left to remove. Raises PeerFailed, StorageFailed."""
        excess = Room(self._catalogue, self._blobs, self._settings).excess_bytes()
        ends_at = time.monotonic() + _LONGEST_S
        after: Evictable | None = None
        freed = studies = 0
        while freed < excess and time.monotonic() < ends_at:
            found = self._catalogue.disk.evictable(after, _PAGE)
            for study in found:
                if freed >= excess or time.monotonic() >= ends_at or not study.hashes:
                    continue
                if time.monotonic() - self._lacking.get(_as_asked(study), float("-inf")) < DAY_S:
                    continue
                there = self._known_there(study)
                if len(there) < len(study.sop_uids):
                    self._remember(study)
                hashes = [sha256 for sha256, uid in zip(study.hashes, study.sop_uids, strict=True) if uid in there]
                if hashes:
                    freed += self._evict(replace(study, hashes=hashes))
                    studies += 1
            if not found:
                break
            after = found[-1]
        said = f"{freed >> 20} MiB of {studies} studies made room, {max(excess - freed, 0) >> 20} MiB are lacking"
        log.info("files made room", extra={"studies": studies, "bytes": freed})
        self._catalogue.jobs.finish(job, said)

    def _known_there(self, study: Evictable) -> set[str]:
        """Those of its instances that the PACS names (QIDO-RS, PS3.18 10.6), asked page by page."""
        wanted, found = set(study.sop_uids), set[str]()
        while not wanted <= found:
            named = self._named(f"studies/{study.study_uid}/instances?limit={_ASKED}&offset={len(found)}")
            if named <= found:  # no more, or a PACS that knows no offset
                break
            found |= named
        return found & wanted

    def _remember(self, study: Evictable) -> None:
        self._lacking.pop(_as_asked(study), None)
        self._lacking[_as_asked(study)] = time.monotonic()
        if len(self._lacking) > _MOST_LACKING:
            self._lacking.pop(next(iter(self._lacking)))

    def _named(self, asked: str) -> set[str]:
        """The SOP Instance UIDs of one answer. Raises PeerFailed."""
        headers = {"Accept": "application/dicom+json", "Accept-Encoding": "identity"}
        if self._pacs.authorization:
            headers["Authorization"] = self._pacs.authorization
        with bounded_get(f"{self._pacs.url.rstrip('/')}/{asked}", headers, _BOUNDS) as answer:
            if answer.status in (204, 404):
                return set()
            if answer.status != 200:
                raise PeerFailed(f"the PACS answers with status {answer.status}")
            body = b"".join(iter(lambda: answer.read(1 << 16), b""))
        try:
            return {str(row[_SOP_INSTANCE_UID]["Value"][0]) for row in json.loads(body)}
        except (ValueError, KeyError, TypeError, IndexError):
            return set()

    def _evict(self, study: Evictable) -> int:
        freed = 0
        for sha256 in self._catalogue.disk.evict(study):
            size_bytes = self._blobs.size(sha256)
            if self._blobs.delete(sha256):
                freed += size_bytes
                self._catalogue.disk.less(sha256, size_bytes)
            else:  # it came again just now
                self._catalogue.disk.stays(sha256)
        return freed


def _as_asked(study: Evictable) -> tuple[str, datetime]:
    return study.study_uid, study.last_instance_at
