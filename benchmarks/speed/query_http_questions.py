"""What `query_http` asks, and what of latency was asked for each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

from benchmarks.speed.hospital import (
    FAMILIES,
    FINDING,
    RARE_MODALITY,
    REGION,
    Hospital,
    description_word,
    dicom_date,
    patient_id,
    uid_of,
)
from benchmarks.speed.peers import K

CLIENTS = 4
DAY = 77


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
