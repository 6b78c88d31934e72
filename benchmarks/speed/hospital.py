"""A catalogue of any size: studies that were never received, written straight into the tables of an empty home folder.

One radiograph per study, and a vector for one region only. Vectors lie in clusters near a 32-dimensional surface, as
embeddings do (`index_search.embeddings`). The other attributes are like a hospital's: two studies per patient on
average, both sexes, 200 examination dates, a week apart, CR for a tenth and DX for the rest, a mined report for three
in ten.
The same size gives the same studies, and a smaller hospital holds the first studies of a larger one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from itertools import product
from typing import Any, LiteralString, cast

import numpy as np
import psycopg
from psycopg import sql

from benchmarks.speed.index_search import embeddings
from radir_pacs.catalogue import Catalogue
from radir_pacs.catalogue.names import folded
from radir_pacs.config import Settings
from radir_pacs.encode import default_bundles
from radir_pacs.reports import PARSER, findings_to_json, mine
from radir_pacs.types import F32, I64, ImageKind
from tests.catalogue_material import serve_model

REGION, DIM = "chest", 160  # as many numbers as the vectors of the shipped model have
DAYS, FIRST_DAY = 200, date(2021, 1, 4)
MODALITIES = ("DX", "CR")
RARE_MODALITY, RARE_SHARE = "CR", 0.1
FINDING = "consolidation"
TEXTS = (
    "FINDINGS: Consolidation in the left lower lobe. Small left pleural effusion. No pneumothorax. Heart size normal.",
    "FINDINGS: The lungs are clear. No pleural effusion. Mild cardiomegaly. Unchanged right central line.",
    "FINDINGS: Left basilar atelectasis. No consolidation. Calcified granuloma in the right upper lobe. No effusion.",
    "FINDINGS: Moderate cardiomegaly with mild interstitial edema. Bilateral small effusions. No pneumothorax.",
    "FINDINGS: No acute cardiopulmonary abnormality. The heart is not enlarged. The lungs are clear.",
)
_REPORTED_SHARE = 0.3
_SAYS_FINDING = 0  # the first text alone affirms FINDING
_DESCRIPTIONS = (
    *("CHEST PA AND LATERAL", "CHEST AP PORTABLE", "CHEST PA", "CHEST LORDOTIC VIEW", "CHEST DECUBITUS LEFT"),
    *("THORAX P.A. STEHEND", "THORAX LIEGEND BETT", "RIBS UNILATERAL WITH CHEST", "CHEST PRE-OP SCREENING"),
    *("CHEST POST LINE PLACEMENT", "CHEST EXPIRATION", "CHEST INSPIRATION FOLLOW-UP"),
)
_SYLLABLES = tuple(map("".join, product("BDFGKLMNRSTW", "aeiou")))
FAMILIES = tuple(a + b.lower() + end for a, b, end in product(_SYLLABLES[::3], _SYLLABLES[::4], ("n", "rt", "nsky")))
_GIVEN = ("Ada", "Ben", "Cleo", "Dora", "Emil", "Finn", "Greta", "Hugo", "Ines", "Jan", "Kai", "Lea", "Max", "Nora")
_SCANNERS = (("Radiant", "DX-100"), ("Luminos", "DX-200"), ("Xrayson", "DX-300"), ("Pictura", "DX-400"))  # one length
_BLOCK = 10_000
_SEED = 16
_UID_BASE = 1_000_000_000
_DX = "1.2.840.10008.5.1.4.1.1.1.1"


@dataclass(frozen=True, kw_only=True)
class Hospital:
    """``count`` studies; their attributes by their number from 0. All arrays are int64 [count]; days from FIRST_DAY."""

    count: int

    @cached_property
    def vectors(self) -> F32:
        """Unit float32 [count, DIM]."""
        blocks = [embeddings(_BLOCK, DIM, _SEED + number) for number in range(-(-self.count // _BLOCK))]
        return np.concatenate(blocks)[: self.count]

    @cached_property
    def attributes(self) -> dict[str, I64]:
        blocks = [_block(number) for number in range(-(-self.count // _BLOCK))]
        return {name: np.concatenate([block[name] for block in blocks])[: self.count] for name in blocks[0]}

    def let_through(self, question: str, day: int) -> np.ndarray:
        """bool [count]: the studies that the filter of a question admits. Raises KeyError for one that has none."""
        of = self.attributes
        masks = {
            "all": lambda: np.ones(self.count, np.bool_),
            "sex": lambda: of["sex"] == 0,
            "modality": lambda: of["modality"] == MODALITIES.index(RARE_MODALITY),
            "day": lambda: of["day"] == day,
            "finding": lambda: of["report"] == _SAYS_FINDING,
        }
        return cast("np.ndarray", masks[question]())

    def best(self, study: int, mask: np.ndarray, k: int, *, own: bool = False) -> set[int]:
        """The ``k`` studies most like ``study`` among ``mask``, by exact search; ``own``: its patient's too."""
        patient = self.attributes["patient"]
        rows = np.flatnonzero(mask if own else mask & (patient != patient[study]))
        scores = self.vectors[rows] @ self.vectors[study]
        return set(rows[np.argsort(-scores)[:k]].tolist())


def uid_of(study: int) -> str:
    return f"2.25.{_UID_BASE + study}"


def number_of(uid: str) -> int:
    return int(uid.removeprefix("2.25.")) - _UID_BASE


def patient_id(patient: int) -> str:
    return f"P{patient:08d}"


def dicom_date(day: int) -> str:
    return (FIRST_DAY + timedelta(days=7 * day)).strftime("%Y%m%d")


def _block(number: int) -> dict[str, I64]:
    random = np.random.default_rng((_SEED, number))

    def drawn(high: int) -> I64:
        return random.integers(0, high, _BLOCK)

    patient = number * (_BLOCK // 2) + drawn(_BLOCK // 2)
    own = np.random.default_rng((_SEED, number, 1)).integers(0, 1 << 30, _BLOCK // 2)[patient - number * (_BLOCK // 2)]
    report = np.where(random.random(_BLOCK) < _REPORTED_SHARE, drawn(len(TEXTS)), -1)
    return {
        "patient": patient,
        "sex": own & 1,
        "family": (own >> 1) % len(FAMILIES),
        "given": (own >> 12) % len(_GIVEN),
        "born": (own >> 16) % 25_000,  # days after 1930
        "day": drawn(DAYS),
        "modality": (random.random(_BLOCK) < RARE_SHARE).astype(np.int64),
        "description": drawn(len(_DESCRIPTIONS)),
        "scanner": drawn(len(_SCANNERS)),
        "physician": drawn(200),
        "report": report,
    }


def description_word(number: int) -> str:
    """A word of a study description, for searches with wildcards."""
    words = [text.split()[-1] for text in _DESCRIPTIONS]
    return words[number % len(words)]


def fill(settings: Settings, hospital: Hospital) -> None:
    """Write the studies into the empty catalogue of ``settings``; foreign keys and indexes are made once at the end."""
    bundle = default_bundles()[ImageKind.CXR]
    manifest = json.loads((bundle / "manifest.json").read_text())
    with Catalogue.open(settings) as catalogue:
        # The shipped model's name: a worker finds its bundle at its start. Any other would have none to encode by.
        serve_model(catalogue, manifest["model_id"], ImageKind.CXR, DIM, manifest)
        conninfo = catalogue.conninfo
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET max_wal_size = '8GB'")  # no check-points in between
        connection.execute("SELECT pg_reload_conf()")
        connection.execute("SET synchronous_commit = off")
        connection.execute("SET maintenance_work_mem = '1GB'")
        with _made_at_the_end(connection):
            _write_studies(connection, hospital)
            _write_encodings(connection, hospital, manifest["model_id"])
        connection.execute("ALTER SYSTEM RESET max_wal_size")
        connection.execute("SELECT pg_reload_conf()")
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")


@contextmanager
def _made_at_the_end(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """Without the tables' foreign keys and plain indexes inside the body; all are as before after it."""
    keys = connection.execute(
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE contype = 'f' AND connamespace = 'public'::regnamespace"
    ).fetchall()
    indexes = connection.execute(
        "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"
        " AND NOT EXISTS (SELECT FROM pg_constraint WHERE conname = indexname)"
    ).fetchall()
    for table, name, _ in keys:
        connection.execute(
            sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(sql.Identifier(table), sql.Identifier(name))
        )
    for name, _ in indexes:
        connection.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(name)))
    yield
    for _, definition in indexes:
        connection.execute(cast("LiteralString", definition))
    for table, name, definition in keys:
        connection.execute(
            sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}").format(
                sql.Identifier(table), sql.Identifier(name), sql.SQL(cast("LiteralString", definition))
            )
        )


def _write_studies(connection: psycopg.Connection[Any], hospital: Hospital) -> None:
    """Studies, series, instances and reports, made in Postgres from their numbers."""
    of = hospital.attributes
    columns = {"i": np.arange(hospital.count), **of}
    names = ", ".join(f"{name} bigint" for name in columns)
    connection.execute(f"CREATE TEMP TABLE filling ({names})".encode())
    _copy(connection, "filling", columns)
    connection.execute("CREATE TEMP TABLE word (list text, n bigint, text text, folded text, more jsonb)")
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO word VALUES (%s, %s, %s, %s, %s)", list(_words()))
    connection.execute("ANALYZE word")
    connection.execute("ANALYZE filling")
    values = {"base": _UID_BASE, "first_day": FIRST_DAY, "parser": PARSER, "sop_class": _DX}
    for statement in _STATEMENTS:
        connection.execute(statement, values)
    connection.execute("DROP TABLE filling, word")


def _words() -> Iterator[tuple[str, int, str, str, str]]:
    for number, name in enumerate(FAMILIES):
        yield "family", number, name, folded(name), "{}"
    for number, name in enumerate(_GIVEN):
        yield "given", number, name, folded(name), "{}"
    for number, text in enumerate(_DESCRIPTIONS):
        yield "description", number, text, "", "{}"
    for number, text in enumerate(MODALITIES):
        yield "modality", number, text, "", "{}"
    for number, (maker, model) in enumerate(_SCANNERS):
        header = {
            "00080070": _element("LO", maker),
            "00081090": _element("LO", model),
            "00180015": _element("CS", "CHEST"),
        }
        yield "scanner", number, f"{maker}\\{model}", "", json.dumps(header)
    for number, text in enumerate(TEXTS):
        yield "report", number, text, "", json.dumps(findings_to_json(mine(text).findings))


def _element(vr: str, value: str) -> dict[str, Any]:
    return {"vr": vr, "Value": [value]}


# UIDs have one length for all studies: _write_encodings relies on it.
_STATEMENTS: tuple[LiteralString, ...] = (
    """
    INSERT INTO study (study_uid, state, revision, patient_key, patient_id, patient_name, patient_sex,
        patient_birth_date, patient_age_years, study_date, study_time, accession_number, study_description,
        referring_physician, study_id, body_part, modalities, has_report, patient_keys, patient_name_folded,
        referring_physician_folded)
    SELECT '2.25.' || %(base)s + i, 'INDEXED', 1, '|P' || lpad(patient::text, 8, '0'),
        'P' || lpad(patient::text, 8, '0'), family.text || '^' || given.text, CASE sex WHEN 0 THEN 'F' ELSE 'M' END,
        date '1930-01-01' + born::integer,
        (%(first_day)s + 7 * day::integer - (date '1930-01-01' + born::integer)) / 365.25,
        %(first_day)s + 7 * day::integer, '101500', 'A' || lpad(i::text, 9, '0'), description.text,
        'Doctor' || physician || '^Ruth', i::text, 'CHEST', ARRAY[modality.text], report >= 0,
        ARRAY['|P' || lpad(patient::text, 8, '0')], family.folded || '^' || given.folded,
        'doctor' || physician || '^ruth'
    FROM filling AS f
        JOIN word AS family ON family.list = 'family' AND family.n = f.family
        JOIN word AS given ON given.list = 'given' AND given.n = f.given
        JOIN word AS description ON description.list = 'description' AND description.n = f.description
        JOIN word AS modality ON modality.list = 'modality' AND modality.n = f.modality
    ORDER BY i""",
    """
    INSERT INTO series (series_uid, study_uid, modality, series_number, series_description, body_part)
    SELECT study_uid || '.1', study_uid, modalities[1], 1, study_description, body_part
    FROM study ORDER BY study_uid""",
    """
    INSERT INTO instance (sop_uid, series_uid, study_uid, sop_class_uid, transfer_syntax_uid, instance_number, rows_px,
        columns_px, content_sha256, size_bytes, attributes, source, patient_keys)
    SELECT study_uid || '.1.1', study_uid || '.1', study_uid, %(sop_class)s, '1.2.840.10008.1.2.1', 1, 2048, 2048,
        encode(sha256(study_uid::bytea), 'hex'), 8388608,
        scanner.more || jsonb_build_object(
            '00080018', jsonb_build_object('vr', 'UI', 'Value', jsonb_build_array(study_uid || '.1.1')),
            '00080060', jsonb_build_object('vr', 'CS', 'Value', jsonb_build_array(modalities[1])),
            '00081030', jsonb_build_object('vr', 'LO', 'Value', jsonb_build_array(study_description)),
            '00100020', jsonb_build_object('vr', 'LO', 'Value', jsonb_build_array(patient_id)),
            '0020000D', jsonb_build_object('vr', 'UI', 'Value', jsonb_build_array(study_uid))),
        'BENCHMARK', patient_keys
    FROM filling AS f JOIN study ON study_uid = '2.25.' || %(base)s + f.i
        JOIN word AS scanner ON scanner.list = 'scanner' AND scanner.n = f.scanner
    ORDER BY study_uid""",
    """
    INSERT INTO report (study_uid, source, body, content_sha256, findings, parser)
    SELECT '2.25.' || %(base)s + i, 'benchmark', text, encode(sha256(text::bytea), 'hex'), more, %(parser)s
    FROM filling AS f JOIN word ON list = 'report' AND n = f.report ORDER BY i""",
)


def _write_encodings(connection: psycopg.Connection[Any], hospital: Hospital, model_id: str) -> None:
    uids = np.array([uid_of(study) for study in range(hospital.count)], "S")
    count = hospital.count
    columns = {
        "study_uid": uids,
        "series_uid": np.char.add(uids, b".1"),
        "sop_uid": np.char.add(uids, b".1.1"),
        "model_id": np.full(count, model_id.encode()),
        "revision": np.ones(count, np.int32),
        "regions": np.full(count, np.void(_text_array(REGION))),
        "vectors": hospital.vectors.astype("<f4").view(f"V{4 * DIM}")[:, 0],
    }
    if _has_column(connection, "encoding", "scanner"):
        names = np.array(["\\".join(scanner) for scanner in _SCANNERS], "S")
        columns["scanner"] = names[hospital.attributes["scanner"]]
    _copy(connection, "encoding", columns)
    connection.execute("INSERT INTO partition (model_id, region) VALUES (%s, %s)", [model_id, REGION])


def _has_column(connection: psycopg.Connection[Any], table: str, column: str) -> bool:
    found = connection.execute(
        "SELECT FROM information_schema.columns WHERE table_name = %s AND column_name = %s", [table, column]
    )
    return found.fetchone() is not None


def _text_array(text: str) -> bytes:
    """An array of one text as Postgres sends it (array_recv): dimensions, nulls, element type, length, lower bound."""
    header = np.array([1, 0, 25, 1, 1, len(text)], ">i4")
    return header.tobytes() + text.encode()


def _copy(
    connection: psycopg.Connection[Any], table: str, columns: Mapping[str, np.ndarray], at_once: int = 50_000
) -> None:
    """COPY in binary form. Every value of a column has the same length, so rows are laid out by numpy."""
    layout: list[Any] = [("columns", ">i2")]
    for name, values in columns.items():
        layout += [(f"length of {name}", ">i4"), (name, values.dtype.newbyteorder(">"))]
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(
        sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    count = len(next(iter(columns.values())))
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.write(b"PGCOPY\n\xff\r\n\0" + bytes(8))
        for start in range(0, count, at_once):
            rows = np.zeros(min(at_once, count - start), layout)
            rows["columns"] = len(columns)
            for name, values in columns.items():
                rows[f"length of {name}"] = values.dtype.itemsize
                rows[name] = values[start : start + at_once]
            copy.write(rows.tobytes())
        copy.write(b"\xff\xff")


def queries(hospital: Hospital, count: int) -> Sequence[int]:
    """Studies to ask about, spread over all."""
    return [int(study) for study in np.random.default_rng(4).choice(hospital.count, count, replace=False)]
