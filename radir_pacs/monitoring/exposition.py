"""All figures of this machine as text: what its processes count together, its disk, and the archive where asked for."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from radir_pacs import __version__
from radir_pacs.config import Settings

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Exposition:
    """``text`` may be asked by several threads."""

    def __init__(self, settings: Settings, folder: Path | None, *more: Collector) -> None:
        """``folder``: where processes count together; None: only what this process counts."""
        self._registry = CollectorRegistry()
        if folder is not None:
            MultiProcessCollector(self._registry, path=str(folder))  # type: ignore[no-untyped-call]
        else:
            self._registry.register(_Own())
        for collector in (Machine(settings), *more):
            self._registry.register(collector)

    def text(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self._registry)


class _Own(Collector):
    """The figures of this process that are ours."""

    def collect(self) -> Iterator[Metric]:
        return (metric for metric in REGISTRY.collect() if metric.name.startswith("radir_"))


class Machine(Collector):
    """Room on the disk that holds the home folder, and the version."""

    def __init__(self, settings: Settings) -> None:
        self._home, self._least = settings.home, settings.min_free_disk_mib << 20

    def collect(self) -> Iterator[Metric]:
        build = GaugeMetricFamily("radir_build_info", "1 for the version that runs.", labels=["version"])
        build.add_metric([__version__], 1)
        yield build
        try:
            usage = shutil.disk_usage(self._home)
        except OSError:  # a disk that is away; what needs it says so
            return
        yield _gauge("radir_disk_free_bytes", "Free space on the disk of the home folder.", usage.free)
        yield _gauge("radir_disk_total_bytes", "Size of the disk of the home folder.", usage.total)
        yield _gauge("radir_disk_kept_free_bytes", "Free space below which nothing more is stored.", self._least)


def _gauge(name: str, documentation: str, value: float) -> Metric:
    return GaugeMetricFamily(name, documentation, value=value)
