"""The relay runs the periodic tasks. It completes quiet studies, announces pending jobs, takes jobs back from dead
workers, joins reports to studies that came after them, marks what is searchable, asks for merges, and clears away what
nobody needs.

Each step is a transaction of its own on the catalogue, so the relay may be killed anywhere, and two relays do no harm.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from radir_pacs import traces
from radir_pacs.catalogue import MOST_PER_SEAL, Catalogue
from radir_pacs.config import DAY_S, Settings
from radir_pacs.errors import EngineAway, RadirError, SettingError, StorageFailed
from radir_pacs.index import partition_folder, remove_unserved_models, remove_unused, should_merge
from radir_pacs.index.engine import LOCAL
from radir_pacs.index.engines import Engines
from radir_pacs.index.writer import GRACE_S, is_worn, remove_partition
from radir_pacs.intake.retention import retention_of
from radir_pacs.intake.room import Room
from radir_pacs.models import Errands, Upkeep
from radir_pacs.monitoring.tails import Tails
from radir_pacs.reports import PARSER
from radir_pacs.storage.blobs import SWEEP_PARTS, BlobStore
from radir_pacs.types import JobKind

from .app import ENCODE_QUEUES, INDEX_QUEUE, QUEUE, TRANSFER_QUEUE
from .evict_files import BY_RULE, FOR_ROOM
from .index_partition import FORGET_S

log = logging.getLogger(__name__)

SURVEY_S = 5.0  # between two looks at the size of the tails
PRUNE_S = 600.0
WITHHELD_S = 3600.0  # no transaction that did not see a decision to withhold is under way for longer
PASS_EVERY_S = 3600.0  # of the rules of retention through the archive
ERRANDS_S = 5.0
CLEAR_S = 60.0  # between two looks at what outside engines need no more; PRUNE_S after one that did not answer
SWEEP_S = PRUNE_S / SWEEP_PARTS  # a full sweep takes as long as PRUNE_S, in short steps that do not delay announcements
KEEP_DONE_S = 7 * 86_400.0  # ended jobs and replaced generations, for anyone who asks what happened
KEEP_GONE_S = 30 * 86_400.0  # deletions, for a process that was suspended meanwhile
KEEP_SILENT_S = 86_400.0
KEEP_REFUSALS_S = 90 * 86_400.0
MOST_REFUSALS = 100_000
_REPORTS = 16  # reports to mine with a message under way
_OLD_REPORTS = 1_000  # of an earlier version of mining, queued at a time
KEEP_ANSWERS_S = 30 * DAY_S  # to HL7 messages, for a sender that repeats one
_WITNESS_S = 3600.0
_SEALS = 10  # of the audit trail, in one round
_SENDING = (JobKind.SEND, JobKind.COMMITMENT)
_LONG = (JobKind.PULL, JobKind.EVICT)
_MERGES = 16  # messages under way; one process merges
_CLEARED = 8  # places of outside engines cleared in one round: each may wait for its engine, or for a lock


class Relay:
    """``ring``: sends the broker message for a job id to a queue; raises when the broker cannot be reached."""

    def __init__(
        self,
        catalogue: Catalogue,
        blobs: BlobStore,
        settings: Settings,
        ring: Callable[[int, str], None],
        clock_s: Callable[[], float] = time.monotonic,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._catalogue = catalogue
        self._blobs = blobs
        self._settings = settings
        self._ring = ring
        self._clock_s, self._now_s = clock_s, now_s
        self._surveyed_s = self._pruned_s = self._swept_s = self._clears_s = self._witnessed_s = float("-inf")
        self._part = 0
        self._mines_on = False
        self._room = Room(catalogue, blobs, settings)
        self._retention = retention_of(settings)
        self._tails = Tails(catalogue)
        self._engines = Engines(catalogue, settings)
        self._upkeep = Upkeep(catalogue, settings)
        self._errands, self._errands_s = Errands(catalogue, settings), self._clock_s()

    def run(self, stop: threading.Event) -> None:
        """Run rounds until told to stop. A round that fails is logged, and the next one tries again."""
        try:
            self._rounds(stop)
        finally:
            self._errands.close()
            self._engines.close()

    def _rounds(self, stop: threading.Event) -> None:
        while True:
            try:
                self.round()
            except StorageFailed as error:
                log.error("round failed", extra={"error": str(error)})
                self._restart_database()
            if stop.wait(self._settings.relay_interval_s):
                return

    def round(self) -> None:
        """One round. What fails in it holds nothing else of it back. Raises StorageFailed."""
        for step in (
            self._complete_quiet,
            self._catalogue.jobs.sweep,
            self._catalogue.report_versions.join_wanted,
            self._catalogue.studies.mark_indexed,
            self._catalogue.reencoding.feed,
            self._upkeep.clear_away,
            *self._due(),
            self._ring_pending,
            self._seal_audit,
            *self._due_last(),
        ):
            try:
                step()
            except StorageFailed:
                raise  # so would the others
            except Exception as error:  # the edge of the process; also the broker's many exceptions
                log.exception("a step of the round broke", extra={"error": type(error).__name__})

    def _due(self) -> Iterator[Callable[[], object]]:
        """What is done less often than every round, where it is time."""
        now_s = self._clock_s()
        if now_s - self._surveyed_s >= SURVEY_S:
            self._surveyed_s = now_s
            yield self._catalogue.report_versions.look_again
            yield partial(self._catalogue.withheld.look_again, within_s=WITHHELD_S)
            yield self._catalogue.emergencies.end_due
            yield self._ask_for_merges
            yield self._upkeep.look
            yield self._mine_on
        if now_s - self._pruned_s >= PRUNE_S:
            self._pruned_s = now_s
            yield from self._pruning()
        if now_s - self._errands_s >= ERRANDS_S:
            self._errands_s = now_s
            yield self._errands.look

    def _due_last(self) -> Iterator[Callable[[], object]]:
        """Last: a bucket or an engine that stays away holds nothing else back."""
        now_s = self._clock_s()
        if now_s - self._swept_s >= SWEEP_S:
            self._swept_s = now_s
            yield self._sweep_files
        if now_s >= self._clears_s:
            self._clears_s = now_s + CLEAR_S
            yield self._clear_engines

    def _complete_quiet(self) -> None:
        for study_uid in self._catalogue.studies.complete_quiet(self._settings.quiet_period_s):
            log.info("study complete", extra={"study_uid": study_uid})
            traces.record("complete", 0.0, study_uid)

    def _ring_pending(self) -> None:
        """Each queue has a limit of its own, so that none fills the broker, and no pull takes the last thread."""
        catalogue, settings = self._catalogue, self._settings
        for job_id, urgency in catalogue.jobs.studies_to_announce(settings.worker_processes):
            self._ring_all([job_id], ENCODE_QUEUES[urgency])
        self._ring_all(catalogue.jobs.to_announce(_REPORTS, kinds=(JobKind.REPORT,)), QUEUE)
        self._ring_all(catalogue.jobs.to_announce(_MERGES, kinds=(JobKind.INDEX,)), INDEX_QUEUE)
        long = catalogue.jobs.to_announce(settings.transfer_threads - 1, kinds=_LONG, with_running=True)
        self._ring_all(long, TRANSFER_QUEUE)
        self._ring_all(catalogue.jobs.to_announce(16, kinds=_SENDING), TRANSFER_QUEUE)

    def _ring_all(self, job_ids: Sequence[int], queue: str) -> None:
        """Noted before it is sent: who hears at once would find the row locked by the note, and pass over it."""
        self._catalogue.jobs.announced(job_ids)
        waiting = list(job_ids)
        try:
            while waiting:
                self._ring(waiting[0], queue)
                del waiting[0]
        finally:
            if waiting:
                self._catalogue.jobs.not_announced(waiting)

    def _ask_for_merges(self) -> None:
        engine = self._catalogue.generations.engine()
        for partition, tail in self._tails.survey():
            moves = partition.published is not None and partition.engine != engine
            worn = any(is_worn(segment["count"], segment["deleted"]) for segment in partition.segments or ())
            if moves or worn or should_merge(partition.count, tail.n_tail, tail.n_gone):
                self._catalogue.jobs.enqueue_merge(partition.model_id, partition.region)

    def _seal_audit(self) -> None:
        """Seal the events of the audit trail; once an hour the log is a witness of how far it went."""
        now_s = self._clock_s()
        for _ in range(_SEALS):
            if self._catalogue.audit.seal() < MOST_PER_SEAL:
                break
        if now_s - self._witnessed_s >= _WITNESS_S:
            self._witnessed_s = now_s
            if last := self._catalogue.audit.last_seal():
                log.info("audit trail", extra={"seal": last.number, "digest": last.digest})

    def _restart_database(self) -> None:
        """Start the embedded Postgres again: without a supervisor nobody else does."""
        try:
            self._catalogue.revive()
        except RadirError as error:
            log.error("the database cannot be started", extra={"error": str(error)})

    def _pruning(self) -> Iterator[Callable[[], object]]:
        catalogue = self._catalogue
        yield self._encode_forgotten
        yield catalogue.withheld.look_again
        yield self._mine_again
        yield partial(catalogue.jobs.prune, KEEP_DONE_S)
        yield partial(catalogue.generations.prune, gone_keep_s=KEEP_GONE_S, generation_keep_s=KEEP_DONE_S)
        yield partial(catalogue.processes.prune, KEEP_SILENT_S)
        yield partial(catalogue.emergencies.prune, KEEP_GONE_S)
        yield catalogue.damage.prune
        yield partial(catalogue.commitments.prune, KEEP_GONE_S)
        yield partial(catalogue.refusals.prune, keep_s=KEEP_REFUSALS_S, most=MOST_REFUSALS)
        yield partial(catalogue.messages.prune, answered_s=KEEP_ANSWERS_S, kept_s=KEEP_REFUSALS_S)
        yield self._forget_reports
        yield self._make_room
        yield self._follow_retention
        yield self._upkeep.tidy
        yield self._prune_index

    def _encode_forgotten(self) -> None:
        for study_uid in self._catalogue.studies.encode_forgotten():
            log.error("a stable study had no job", extra={"study_uid": study_uid})

    def _mine_again(self) -> None:
        old = self._catalogue.reports.mine_again(PARSER, _OLD_REPORTS)
        self._mines_on = old == _OLD_REPORTS
        if old:
            log.info("reports of an earlier version are mined again", extra={"reports": old})

    def _mine_on(self) -> None:
        """The next ones when those are done: an archive has a million reports."""
        if self._mines_on and not self._catalogue.reports.waits():
            self._mine_again()

    def _forget_reports(self) -> None:
        if given_up := self._catalogue.report_versions.prune(self._settings.report_wait_days * DAY_S):
            log.warning("reports whose study never came are forgotten", extra={"reports": given_up})

    def _prune_index(self) -> None:
        home, now_s = self._settings.home, self._now_s()
        for model_id, region in self._catalogue.generations.to_forget(FORGET_S):
            self._catalogue.jobs.enqueue_merge(model_id, region)
        engine = self._catalogue.generations.engine()
        for partition in self._catalogue.generations.served():
            folder = partition_folder(home, partition.model_id, partition.region)
            if LOCAL in (engine, partition.engine):
                remove_unused(folder, now_s=now_s, keep=partition.published)
            else:  # both the index and its next build are elsewhere
                remove_partition(folder, now_s=now_s)
        kept = {model.model_id for model in self._catalogue.models.kept()}
        for model_id in remove_unserved_models(home, serving=kept, now_s=now_s, grace_s=KEEP_DONE_S):
            log.info("index of a retired model removed", extra={"model": model_id})

    def _clear_engines(self) -> None:
        """A few places at a time, and none of an engine that did not answer for one of them."""
        away: set[str] = set()
        for _ in range(_CLEARED):
            due = self._catalogue.generations.to_clear(GRACE_S)  # anew: one may be filled again meanwhile
            place = next((place for place in due if place[2] not in away), None)
            if place is None:
                return
            model_id, region, name = place
            try:
                self._engines.named(name).clear((model_id, region))
            except (EngineAway, SettingError) as error:
                log.error("engine not cleared", extra={"engine": name, "region": region, "error": str(error)})
                away.add(name)
                self._clears_s = self._clock_s() + PRUNE_S
                continue
            self._catalogue.generations.cleared(model_id, region, name)
            log.info("engine cleared", extra={"engine": name, "model": model_id, "region": region})

    def _make_room(self) -> None:
        """Not more often: where the PACS lacks the studies, it would be asked for them again and again."""
        if self._settings.evict_files and self._room.excess_bytes():
            self._catalogue.jobs.enqueue(JobKind.EVICT, FOR_ROOM)

    def _follow_retention(self) -> None:
        """A pass that stopped goes on at once; the next one begins an hour after the last."""
        self._catalogue.retention.prune()
        if not self._retention.removes:
            return
        last = self._catalogue.retention.last_pass()
        ended_s = last.ended_s if last is not None and last.rules == self._retention.sha256 else None
        if ended_s is None or ended_s >= PASS_EVERY_S:
            self._catalogue.jobs.enqueue(JobKind.EVICT, BY_RULE)

    def _sweep_files(self) -> None:
        part, self._part = self._part, (self._part + 1) % SWEEP_PARTS
        try:
            removed = self._blobs.sweep(self._catalogue.instances.known_blobs, part)
            if self._settings.disk_budget_mib:  # it reads the size of every file
                self._catalogue.disk.note_usage(part, *self._blobs.usage(part))
        except StorageFailed as error:
            log.error("files not swept", extra={"error": str(error), "part": part})
            return
        if removed:
            log.info("unreferenced files removed", extra={"files": removed})
