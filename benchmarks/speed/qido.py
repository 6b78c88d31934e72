"""QIDO searches of a large catalogue, beside the plain sequential form of the same searches.

    python -m benchmarks.speed.qido [--studies 1000000] [--rounds 100] [--out docs/results]

Fills an embedded Postgres of its own as the version before study_search left it, times the migration, and asks for
what OHIF's study list and other viewers ask for, with another value in each round. A search is one call of
`Catalogue.qido.search`: matches, their count and the rows of the page, without HTTP. The sequential form counts all
matches and sorts them, with every index of the keys switched off; it runs SEQUENTIAL_ROUNDS times. One study has one
series of one instance. What indexes cost is measured by statements of `receive_study` and by COPY into ``study``,
before and after the migration.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
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
from radir_pacs.catalogue.instances import folded_names
from radir_pacs.catalogue.migrate import migrate, migrations
from radir_pacs.catalogue.qido import Match, QidoLevel, QidoPage, QidoQuery, Search
from radir_pacs.catalogue.queries import QUERIES
from radir_pacs.config import Settings

BEFORE = 17  # the last version without study_search
SEQUENTIAL_ROUNDS = 3
LIMIT = 101  # what OHIF asks for
LATEST = date(2026, 6, 30)
DAYS = 5400
SINGLE, COPIED = 500, 20_000
WANTED_MS = 50.0

_SYLLABLES = "an ber car do el fi ga ha in jo ka lu ma ne ol pe qui ro sa ti um va we xi yo za sch mül ler stein son ez"
_PARTS = (
    "Chest",
    "Thorax",
    "Low dose lung",
    "Chest and abdomen",
    "Chest PA and lateral",
    "Trauma",
    "Pulmonary angiography",
)
_HOW = ("", "with contrast", "without contrast", "follow-up", "routine", "screening", "portable", "bedside")
_FILL = """
INSERT INTO study (study_uid, state, revision, patient_key, patient_keys, patient_id, patient_name, patient_name_folded,
    patient_sex, patient_birth_date, study_date, study_time, accession_number, study_description, referring_physician,
    referring_physician_folded, modalities)
SELECT '1.2.826.0.1.3680043.8.498.' || n, 'INDEXED', 1, '|' || id, ARRAY['|' || id], id, name, lower(name),
    CASE WHEN patient % 2 = 0 THEN 'F' ELSE 'M' END, date '1930-01-01' + (patient * 7919 % 30000)::integer,
    %(latest)s::date - (n * %(days)s / %(studies)s)::integer, to_char(n * 37 % 86400 * interval '1 second', 'HH24MISS'),
    'ACC' || lpad((n * 7919 % 100000007)::text, 9, '0'),
    %(descriptions)s::text[][1 + (random() * %(most)s)::integer],
    doctor, lower(doctor), ARRAY[CASE WHEN random() < .001 THEN 'XA' WHEN random() < .2 THEN 'CT' ELSE 'DX' END]
FROM (
    SELECT n, patient, 'PAT' || lpad(patient::text, 8, '0') AS id,
        (%(families)s::text[])[1 + patient * 104729 % %(names)s] || '^'
            || (%(givens)s::text[])[1 + patient * 15485863 % %(names)s] AS name,
        (%(families)s::text[])[1 + doctor % %(names)s] || '^' || (%(givens)s::text[])[1 + doctor % 97] AS doctor
    FROM (SELECT n, (random() * %(studies)s * 0.6)::bigint AS patient, (random() * 4000)::integer AS doctor
        FROM generate_series(1, %(studies)s::bigint) AS n) AS numbers
) AS made;
"""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A kind of search: ``query`` makes one from a study that stands in the catalogue."""

    name: str
    query: Callable[[dict[str, Any], random.Random], QidoQuery]


def key(tag: str, vr: str, *values: str) -> Match:
    return Match(path=(tag,), vr=vr, values=values)


def listed(*matches: Match, **changes: Any) -> QidoQuery:
    """A study list, with the attributes that OHIF includes."""
    tags = frozenset({"00081030", "00080060"})
    return replace(QidoQuery(level=QidoLevel.STUDY, limit=LIMIT, matches=matches, tags=tags), **changes)
