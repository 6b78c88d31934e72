"""Figures of the archive, read from the catalogue when they are asked for. Every machine would answer the same.

Whoever scrapes often, or by several, costs the database no more: an answer is kept for some seconds, and what reads
much of a table for a minute.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from radir_pacs.catalogue import SILENT_S, Catalogue
from radir_pacs.errors import RadirError
from radir_pacs.monitoring.tails import Tails
from radir_pacs.types import StudyState


class ArchiveFigures(Collector):
    """``collect`` may be called by several threads; without the database it says no more than that.

    A part that cannot be read takes nothing from the other: a count of the whole archive may be too slow one day, and
    the queues are what alarms go by.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        fresh_s: float = 5.0,
        counted_s: float = 60.0,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._catalogue, self._clock_s = catalogue, clock_s
        self._tails = Tails(catalogue)
        self._lock = threading.Lock()
        self._parts = {"work": _Kept(fresh_s, self._work), "holdings": _Kept(counted_s, self._holdings)}

    def describe(self) -> Iterable[Metric]:
        """Nothing: else the registry would ask the database while it registers this."""
        return ()

    def collect(self) -> Iterable[Metric]:
        with self._lock:
            found: list[Metric] = []
            failed = dict.fromkeys(self._parts, 0)
            for name, part in self._parts.items():
                if failed["work"]:  # the database does not answer: do not wait for it twice
                    failed[name] = 1
                    continue
                try:
                    found += part.get(self._clock_s())
                except RadirError:
                    failed[name] = 1
        return [
            _family("radir_database_up", "Whether the database answers.", [], [([], 1 - failed["work"])]),
            _family(
                "radir_figures_failed",
                "1 where figures of the archive cannot be read.",
                ["part"],
                [([name], value) for name, value in failed.items()],
            ),
            *found,
        ]

    def _work(self) -> list[Metric]:
        """What is to do, who does it, and what went wrong."""
        figures = self._catalogue.figures
        queues = figures.queues()
        processes = self._catalogue.processes.all()
        receivers = self._catalogue.audit_receivers.all()
        alive = [row for row in processes if row.silent_s < SILENT_S]
        up = {_role(row.name): 0 for row in processes}
        for row in alive:
            up[_role(row.name)] += 1
        return [
            _family(
                "radir_queue_jobs",
                "Jobs that wait or run, by queue.",
                ["queue", "state"],
                [([q.queue, "waiting"], q.waiting) for q in queues]
                + [([q.queue, "running"], q.running) for q in queues],
            ),
            _family(
                "radir_queue_oldest_seconds",
                "How long the oldest job of a queue has waited; 0: none waits.",
                ["queue"],
                [([q.queue], q.oldest_s) for q in queues],
            ),
            _family(
                "radir_jobs_failed",
                "Jobs that failed for good and that nobody asked for again.",
                ["kind", "reason"],
                [([one.where, one.reason_code], one.count) for one in self._catalogue.survey.failed_jobs()],
            ),
            _family(
                "radir_audit_unsent_events",
                "Events of the audit trail that a receiver did not confirm yet.",
                ["receiver"],
                [([one.name], one.waiting) for one in receivers],
            ),
            _family(
                "radir_audit_unsent_oldest_seconds",
                "How long the oldest of them has waited; 0: none waits.",
                ["receiver"],
                [([one.name], one.oldest_s) for one in receivers],
            ),
            _family(
                "radir_emergency_accesses",
                "Patients that radiologists opened out of scope with a reason, open now or begun within the last hour.",
                [],
                [([], self._catalogue.emergencies.figure())],
            ),
            _family(
                "radir_processes_up",
                "Processes of a role that send heartbeats, on all machines.",
                ["role"],
                [([role], count) for role, count in sorted(up.items())],
            ),
        ]

    def _holdings(self) -> list[Metric]:
        """What the archive holds: studies, models, partitions."""
        catalogue = self._catalogue
        survey = list(self._tails.survey())
        models = catalogue.models.kept()
        return [
            _family(
                "radir_studies",
                "Studies by state.",
                ["state"],
                [([state], count) for state, count in catalogue.figures.studies().items()],
            ),
            _family(
                "radir_studies_quarantined",
                "Studies that should have been encoded and could not be.",
                ["reason"],
                [([one.reason_code], one.count) for one in catalogue.survey.set_aside(StudyState.QUARANTINED)],
            ),
            _family(
                "radir_files_away",
                "Files of pictures that were removed on purpose: to make room, or by a rule of retention.",
                ["reason"],
                [([reason.value], count) for reason, count in catalogue.disk.away().items()],
            ),
            _family(
                "radir_partition_cases",
                "Vectors that the generation of a partition holds.",
                ["model", "region"],
                [([one.model_id, one.region], one.count) for one, _ in survey],
            ),
            _family(
                "radir_partition_tail",
                "Vectors that no generation holds yet, which are searched exactly.",
                ["model", "region"],
                [([one.model_id, one.region], tail.n_tail) for one, tail in survey],
            ),
            _family(
                "radir_generation_age_seconds",
                "Age of the generation that answers for a partition.",
                ["model", "region"],
                [([one.model_id, one.region], one.age_s) for one in catalogue.figures.generations()],
            ),
            _family(
                "radir_model_info",
                "1 for each model that is kept.",
                ["model", "kind", "state"],
                [([model.model_id, model.kind, model.state], 1) for model in models],
            ),
            _family(
                "radir_model_coverage",
                "Share of the studies that a model has encoded.",
                ["model"],
                [([model.model_id], catalogue.models.coverage(model.model_id).share) for model in models],
            ),
        ]


class _Kept:
    """What was read, until it is too old."""

    def __init__(self, fresh_s: float, read: Callable[[], list[Metric]]) -> None:
        self._fresh_s, self._read = fresh_s, read
        self._metrics: list[Metric] = []
        self._read_s = float("-inf")

    def get(self, now_s: float) -> list[Metric]:
        if now_s - self._read_s > self._fresh_s:
            self._metrics, self._read_s = self._read(), now_s
        return self._metrics


def _role(process: str) -> str:
    """``worker`` of ``worker-2@machine``."""
    return process.partition("@")[0].partition("-")[0]


def _family(
    name: str, documentation: str, labels: Sequence[str], samples: Iterable[tuple[Sequence[str], float]]
) -> Metric:
    family = GaugeMetricFamily(name, documentation, labels=labels)
    for values, value in samples:
        family.add_metric([str(one) for one in values], value)
    return family
