"""Evict job: pictures go, to make room for others or because a rule of retention says so. One deed for both reasons.

What goes has nothing under way; its rows, reports and vectors stay, so its study goes on answering. Storing an instance
again meanwhile makes its file young, and a young file is not deleted (`BlobStore.delete`).
"""

from __future__ import annotations

import json
import logging
import time
from datetime import UTC, datetime

from radir_pacs.catalogue import Away, Catalogue, Evictable, Gone
from radir_pacs.config import DAY_S, Settings
from radir_pacs.errors import PeerFailed
from radir_pacs.intake.bounded_answer import AnswerBounds, bounded_get
from radir_pacs.intake.retention import KEEPS_ALL, RetentionRules, only
from radir_pacs.intake.room import Room
from radir_pacs.intake.sources import Pacs, Sources
from radir_pacs.storage.blobs import BlobStore
from radir_pacs.types import Job

log = logging.getLogger(__name__)

FOR_ROOM, BY_RULE = "files", "retention"  # keys of the job
_PAGE = 500
_LONGEST_S = 600.0  # the relay asks again
_ASKED = 1000  # instances in one answer
_BOUNDS = AnswerBounds(most_bytes=16 << 20, least_bytes_s=0, deadline_s=30.0)
_SOP_INSTANCE_UID = "00080018"
_MOST_LACKING = 100_000  # studies to remember for a day, so that the PACS is not asked for them every ten minutes


class EvictFiles:
    """The use case of JobKind.EVICT; the key says why files go."""

    def __init__(
        self,
        catalogue: Catalogue,
        blobs: BlobStore,
        sources: Sources,
        settings: Settings,
        rules: RetentionRules = KEEPS_ALL,
    ) -> None:
        self._catalogue, self._blobs, self._settings = catalogue, blobs, settings
        self._sources, self._rules = sources, rules
        self._lacking: dict[tuple[str, datetime], float] = {}  # studies that the PACS lacks, and when it said so

    def __call__(self, job: Job) -> None:
        """Ends the job. Raises PeerFailed, StorageFailed."""
        ends_at = time.monotonic() + _LONGEST_S
        said = self._follow_rules(ends_at) if job.key == BY_RULE else self._make_room(ends_at)
        self._catalogue.jobs.finish(job, said)

    def _make_room(self, ends_at: float) -> str:
        """The oldest go, until there is room again or nothing is left to remove."""
        excess = Room(self._catalogue, self._blobs, self._settings).excess_bytes()
        freed = studies = 0
        pages = self._catalogue.disk.pages(Away.ROOM, _PAGE) if excess else ()
        for study in (study for page in pages for study in page if study.hashes):
            if freed >= excess or time.monotonic() >= ends_at:
                break
            there = self._those_there(study)
            if there.hashes:
                freed += self._evict(there, Away.ROOM)[1]
                studies += 1
        log.info("files made room", extra={"studies": studies, "bytes": freed})
        return f"{freed >> 20} MiB of {studies} studies made room, {max(excess - freed, 0) >> 20} MiB are lacking"

    def _follow_rules(self, ends_at: float) -> str:
        """Go on through the archive where the last job stopped. What a PACS that is away holds up waits a pass."""
        retention, now = self._catalogue.retention, datetime.now(UTC)
        last = retention.last_pass()
        if last is None or last.rules != self._rules.sha256 or last.ended_at is not None:
            retention.begin(self._rules.sha256)
            last = None
        after_at = last.after_at if last is not None else None
        gone, newest = Gone(), self._rules.newest(now)
        away: set[str] = set()
        for page in self._catalogue.disk.pages(Away.RETENTION, _PAGE, after_at=after_at):
            before = gone
            due = [study for study in page if study.last_instance_at <= newest]
            for study in due:
                if time.monotonic() >= ends_at:
                    break
                gone += self._end_pictures(study, now, away)
                after_at = study.last_instance_at
            if after_at is not None:
                retention.go_on(after_at, gone - before)
            if len(due) < len(page) or time.monotonic() >= ends_at:
                break
        if time.monotonic() < ends_at:
            retention.end()
        log.info("files went by a rule", extra={"studies": gone.studies, "files": gone.files, "bytes": gone.bytes})
        held_up = f"; {len(away)} PACS did not answer" if away else ""
        return f"{gone.files} files of {gone.studies} studies, {gone.bytes >> 20} MiB{held_up}"

    def _end_pictures(self, study: Evictable, now: datetime, away: set[str]) -> Gone:
        """What of the study went by the rules. ``away``: services of PACS that did not answer."""
        files = freed = 0
        for rule, pictures in self._rules.by_rule(study):
            if not rule.is_due(study, now):
                continue
            if rule.needs_source:
                pacs = self._sources.of(study.sites)
                if pacs is None or pacs.url in away:
                    continue
                try:
                    pictures = self._those_there(pictures)
                except PeerFailed:
                    away.add(pacs.url)
                    continue
            if pictures.hashes:
                count, size = self._evict(pictures, Away.RETENTION, must_be_encoded=rule.until_encoded)
                files, freed = files + count, freed + size
        return Gone(studies=int(files > 0), files=files, bytes=freed)

    def _those_there(self, study: Evictable) -> Evictable:
        """The study with those pictures alone that its PACS names; what it lacks it is asked for once a day.

        Raises PeerFailed.
        """
        pacs = self._sources.of(study.sites)
        if pacs is None or time.monotonic() - self._lacking.get(_as_asked(study), float("-inf")) < DAY_S:
            return only(study, ())
        there = self._known_there(study, pacs)
        if len(there) < len(study.sop_uids):
            self._remember(study)
        return only(study, [number for number, uid in enumerate(study.sop_uids) if uid in there])

    def _known_there(self, study: Evictable, pacs: Pacs) -> set[str]:
        """Those of its instances that the PACS names (QIDO-RS, PS3.18 10.6), asked page by page."""
        wanted, found = set(study.sop_uids), set[str]()
        while not wanted <= found:
            named = _named(pacs, f"studies/{study.study_uid}/instances?limit={_ASKED}&offset={len(found)}")
            if named <= found:  # no more, or a PACS that knows no offset
                break
            found |= named
        return found & wanted

    def _remember(self, study: Evictable) -> None:
        self._lacking.pop(_as_asked(study), None)
        self._lacking[_as_asked(study)] = time.monotonic()
        if len(self._lacking) > _MOST_LACKING:
            self._lacking.pop(next(iter(self._lacking)))

    def _evict(self, study: Evictable, reason: Away, *, must_be_encoded: bool = False) -> tuple[int, int]:
        """(files, bytes) that went."""
        files = freed = 0
        for sha256 in self._catalogue.disk.evict(study, reason, must_be_encoded=must_be_encoded):
            size_bytes = self._blobs.size(sha256)
            if self._blobs.delete(sha256):
                files, freed = files + 1, freed + size_bytes
                self._catalogue.disk.less(sha256, size_bytes)
            else:  # it came again just now
                self._catalogue.disk.stays(sha256)
        return files, freed


def _named(pacs: Pacs, asked: str) -> set[str]:
    """The SOP Instance UIDs of one answer. Raises PeerFailed."""
    url, headers = f"{pacs.url.rstrip('/')}/{asked}", pacs.headers("application/dicom+json")
    with bounded_get(url, headers, _BOUNDS, ca=pacs.ca) as answer:
        if answer.status in (204, 404):
            return set()
        if answer.status != 200:
            raise PeerFailed(f"the PACS answers with status {answer.status}")
        body = b"".join(iter(lambda: answer.read(1 << 16), b""))
    try:
        return {str(row[_SOP_INSTANCE_UID]["Value"][0]) for row in json.loads(body)}
    except (ValueError, KeyError, TypeError, IndexError):
        return set()


def _as_asked(study: Evictable) -> tuple[str, datetime]:
    return study.study_uid, study.last_instance_at
