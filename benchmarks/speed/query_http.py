"""Questions over HTTP at 10,000, 100,000 and 1,000,000 studies, beside the same vectors in other libraries.

    python -m benchmarks.speed.query_http [--sizes 10000,100000,1000000] [--work DIR] [--seconds 20]
        [--peers "numpy exact,hnswlib,faiss,pgvector"] [--peers-most N --peers-of FILE] [--fill | --migrate] [--json]
        [--out docs/results]

Fills a home folder of its own with studies (`hospital`; ``--work`` keeps it for the next run), starts the real
processes, and asks from small clients, one process each, over keep-alive connections. In this order: the first
question to a web process when nothing is built; `radir up` until the partition is built; after a restart
the first question again; every kind of question for ``--seconds``; then the processes' memory. Recall at 10 is against
exact search over the cases that may be answered.

A run takes its time for filling and for building the peers' indexes. ``--fill`` does that alone, on a machine that may
be busy; a run with the same ``--work`` then measures, when it is quiet. A home folder that another version filled is
refused, or brought up to date by ``--migrate``. The peers take half an hour to build a million vectors: with
``--peers-most 100000 --peers-of docs/results/query-http.json`` their figures at a million are those of an earlier page,
and the page says of which run. hnswlib comes with the extra ``benchmark``, and needs a compiler.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from rich.progress import Progress

from benchmarks import results
from benchmarks.speed import stack
from benchmarks.speed.hospital import Hospital, fill, number_of, queries
from benchmarks.speed.http_client import Answers, Clients
from benchmarks.speed.peers import PEERS, K, check_installed
from benchmarks.speed.query_http_page import page
from benchmarks.speed.query_http_questions import CLIENTS, DAY, LISTS, SIMILAR, Question, similar
from radir_pacs.catalogue import Catalogue, start_embedded, stop_embedded
from radir_pacs.catalogue.migrate import migrations
from radir_pacs.cli.output import progress
from radir_pacs.config import Settings

MOST_ASKED = 1000
JUDGED = 100  # answers of a kind whose recall is taken; exact search over a million takes a while
PEER_ASKED = 200
_SURVEYS_S = 12.0  # two looks of the relay: one that asks for nothing more has ended
_BUILD_S = 7200.0
_STEPS = 16
_UNMEASURED = 3  # questions of a kind before the clock runs
_UID_TAG = "0020000D"


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
        if self._hospital.count <= self._args.peers_most:
            self.figures["peers"] = self._peers(settings)
        else:
            self.figures |= _of_earlier_run(self._args.peers_of, self._hospital.count, self._args.peers)
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
        files = sum(file.stat().st_size for file in (settings.home / "index").rglob("*") if file.is_file())
        self.figures["index_bytes_a_vector"] = files / self.figures["count"]
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


def _of_earlier_run(result: Path | None, count: int, names: Sequence[str]) -> dict[str, Any]:
    """The peers' figures at this size from the page of a run that had them, and which run that was."""
    if not names:
        return {"peers": {}}
    found = json.loads(result.read_text()) if result is not None else {"sizes": []}
    peers: dict[str, Any] = next((size["peers"] for size in found["sizes"] if size["count"] == count), {})
    if missing := [name for name in names if name not in peers]:
        raise SystemExit(f"error: --peers-of names no page with {', '.join(missing)} at {count:,} vectors")
    run = found["made"]
    of_run = next((size.get("peers_run") for size in found["sizes"] if size["count"] == count), None)
    made = of_run or f"{run['date']} at commit {run['commit']}"
    return {"peers": {name: peers[name] for name in names}, "peers_run": made}


def _answered(body: bytes) -> set[int]:
    return {number_of(row[_UID_TAG]["Value"][0]) for row in json.loads(body)}


def _recall(pairs: Sequence[tuple[set[int], set[int]]]) -> float:
    """Of pairs (right, answered)."""
    return sum(len(right & answered) for right, answered in pairs) / max(1, sum(len(right) for right, _ in pairs))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="10000,100000,1000000", help="numbers of studies")
    parser.add_argument("--work", type=Path, help="folder that keeps filled catalogues and the peers' indexes")
    parser.add_argument("--seconds", type=float, default=20.0, help="most that one kind of question is asked for")
    parser.add_argument("--peers", default=",".join(PEERS), help="names, or empty")
    parser.add_argument(
        "--peers-most", type=int, default=10**9, help="vectors with which the peers are measured at most"
    )
    parser.add_argument("--peers-of", type=Path, help="query-http.json with their figures at sizes beyond that")
    parser.add_argument("--fill", action="store_true", help="only fill, and build the peers' indexes (needs --work)")
    parser.add_argument("--migrate", action="store_true", help="bring a home folder of another version up to date")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--out", type=Path, help="folder for the result page, docs/results")
    args = parser.parse_args()
    args.peers = [name for name in args.peers.split(",") if name]
    if args.fill and args.work is None:
        parser.error("--fill keeps what it does in the folder that --work names")
    sizes = sorted(int(size) for size in args.sizes.split(","))
    check_installed(args.peers if sizes[0] <= args.peers_most else [])
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
