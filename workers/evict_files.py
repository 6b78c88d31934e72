"""Evict job: pictures go, to make room for others or because a rule of retention says so. One deed for both reasons.

What goes has nothing under way; its rows, reports and vectors stay, so its study goes on answering. Storing an instance
again meanwhile makes its file young, and a young file is not deleted (`BlobStore.delete`).
"""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime

from radir_pacs.catalogue import Away, Catalogue, Evictable, Gone
from radir_pacs.config import DAY_S, Settings
from radir_pacs.errors import PeerFailed
from radir_pacs.intake.bounded_answer import SILENT, AnswerBounds, bounded_get
from radir_pacs.intake.retention import KEEPS_ALL, RetentionRules, only
from radir_pacs.intake.room import Room
from radir_pacs.intake.sources import Pacs, Sources
from radir_pacs.printable import counted
from radir_pacs.storage.blobs import BlobStore
from radir_pacs.types import Job

log = logging.getLogger(__name__)

FOR_ROOM, BY_RULE = "files", "retention"  # keys of the job
_PAGE = 500
_LONGEST_S = 600.0  # the relay asks again
_ASKED = 1000  # instances in one answer
_BOUNDS = AnswerBounds(most_bytes=16 << 20, least_bytes_s=0, deadline_s=30.0)
_MOST_PAGES = 500  # of a study
_MOST_FAILED = 10  # studies one after the other of which a PACS cannot say what it has
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
        """Ends the job. Raises StorageFailed."""
        asking = _Asking(ends_at=time.monotonic() + _LONGEST_S)
        said = self._follow_rules(asking) if job.key == BY_RULE else self._make_room(asking)
        held_up = f"; {len(asking.away)} PACS did not answer" if asking.away else ""
        self._catalogue.jobs.finish(job, said + held_up)

    def _make_room(self, asking: _Asking) -> str:
        """The oldest go, until there is room again or nothing is left to remove."""
        excess = Room(self._catalogue, self._blobs, self._settings).excess_bytes()
        freed = studies = 0
        pages = self._catalogue.disk.pages(Away.ROOM, _PAGE) if excess else ()
        for study in (study for page in pages for study in page if study.hashes):
            if freed >= excess or asking.is_over:
                break
            there = self._those_there(study, asking)
            if there.hashes:
                freed += self._evict(there, Away.ROOM)[1]
                studies += 1
        log.info("files made room", extra={"studies": studies, "bytes": freed})
        of = counted(studies, "study", "studies")
        return f"{freed >> 20} MiB of {of} made room, {max(excess - freed, 0) >> 20} MiB are lacking"

    def _follow_rules(self, asking: _Asking) -> str:
        """Go on through the archive where the last job stopped. What a PACS that is away holds up waits a pass."""
        retention, now = self._catalogue.retention, datetime.now(UTC)
        last = retention.last_pass()
        if last is None or last.rules != self._rules.sha256 or last.ended_at is not None:
            retention.begin(self._rules.sha256)
            last = None
        after_at = last.after_at if last is not None else None
        gone, newest = Gone(), self._rules.newest(now)
        for page in self._catalogue.disk.pages(Away.RETENTION, _PAGE, after_at=after_at):
            before = gone
            due = [study for study in page if study.last_instance_at <= newest]
            for study in due:
                if asking.is_over:
                    break
                gone += self._end_pictures(study, now, asking)
                after_at = study.last_instance_at
            if after_at is not None:
                retention.go_on(after_at, gone - before)
            if len(due) < len(page) or asking.is_over:
                break
        if not asking.is_over:
            retention.end()
        log.info("files went by a rule", extra={"studies": gone.studies, "files": gone.files, "bytes": gone.bytes})
        return f"{counted(gone.files, 'file')} of {counted(gone.studies, 'study', 'studies')}, {gone.bytes >> 20} MiB"

    def _end_pictures(self, study: Evictable, now: datetime, asking: _Asking) -> Gone:
        """What of the study went by the rules."""
        files = freed = 0
        for rule, pictures in self._rules.by_rule(study):
            if not rule.is_due(study, now):
                continue
            if rule.needs_source:
                pictures = self._those_there(pictures, asking)
            if pictures.hashes:
                count, size = self._evict(pictures, Away.RETENTION, must_be_encoded=rule.until_encoded)
                files, freed = files + count, freed + size
        return Gone(studies=int(files > 0), files=files, bytes=freed)

    def _those_there(self, study: Evictable, asking: _Asking) -> Evictable:
        """The study with those pictures alone that its PACS names; what it lacks it is asked for once a day.

        So is what it cannot say, as one such study must not hold up the others.
        """
        pacs = self._sources.of(study.sites)
        if pacs is None or pacs.url in asking.away:
            return only(study, ())
        if time.monotonic() - self._lacking.get(_as_asked(study), float("-inf")) < DAY_S:
            return only(study, ())
        try:
            there = _known_there(study, pacs, asking)
        except PeerFailed as failed:
            if not asking.is_away(pacs, failed):
                self._remember(study)
                extra = {"study_uid": study.study_uid, "reason": failed.reason_code, "error": str(failed)}
                log.warning("the PACS cannot say what it has of a study", extra=extra)
            return only(study, ())
        asking.answered(pacs)
        if len(there) < len(study.sop_uids) and not asking.is_over:
            self._remember(study)
        return only(study, [number for number, uid in enumerate(study.sop_uids) if uid in there])

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


@dataclass(eq=False, kw_only=True)
class _Asking:
    """What became of the PACS in one job. ``away``: services that are not asked again in it."""

    ends_at: float
    away: set[str] = field(default_factory=set)
    failed: Counter[str] = field(default_factory=Counter)

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self.ends_at

    def is_away(self, pacs: Pacs, failed: PeerFailed) -> bool:
        """Whether the PACS was silent. One that fails time after time is not asked again either."""
        self.failed[pacs.url] += 1
        is_silent = failed.reason_code in SILENT
        if is_silent or self.failed[pacs.url] >= _MOST_FAILED:
            self.away.add(pacs.url)
        return is_silent

    def answered(self, pacs: Pacs) -> None:
        del self.failed[pacs.url]


def _known_there(study: Evictable, pacs: Pacs, asking: _Asking) -> set[str]:
    """Those of its instances that the PACS names (QIDO-RS, PS3.18 10.6), asked page by page. Raises PeerFailed."""
    wanted, last, offset = set(study.sop_uids), set[str](), 0
    lacking = set(wanted)
    for _ in range(_MOST_PAGES):
        if not lacking or asking.is_over:
            break
        named = _named(pacs, f"studies/{study.study_uid}/instances?limit={_ASKED}&offset={offset}")
        if not named or named == last:  # no more, or a PACS that knows no offset
            break
        lacking -= named
        last, offset = named, offset + len(named)
    return wanted - lacking


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
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        return set()


def _as_asked(study: Evictable) -> tuple[str, datetime]:
    return study.study_uid, study.last_instance_at
