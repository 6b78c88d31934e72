"""Questions over HTTP at 10,000, 100,000 and 1,000,000 studies, beside the same vectors in other libraries.

    python -m benchmarks.speed.query_http [--sizes 10000,100000,1000000] [--work DIR] [--seconds 20]
        [--peers "numpy exact,hnswlib,faiss,pgvector"] [--fill | --migrate] [--json] [--out docs/results]

Fills a home folder of its own with studies (`hospital`; ``--work`` keeps it for the next run), starts the real
processes, and asks from small clients, one process each, over keep-alive connections. In this order: the first
question to a web process when nothing is built; `radir up` until the partition is built; after a restart
the first question again; every kind of question for ``--seconds``; then the processes' memory. Recall at 10 is against
exact search over the cases that may be answered.

A run takes its time for filling and for building the peers' indexes. ``--fill`` does that alone, on a machine that may
be busy; a run with the same ``--work`` then measures, when it is quiet. A home folder that another version filled is
refused, or brought up to date by ``--migrate``. hnswlib comes with the extra ``benchmark``, and needs a compiler.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import psycopg
from rich.progress import Progress

from benchmarks import results
from benchmarks.speed import stack
from benchmarks.speed.hospital import (
    DIM,
    FAMILIES,
    FINDING,
    RARE_MODALITY,
    REGION,
    Hospital,
    description_word,
    dicom_date,
    fill,
    number_of,
    patient_id,
    queries,
    uid_of,
)
from benchmarks.speed.http_client import Answers, Clients
from benchmarks.speed.peers import PEERS, K, check_installed
from radir_pacs.catalogue import Catalogue, start_embedded, stop_embedded
from radir_pacs.catalogue.migrate import migrations
from radir_pacs.cli.output import progress
from radir_pacs.config import Settings

CLIENTS = 4
DAY = 77
MOST_ASKED = 1000
JUDGED = 100  # answers of a kind whose recall is taken; exact search over a million takes a while
PEER_ASKED = 200
GROWTH_ASKED = 1.5  # ten times the studies: at most so many times the latency
_SURVEYS_S = 12.0  # two looks of the relay: one that asks for nothing more has ended
_BUILD_S = 7200.0
_STEPS = 16
_UNMEASURED = 3  # questions of a kind before the clock runs
_UID_TAG = "0020000D"


@dataclass(frozen=True, kw_only=True)
class Question:
    """A row of the table. ``asked``: p50 and p99 in ms that issue and promise name, None where they name none."""

    name: str
    path: Callable[[Hospital, int], str]
    filter: str | None = None  # of `Hospital.let_through`; None: no similar query
    clients: int = 1
    asked: tuple[float | None, float | None] = (None, None)


def similar(filters: str = "") -> Callable[[Hospital, int], str]:
    return lambda hospital, study: f"/dicom-web/studies/{uid_of(study)}/similar?anatomy={REGION}&limit={K}{filters}"


def listed(key: Callable[[Hospital, int], str]) -> Callable[[Hospital, int], str]:
    """A list as OHIF asks for it."""
    form = "limit=100&offset=0&includefield=00081030%2C00080060"
    return lambda hospital, study: f"/dicom-web/studies?{form}{key(hospital, study)}"


def _family(hospital: Hospital, study: int) -> str:
    return FAMILIES[hospital.attributes["family"][study]]


SIMILAR = (
    Question(name="similar, 1 client", path=similar(), filter="all", asked=(5, 25)),
    Question(name=f"similar, {CLIENTS} clients", path=similar(), filter="all", clients=CLIENTS, asked=(15, 40)),
    Question(name="one sex (half)", path=similar("&PatientSex=F"), filter="sex", asked=(8, 28)),
    Question(
        name="one modality (a tenth)",
        path=similar(f"&ModalitiesInStudy={RARE_MODALITY}"),
        filter="modality",
        asked=(8, 28),
    ),
    Question(name="one day (1 in 200)", path=similar(f"&StudyDate={dicom_date(DAY)}"), filter="day", asked=(8, 28)),
    Question(name="one finding (6 %)", path=similar(f"&finding={FINDING}"), filter="finding", asked=(8, 28)),
)
LISTS = (
    Question(name="QIDO, newest studies", path=listed(lambda *_: ""), asked=(None, 50)),
    Question(
        name="QIDO, patient id",
        path=listed(lambda h, study: f"&PatientID={patient_id(h.attributes['patient'][study])}"),
        asked=(None, 50),
    ),
    Question(
        name="QIDO, name, wildcard in front",
        path=listed(lambda h, study: f"&PatientName={quote('*' + _family(h, study)[1:].upper() + '*')}"),
        asked=(None, 50),
    ),
    Question(
        name="QIDO, description, wildcards",
        path=listed(lambda h, study: f"&StudyDescription={quote('*' + description_word(study) + '*')}"),
        asked=(None, 50),
    ),
    Question(
        name="QIDO, date",
        path=listed(lambda h, study: f"&StudyDate={dicom_date(int(h.attributes['day'][study]))}"),
        asked=(None, 50),
    ),
)


class Size:
    """All figures of one number of studies."""

    def __init__(self, count: int, work: Path, args: argparse.Namespace, clients: Clients, progress: Progress) -> None:
        self._hospital = Hospital(count=count)
        self._folder = work / str(count)
        self._args, self._clients, self._progress = args, clients, progress
        self._task = progress.add_task(f"{count:,} studies", total=_STEPS + len(args.peers))
        self.figures: dict[str, Any] = {"count": count, "vector_bytes": self._hospital.vectors.shape[1] * 4}

    def measure(self) -> dict[str, Any]:
        settings = stack.settings_in(self._folder / "home", log_level="WARNING")
        self._fill(settings)
        self._step("peers")
        self.figures["peers"] = self._peers(settings)
        if self._args.fill:
            return self.figures
        self._step("first question, nothing built")
        self._forget_index(settings)
        with stack.web_alone(settings) as pid:
            empty = stack.memory(pid)
            self.figures["first_unbuilt_s"] = self._first(settings)
        self._step("build")
        with stack.radir_up(settings):
            workers = [pid for name, pid in stack.pids(settings).items() if name.startswith(("worker", "indexer"))]
            before_mib = sum(map(stack.peak_mib, workers))
            self.figures["build_s"] = self._build(settings)
            self.figures["worker_mib"] = sum(map(stack.peak_mib, workers))
            self.figures["worker_before_mib"] = before_mib
        with stack.radir_up(settings):
            self.figures["first_after_restart_s"] = self._first(settings)
            rows = {}
            for question in (*SIMILAR, *LISTS):
                self._step(question.name)
                rows[question.name] = self._asked(settings, question)
            self.figures["questions"] = rows
            web = [stack.memory(pid) for name, pid in stack.pids(settings).items() if stack.is_web(name)]
        self.figures["web_processes"] = len(web)
        self.figures["web_mib"] = sum(one.rss for one in web)
        self.figures["web_pss_mib"] = sum(one.pss for one in web)
        self.figures["web_before_mib"] = empty.rss
        grown = (sum(one.pss for one in web) - len(web) * empty.pss) * 2**20
        self.figures["web_bytes_a_vector"] = grown / self.figures["count"]
        return self.figures

    def _step(self, what: str) -> None:
        self._progress.update(self._task, advance=1, description=f"{self.figures['count']:,} studies: {what}")

    def _fill(self, settings: Settings) -> None:
        filled, version = settings.home / "filled", str(max(migrations()))
        if filled.exists():
            if filled.read_text() != version:
                self._bring_up_to_date(settings)
                filled.write_text(version)
            return
        shutil.rmtree(self._folder, ignore_errors=True)
        settings.home.mkdir(parents=True)
        began = time.monotonic()
        try:
            fill(settings, self._hospital)
        finally:
            stop_embedded(settings.home)
        self.figures["fill_s"] = time.monotonic() - began
        filled.write_text(version)

    def _bring_up_to_date(self, settings: Settings) -> None:
        if not self._args.migrate:
            raise SystemExit(
                f"error: {settings.home} was filled by a version with another schema: bring it up to date by"
                " --migrate, or remove the folder to fill it anew"
            )
        try:
            with Catalogue.open(settings):
                pass
        finally:
            stop_embedded(settings.home)

    def _peers(self, settings: Settings) -> dict[str, Any]:
        found: dict[str, Any] = {}
        conninfo = start_embedded(settings.home)
        try:
            for name in self._args.peers:
                self._step(name)
                found[name] = self._peer(name, conninfo)
        finally:
            stop_embedded(settings.home)
        return found

    def _peer(self, name: str, conninfo: str) -> dict[str, Any]:
        hospital = self._hospital
        peer = PEERS[name](hospital, self._folder / "peers", conninfo)
        rows = {}
        for question in SIMILAR:
            if question.clients > 1 or question.filter is None:
                continue
            mask = hospital.let_through(question.filter, DAY)
            if self._args.fill:
                break
            peer.narrow(question.filter, None if question.filter == "all" else mask, DAY)
            studies = queries(hospital, min(PEER_ASKED, hospital.count))
            peer.search(hospital.vectors[studies[0]], K)
            deadline = time.monotonic() + self._args.seconds
            seconds, given = [], []
            for study in studies:
                began = time.perf_counter()
                labels = peer.search(hospital.vectors[study], K)
                seconds.append(time.perf_counter() - began)
                given.append((study, {int(label) for label in labels}))
                if time.monotonic() > deadline:
                    break
            truth = [(hospital.best(study, mask, K, own=True), labels) for study, labels in given[:JUDGED]]
            rows[question.name] = {
                "p50_ms": float(np.percentile(seconds, 50)) * 1e3,
                "p99_ms": float(np.percentile(seconds, 99)) * 1e3,
                "asked": len(seconds),
                "recall": _recall(truth),
            }
        return {**vars(peer.built), "questions": rows}

    def _forget_index(self, settings: Settings) -> None:
        """As if nothing had ever been built."""
        shutil.rmtree(settings.home / "index", ignore_errors=True)
        with psycopg.connect(start_embedded(settings.home), autocommit=True) as connection:
            connection.execute("TRUNCATE generation, job CASCADE")

    def _first(self, settings: Settings) -> float:
        """Seconds that the first question takes."""
        path = similar()(self._hospital, queries(self._hospital, 1)[0])
        return self._sound(self._clients.ask(settings.web_port, [path], 0.0, unmeasured=0)).seconds[0]

    def _build(self, settings: Settings) -> float:
        """Seconds from the first index job that the relay asks for to the end of the last."""
        seen, quiet_since = None, time.monotonic()
        deadline = quiet_since + _BUILD_S
        with psycopg.connect(start_embedded(settings.home), autocommit=True) as connection:
            while time.monotonic() < deadline:
                found = connection.execute(
                    "SELECT count(*), count(*) FILTER (WHERE state IN ('PENDING', 'RUNNING')),"
                    " extract(epoch FROM max(changed_at) - min(created_at))::float8 FROM job WHERE kind = 'index'"
                ).fetchone() or (0, 0, None)
                jobs, still_open, took_s = found
                if still_open or not jobs or found != seen:
                    seen, quiet_since = found, time.monotonic()
                elif time.monotonic() - quiet_since > _SURVEYS_S:
                    return float(took_s)
                time.sleep(0.1)
        raise SystemExit("error: the partition was not built in time")

    def _asked(self, settings: Settings, question: Question) -> dict[str, Any]:
        hospital = self._hospital
        studies = queries(hospital, min(MOST_ASKED, hospital.count))
        paths = [question.path(hospital, study) for study in studies]
        before_s = stack.processor_s(settings)
        answers = self._clients.ask(
            settings.web_port, paths, self._args.seconds, clients=question.clients, unmeasured=_UNMEASURED
        )
        spent_s = stack.processor_s(settings) - before_s
        self._sound(answers)
        row: dict[str, Any] = {
            "p50_ms": answers.ms(50),
            "p99_ms": answers.ms(99),
            "processor_ms": spent_s / (len(answers.seconds) + _UNMEASURED * question.clients) * 1e3,
            "asked": len(answers.seconds),
            "body_bytes": float(np.mean([len(body) for body in answers.bodies])),
        }
        if question.filter is not None and question.clients == 1:
            mask = hospital.let_through(question.filter, DAY)
            judged = list(zip(studies, answers.bodies, strict=False))[:JUDGED]
            row["recall"] = _recall([(hospital.best(study, mask, K), _answered(body)) for study, body in judged])
        return row

    @staticmethod
    def _sound(answers: Answers) -> Answers:
        """Every question has an answer, else its time says nothing."""
        if set(answers.statuses) != {200}:
            raise SystemExit(f"error: answered with {sorted(set(answers.statuses))}: {answers.bodies[0][:200]!r}")
        return answers


def _answered(body: bytes) -> set[int]:
    return {number_of(row[_UID_TAG]["Value"][0]) for row in json.loads(body)}


def _recall(pairs: Sequence[tuple[set[int], set[int]]]) -> float:
    """Of pairs (right, answered)."""
    return sum(len(right & answered) for right, answered in pairs) / max(1, sum(len(right) for right, _ in pairs))


def page(sizes: Sequence[dict[str, Any]], peers: Sequence[str]) -> str:
    """The result page: our table, how cost grows, the peers."""
    counts = [f"{size['count']:,}" for size in sizes]
    lines = [
        "# Questions over HTTP",
        "",
        f"Studies filled straight into the catalogue, one region, {DIM} numbers per vector, one small client over HTTP"
        " unless the row says otherwise; `radir up` with its default settings. *p50 / p99* in milliseconds, in"
        " brackets the processor time of web and Postgres per question; *recall* at 10, against exact search over the"
        " cases that may be answered.",
        "",
        *_head("what", *(f"{count} studies" for count in counts), "grows, per ten times", "asked"),
    ]
    for question in (*SIMILAR, *LISTS):
        rows = [size["questions"][question.name] for size in sizes]
        lines.append(
            _line(question.name, *map(_cell, rows), _growth([r["p50_ms"] for r in rows], sizes), _asked(question))
        )
    lines += [_line(name, *(show(size) for size in sizes), "", asked) for name, show, asked in _FIGURES]
    lines += ["", f"Growth is of the median, from one size to the next; at most {GROWTH_ASKED} times is asked."]
    if peers:
        lines += ["", "## The same vectors in other libraries", "", _PEERS_TEXT]
        for size, count in zip(sizes, counts, strict=True):
            lines += ["", *_head(f"{count} vectors", "RadIR-PACS over HTTP", *peers)]
            for question in SIMILAR:
                if question.clients == 1:
                    own = _cell(size["questions"][question.name])
                    theirs = [_cell(size["peers"][peer]["questions"][question.name]) for peer in peers]
                    lines.append(_line(question.name, own, *theirs))
            built = [size["peers"][peer] for peer in peers]
            lines.append(_line("build, s", f"{size['build_s']:.1f}", *(f"{one['build_s']:.1f}" for one in built)))
            own_bytes = f"{size['web_bytes_a_vector']:,.0f}"
            lines.append(_line("bytes per vector", own_bytes, *(f"{one['bytes_a_vector']:,.0f}" for one in built)))
    return "\n".join(lines) + "\n"


_PEERS_TEXT = (
    "Called in one process, on one thread, without HTTP, attributes, rights or deletions: a floor. Graphs with M 16,"
    " ef_construction 200, ef 128. A filter is a Python function for hnswlib, a bitmap for faiss, a condition with"
    " iterative scan for pgvector (its build loads the table too). Bytes: ours by which the web processes grew, theirs"
    " of the index as saved, of table and indexes for pgvector. An index kept by --work shows the time of the run that"
    " built it, which may have had less of the machine."
)
_FIGURES: tuple[tuple[str, Callable[[dict[str, Any]], str], str], ...] = (
    ("first question, nothing built, s", lambda size: f"{size['first_unbuilt_s']:.2f}", "1 (3 at a million)"),
    ("first question after a restart, s", lambda size: f"{size['first_after_restart_s']:.2f}", "1 (3 at a million)"),
    ("build of the partition, s", lambda size: f"{size['build_s']:.1f}", "10 at 100,000, 150 at a million"),
    (
        "memory of web, before / after, MiB",
        lambda size: f"{size['web_before_mib']:,.0f} / {size['web_mib']:,.0f}",
        "",
    ),
    ("bytes per vector in web (shared pages once)", lambda size: f"{size['web_bytes_a_vector']:,.0f}", "800"),
    (
        "peak of worker and indexer, before / while building, MiB",
        lambda size: f"{size['worker_before_mib']:,.0f} / {size['worker_mib']:,.0f}",
        "",
    ),
)


def _cell(row: dict[str, Any]) -> str:
    recall = f", recall {row['recall']:.3f}" if "recall" in row else ""
    processor = f" ({_ms(row['processor_ms'])})" if "processor_ms" in row else ""
    return f"{_ms(row['p50_ms'])} / {_ms(row['p99_ms'])}{processor}{recall}"


def _ms(value: float) -> str:
    return f"{value:.0f}" if value >= 20 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def _growth(medians: Sequence[float], sizes: Sequence[dict[str, Any]]) -> str:
    """How many times longer the median is for ten times the studies, between neighbouring sizes."""
    grown = []
    for at in range(1, len(sizes)):
        tenfold = np.log10(sizes[at]["count"] / sizes[at - 1]["count"])
        grown.append(f"{(medians[at] / medians[at - 1]) ** (1 / tenfold):.1f}")
    return ", ".join(grown)


def _asked(question: Question) -> str:
    p50, p99 = question.asked
    if p99 is None:
        return ""
    return f"p99 {p99:g}" if p50 is None else f"{p50:g} / {p99:g}"


def _head(*cells: str) -> list[str]:
    return [_line(*cells), _line(*("---" for _ in cells))]


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="10000,100000,1000000", help="numbers of studies")
    parser.add_argument("--work", type=Path, help="folder that keeps filled catalogues and the peers' indexes")
    parser.add_argument("--seconds", type=float, default=20.0, help="most that one kind of question is asked for")
    parser.add_argument("--peers", default=",".join(PEERS), help="names, or empty")
    parser.add_argument("--fill", action="store_true", help="only fill, and build the peers' indexes (needs --work)")
    parser.add_argument("--migrate", action="store_true", help="bring a home folder of another version up to date")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--out", type=Path, help="folder for the result page, docs/results")
    args = parser.parse_args()
    args.peers = [name for name in args.peers.split(",") if name]
    if args.fill and args.work is None:
        parser.error("--fill keeps what it does in the folder that --work names")
    check_installed(args.peers)
    sizes = sorted(int(size) for size in args.sizes.split(","))
    clients = Clients(CLIENTS)
    with tempfile.TemporaryDirectory(prefix="radir-", ignore_cleanup_errors=True) as temporary:
        work = args.work or Path(temporary)
        with progress() as bars:
            figures = [Size(size, work.resolve(), args, clients, bars).measure() for size in sizes]
    clients.close()
    if args.fill:
        return 0
    text = page(figures, args.peers)
    if args.out:
        results.write(args.out, "query-http", {"sizes": figures}, text)
    print(json.dumps(figures) if args.json else text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
