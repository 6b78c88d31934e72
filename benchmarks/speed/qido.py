"""QIDO searches of a large catalogue, beside the plain sequential form of the same searches.

    python -m benchmarks.speed.qido [--studies 1000000] [--rounds 100] [--out docs/results]

Fills an embedded Postgres of its own as the version before ``study_search`` had it, times the migration, and asks what
OHIF's study list and other viewers ask, about another study in each round. A search is one call of
`Catalogue.qido.search`: matches, their number and the rows of the page, without HTTP. The sequential form counts all
matches and sorts them, with no index; it runs SEQUENTIAL_ROUNDS times. A study has one series of one instance. CPU ms
are of this process and of its server process, wall ms what a caller waits: on a busy machine the former mean more. What
the indexes cost is measured before and after the migration by one INSERT or UPDATE per instance, and by COPY.
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psycopg
from rich.console import Console
from rich.table import Table

from benchmarks import results
from radir_pacs.catalogue import Catalogue, embedded
from radir_pacs.catalogue import migrate as migrate_module
from radir_pacs.catalogue.migrate import migrate, migrations
from radir_pacs.catalogue.names import folded
from radir_pacs.catalogue.qido import QidoLevel, QidoQuery
from radir_pacs.catalogue.qido_page_starts import FIRST
from radir_pacs.catalogue.qido_statements import Search
from radir_pacs.config import Settings
from radir_pacs.similar_cases import Match

BEFORE = 17  # the last version without study_search
SEQUENTIAL_ROUNDS = 3
LIMIT = 101  # what OHIF asks for
LATEST, DAYS = date(2026, 6, 30), 5400
ONE_BY_ONE, COPIED = 1_000, 100_000
WANTED_MS = 50.0

NAME, REFERRING, PATIENT_ID = "00100010", "00080090", "00100020"
ACCESSION, DESCRIPTION, DATE, MODALITIES = "00080050", "00081030", "00080020", "00080061"
_VRS = {NAME: "PN", REFERRING: "PN", DATE: "DA", MODALITIES: "CS", "0020000D": "UI"}
_SYLLABLES = "an ber car do el fi ga ha in jo ka lu ma ne ol pe qui ro sa ti um va we xi yo za sch mül ler stein son ez"
_PARTS = ("Chest", "Thorax", "Low dose lung", "Chest and abdomen", "Chest PA and lateral", "Trauma", "Angiography")
_HOW = ("", "with contrast", "without contrast", "follow-up", "routine", "screening", "portable", "bedside")
_COLUMNS = (
    "study_uid, state, revision, patient_key, patient_keys, patient_id, patient_name, patient_name_folded, patient_sex,"
    " patient_birth_date, study_date, study_time, accession_number, study_description, referring_physician,"
    " referring_physician_folded, modalities"
)
_STORE = (  # of an instance that arrives, what these columns and their indexes cost
    f"INSERT INTO study ({_COLUMNS}) VALUES ({', '.join(['%s'] * len(_COLUMNS.split(', ')))})"
    " ON CONFLICT (study_uid) DO UPDATE SET revision = study.revision + 1, state = excluded.state"
)
_SERIES = (
    "INSERT INTO series (series_uid, study_uid, modality, series_number)"
    " SELECT study_uid || '.1', study_uid, modalities[1], 1 FROM study"
)
_INSTANCES = (
    "INSERT INTO instance (sop_uid, series_uid, study_uid, sop_class_uid, transfer_syntax_uid, rows_px, columns_px,"
    " content_sha256, size_bytes, attributes) SELECT study_uid || '.1.1', study_uid || '.1', study_uid,"
    " '1.2.840.10008.5.1.4.1.1.1.1', '1.2.840.10008.1.2.1', 2048, 2048, md5(study_uid) || md5(study_uid), 8388608,"
    """ '{"00080060": {"vr": "CS", "Value": ["DX"]}}' FROM study"""
)


class Hospital:
    """Makes studies, by their number; a study's patient is one of 0.6 times as many as there are studies."""

    def __init__(self, studies: int) -> None:
        rng = random.Random(0)
        syllables = _SYLLABLES.split()
        self.families = ["".join(rng.choices(syllables, k=rng.randint(2, 4))).capitalize() for _ in range(60_000)]
        self.givens = ["".join(rng.choices(syllables, k=rng.randint(1, 3))).capitalize() for _ in range(3_000)]
        self.doctors = [f"{rng.choice(self.families)}^{rng.choice(self.givens)}" for _ in range(4_000)]
        self.folded = {name: folded(name) for name in (*self.families, *self.givens, *self.doctors)}
        self.studies = studies

    def study(self, number: int) -> tuple[Any, ...]:
        """The values of _COLUMNS; the newest studies have the highest numbers."""
        rng = random.Random(number)
        patient = rng.randrange(self.studies * 6 // 10 + 1)
        of_patient = random.Random(-patient)
        family, given, patient_id = (
            of_patient.choice(self.families),
            of_patient.choice(self.givens),
            f"PAT{patient:08d}",
        )
        doctor = rng.choice(self.doctors)
        modality = rng.choices(("DX", "CR", "CT", "MR", "XA"), (50, 29.9, 18, 2, 0.1))[0]
        born, day = timedelta(days=of_patient.randrange(30_000)), timedelta(days=number * DAYS // self.studies)
        key, said = f"|{patient_id}", f"{modality} {rng.choice(_PARTS)} {rng.choice(_HOW)}".strip()
        at = f"{rng.randrange(7, 20):02d}{rng.randrange(60):02d}00"
        return (
            f"1.2.826.0.1.3680043.8.498.{number:012d}", "INDEXED", 1, key, [key], patient_id, f"{family}^{given}",
            f"{self.folded[family]}^{self.folded[given]}", of_patient.choice("MF"), date(1930, 1, 1) + born,
            LATEST - timedelta(days=DAYS) + day, at, f"ACC{number * 7919 % 100_000_007:09d}", said, doctor,
            self.folded[doctor], [modality],
        )  # fmt: skip

    def copy(self, connection: psycopg.Connection[Any], numbers: Iterable[int]) -> None:
        with connection.cursor() as cursor, cursor.copy(f"COPY study ({_COLUMNS}) FROM STDIN".encode()) as copy:
            for number in numbers:
                copy.write_row(self.study(number))


Asked = Callable[[Mapping[str, Any], random.Random], Mapping[str, str]]  # of a study, keys that find it


def piece(text: str, length: int, rng: random.Random) -> str:
    start = rng.randrange(max(1, len(text) - length + 1))
    return text[start : start + length]


def family(study: Mapping[str, Any]) -> str:
    return str(study["patient_name"]).split("^")[0]


SEARCHES: Mapping[str, Asked] = {
    "no filter": lambda study, rng: {},
    "PatientID": lambda study, rng: {PATIENT_ID: study["patient_id"]},
    "PatientID, `*` on both sides": lambda study, rng: {PATIENT_ID: f"*{study['patient_id']}*"},
    "PatientID, `*` and the last five": lambda study, rng: {PATIENT_ID: f"*{study['patient_id'][-5:]}"},
    "AccessionNumber": lambda study, rng: {ACCESSION: study["accession_number"]},
    "AccessionNumber, `*` on both sides": lambda study, rng: {ACCESSION: f"*{study['accession_number']}*"},
    "PatientName, `*` at the end": lambda study, rng: {NAME: f"{family(study)}*"},
    "PatientName, five characters between `*`": lambda study, rng: {NAME: f"*{piece(family(study), 5, rng)}*"},
    "PatientName, three characters between `*`": lambda study, rng: {NAME: f"*{piece(family(study), 3, rng)}*"},
    "PatientName, two characters between `*`": lambda study, rng: {NAME: f"*{piece(family(study), 2, rng)}*"},
    "PatientName, one character between `*`": lambda study, rng: {NAME: f"*{piece(family(study), 1, rng)}*"},
    "PatientName, `*` in the middle": lambda study, rng: {NAME: f"{family(study)[:3]}*{family(study)[-2:]}^*"},
    "PatientName, fuzzy": lambda study, rng: {NAME: family(study), "fuzzy": "true"},
    "ReferringPhysicianName, `*` on both sides": lambda study, rng: {
        REFERRING: f"*{str(study['referring_physician']).split('^')[0]}*"
    },
    "StudyDescription, a word between `*`": lambda study, rng: {
        DESCRIPTION: f"*{rng.choice(str(study['study_description']).split())}*"
    },
    "StudyDate": lambda study, rng: {DATE: f"{study['study_date']:%Y%m%d}"},
    "StudyDate, a year": lambda study, rng: {DATE: f"{study['study_date']:%Y}0101-{study['study_date']:%Y}1231"},
    "ModalitiesInStudy, a fifth of all": lambda study, rng: {MODALITIES: "CT"},
    "ModalitiesInStudy, a thousandth": lambda study, rng: {MODALITIES: "XA"},
    "name, modality and dates": lambda study, rng: {
        NAME: f"*{piece(family(study), 4, rng)}*",
        MODALITIES: study["modalities"][0],
        DATE: f"{study['study_date']:%Y}0101-{LATEST:%Y%m%d}",
    },
    "100 StudyInstanceUIDs": lambda study, rng: {
        "0020000D": "\\".join(f"{study['study_uid'][:-12]}{int(study['study_uid'][-12:]) - n:012d}" for n in range(100))
    },
}


def query_of(keys: Mapping[str, str], offset: int = 0) -> QidoQuery:
    """A study list with the attributes that OHIF includes."""
    given = {tag: value for tag, value in keys.items() if tag != "fuzzy"}
    asked = tuple(
        Match(path=(tag,), vr=_VRS.get(tag, "LO"), values=tuple(value.split("\\"))) for tag, value in given.items()
    )
    tags = frozenset({DESCRIPTION, "00080060"})
    return QidoQuery(level=QidoLevel.STUDY, limit=LIMIT, offset=offset, matches=asked, fuzzy="fuzzy" in keys, tags=tags)


@dataclass(frozen=True, kw_only=True)
class Figures:
    search: str
    matches: str
    wall_ms: list[float]
    cpu_ms: list[float]
    sequential_ms: float | None

    def cells(self) -> tuple[str, ...]:
        def ends(times: list[float]) -> tuple[str, str]:
            return f"{statistics.median(times):.1f}", f"{quantile(times, 0.99):.1f}"

        sequential = "–" if self.sequential_ms is None else f"{self.sequential_ms:,.0f}"
        return self.search, self.matches, *ends(self.cpu_ms), *ends(self.wall_ms), sequential


def quantile(times: list[float], share: float) -> float:
    return sorted(times)[min(len(times) - 1, int(share * len(times)))]


class Stopwatch:
    """CPU time of this process and of the server process of a connection, in ms."""

    def __init__(self, server_pid: int) -> None:
        self._server = Path(f"/proc/{server_pid}/schedstat")

    def __call__(self) -> float:
        return time.process_time() * 1e3 + int(self._server.read_text().split()[0]) / 1e6


def watch_of(connection: psycopg.Connection[Any]) -> Stopwatch:
    return Stopwatch(connection.info.backend_pid)


def searched(
    catalogue: Catalogue, watch: Stopwatch, queries: Iterable[QidoQuery]
) -> tuple[list[float], list[float], list[int]]:
    """(wall ms, CPU ms, matches, those that are not counted left out)."""
    wall, cpu, matches = [], [], []
    for query in queries:
        before, start = watch(), time.perf_counter()
        page = catalogue.qido.search(query)
        wall.append((time.perf_counter() - start) * 1e3)
        cpu.append(watch() - before)
        matches.append(query.offset + len(page.rows) + page.more)
    return wall, cpu, matches


def sequential_ms(connection: psycopg.Connection[Any], query: QidoQuery) -> float:
    """Count all and sort all, as a table without indexes is searched."""
    search = Search.of(query)
    sql, params = replace(search, condition=replace(search.condition, terms=None)).sorted(FIRST)
    start = time.perf_counter()
    counted, below = search.reckoned()
    with connection.transaction():
        for way in ("indexscan", "indexonlyscan", "bitmapscan"):
            connection.execute(f"SET LOCAL enable_{way} = off".encode())
        connection.execute(f"SELECT count(*) FROM ({counted}) AS found".encode(), below)
        connection.execute(sql.encode(), params).fetchall()
    return (time.perf_counter() - start) * 1e3


def measure(conninfo: str, home: Path, rounds: int) -> list[Figures]:
    rng, figures = random.Random(1), []
    with (
        Catalogue.open(Settings(home=home, database_url=conninfo)) as catalogue,
        psycopg.connect(conninfo, autocommit=True, row_factory=psycopg.rows.dict_row) as plain,
    ):
        some = "SELECT * FROM study ORDER BY md5(study_uid) LIMIT %s"
        studies = plain.execute(some, [rounds]).fetchall()
        with catalogue.qido._database.transaction() as connection:  # the pool's one connection, for its process id
            watch = watch_of(connection)
        for name, keys in SEARCHES.items():
            queries = [query_of(keys(study, rng)) for study in studies]
            wall, cpu, matches = searched(catalogue, watch, queries)
            slow = [sequential_ms(plain, query) for query in queries[:SEQUENTIAL_ROUNDS]]
            found = f"{statistics.median(matches):,.0f}"
            figures.append(
                Figures(search=name, matches=found, wall_ms=wall, cpu_ms=cpu, sequential_ms=statistics.median(slow))
            )
        deep: Mapping[str, Mapping[str, str]] = {"no filter": {}, "ModalitiesInStudy": {MODALITIES: "CT"}}
        for name, asked in deep.items():
            last = int(plain.execute("SELECT count(*) AS n FROM study").fetchall()[0]["n"]) // (12 if asked else 2)
            pages = [query_of(asked, last + LIMIT * page) for page in range(rounds)]
            first, rest = searched(catalogue, watch, pages[:1]), searched(catalogue, watch, pages[1:])
            for which, (wall, cpu, _) in ((f"at once from {last:,} on", first), ("the pages after it", rest)):
                figures.append(
                    Figures(search=f"{name}, {which}", matches="–", wall_ms=wall, cpu_ms=cpu, sequential_ms=None)
                )
    return figures


def stored(conninfo: str, hospital: Hospital, first: int) -> dict[str, float]:
    """What a study costs in us of the server's CPU: new, with another instance, and among many that are copied."""
    costs = {}
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("SET synchronous_commit = off")  # it is not the disk that is measured
        server = Path(f"/proc/{connection.info.backend_pid}/schedstat")

        def us() -> float:
            return int(server.read_text().split()[0]) / 1e3

        studies = [hospital.study(number) for number in range(first, first + ONE_BY_ONE)]
        for name in ("new", "another instance"):
            before = us()
            for values in studies:
                connection.execute(_STORE.encode(), values)
            costs[name] = (us() - before) / ONE_BY_ONE
        before, start = us(), time.perf_counter()
        hospital.copy(connection, range(first + ONE_BY_ONE, first + ONE_BY_ONE + COPIED))
        costs["copied"] = (us() - before) / COPIED
        costs["copied_s"] = time.perf_counter() - start
        connection.execute("DELETE FROM study WHERE study_uid > %s", [hospital.study(first - 1)[0]])
        connection.execute("VACUUM ANALYZE")
    return costs


def page_of(studies: int, migrated_s: float, costs: Mapping[str, Mapping[str, float]], figures: list[Figures]) -> str:
    """The result page."""
    rows = "\n".join(f"| {' | '.join(one.cells())} |" for one in figures)
    table = "\n".join(
        f"| {name} | {costs['before'][key]:,.0f} | {costs['after'][key]:,.0f} |"
        for key, name in (
            ("new", "a new study, CPU µs"),
            ("another instance", "another instance of a study, CPU µs"),
            ("copied", f"one of {COPIED:,} copied studies, CPU µs"),
            ("copied_s", f"COPY of {COPIED:,} studies, s"),
        )
    )
    worst_cpu, worst_wall = (
        max(quantile(getattr(one, kind), 0.99) for one in figures) for kind in ("cpu_ms", "wall_ms")
    )
    return f"""# QIDO searches

{studies:,} studies; page of {LIMIT}; {len(figures[0].wall_ms)} searches each, every one about another study.
Asked: p99 {WANTED_MS:.0f} ms. The greatest is {worst_cpu:.0f} ms of CPU time, {worst_wall:.0f} ms by the clock; the
first of deep pages, which no page before it prepared, is counted in.
Matches are the median; no more than 5,001 are counted. "Sequential" counts and sorts all matches without an index.

| search | matches | CPU p50, ms | CPU p99, ms | wall p50, ms | wall p99, ms | sequential, ms |
|---|---|---|---|---|---|---|
{rows}

## What it costs to store

Migration of {studies:,} studies from version {BEFORE}: {migrated_s:.0f} s.

| | before | after |
|---|---|---|
{table}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="radir-qido-"))
    hospital, console = Hospital(arguments.studies), Console()
    try:
        conninfo = embedded.start(home)
        before = {version: sql for version, sql in migrations().items() if version <= BEFORE}
        with patch.object(migrate_module, "migrations", lambda: before):
            migrate(conninfo)
        with psycopg.connect(conninfo, autocommit=True) as connection:
            hospital.copy(connection, range(arguments.studies))
            connection.execute(_SERIES)
            connection.execute(_INSTANCES)
            connection.execute("VACUUM ANALYZE")
        console.print("filled")
        costs = {"before": stored(conninfo, hospital, arguments.studies)}
        start = time.perf_counter()
        migrate(conninfo)
        migrated_s = time.perf_counter() - start
        console.print(f"migrated in {migrated_s:.0f} s")
        costs["after"] = stored(conninfo, hospital, arguments.studies)
        figures = measure(conninfo, home, arguments.rounds)
    finally:
        embedded.stop(home)
        shutil.rmtree(home, ignore_errors=True)
    table = Table("search", "matches", "CPU p50", "CPU p99", "p50 ms", "p99 ms", "sequential ms")
    for one in figures:
        table.add_row(*one.cells())
    console.print(table, costs)
    if arguments.out is not None:
        raw = {
            "studies": arguments.studies,
            "migrated_s": migrated_s,
            "costs": costs,
            "figures": [vars(f) for f in figures],
        }
        results.write(arguments.out, "qido", raw, page_of(arguments.studies, migrated_s, costs, figures))


if __name__ == "__main__":
    main()
