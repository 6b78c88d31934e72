"""Patients: the ids of a PID segment as the catalogue's keys, updates and merges (HL7 2.9 chapter 3)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from radir_pacs.catalogue import Deed, Demographics, PatientMerge, PatientUpdate

from .message import Message, Segment, parse_day
from .unusable import missing

_UPDATES = frozenset({"A08", "A31"})
_MERGES = frozenset({"A18", "A34", "A36", "A39", "A40", "A47"})  # PID is who they became, MRG who they were
_LINKS = frozenset({"A24"})  # two PIDs are one person
_UNLINKS = frozenset({"A37"})
_MOVED_BACK = frozenset({"A43"})  # an id that was merged by mistake is a patient of its own again
_NO_RECORD_NUMBERS = frozenset({"SS", "DL", "PPN"})  # of a person in other registers (table 0203)
_MOST_IDS = 20
_JOINT = "\\"
_MOST_CHARACTERS = 200
SEXES = frozenset({"M", "F", "O"})


@dataclass(frozen=True, kw_only=True)
class Id:
    """An id and its assigning authority, by each of the names that it has; ``kind``: table 0203."""

    value: str
    authorities: tuple[str, ...]
    kind: str = ""

    def names(self) -> list[str]:
        """Issuer and id as radir_pacs/dicom/header.py joins them; the empty issuer only where none is known."""
        return [f"{authority}\\{self.value}" for authority in self.authorities or ("",)]


def ids(segment: Segment, *fields: int, issuer: str = "") -> list[Id]:
    """The ids of the first of ``fields`` that has any (CX, 2.A.14). issuer: where one names no authority."""
    for number in fields:
        found = []
        for place in range(min(len(segment.repetitions(number)), _MOST_IDS)):
            value = segment.text(number, 1, repetition=place).replace("\\", "")[:_MOST_CHARACTERS]
            kind = segment.text(number, 5, repetition=place)
            names = [segment.text(number, 4, part, repetition=place).replace("\\", "") for part in (1, 2)]
            if value and kind not in _NO_RECORD_NUMBERS:
                authorities = tuple(dict.fromkeys(name[:_MOST_CHARACTERS] for name in names if name)) or (
                    (issuer,) if issuer else ()
                )
                found.append(Id(value=value, authorities=authorities, kind=kind))
        if found:
            return found
    return []


def patient_keys(pid: Segment | None, issuer: str) -> tuple[str, ...]:
    """The patient's keys; an image that names no issuer agrees with each of them (``studies_of_numbers``)."""
    found = ids(pid, 3, 2, issuer=issuer) if pid is not None else []
    return tuple(dict.fromkeys(key for one in found for key in one.names()))


def deeds_of_adt(message: Message, issuer: str) -> list[Deed]:
    """What an ADT message changes here: nothing, for most events. Raises Unusable."""
    event = message.header.text(9, 2) or _event(message)
    if event in _UPDATES:
        pid = _pid(message)
        keys = patient_keys(pid, issuer)
        if not keys:
            raise missing("the patient's id", "PID^1^3")
        unissued = (f"\\{key.partition(_JOINT)[2]}" for key in keys)  # images often name no issuer
        return [PatientUpdate(keys=tuple(dict.fromkeys((*keys, *unissued))), says=demographics(pid))]
    if event in _MERGES or event in _MOVED_BACK:
        return list(_merges(message, issuer, undone=event in _MOVED_BACK))
    if event in _LINKS or event in _UNLINKS:
        return [_linked(message, issuer, undone=event in _UNLINKS)]
    return []


def demographics(pid: Segment) -> Demographics:
    """The name in its DICOM form (PS3.5 6.2.1), sex and birth date; what is empty says nothing."""
    name = "^".join(pid.text(5, part).replace("^", " ").replace("=", " ") for part in (1, 2, 3, 5, 4)).rstrip("^")
    sex = pid.text(8)[:1].upper()
    return Demographics(name=name[:256] or None, sex=sex if sex in SEXES else None, birth_date=parse_day(pid.text(7)))


def _event(message: Message) -> str:
    evn = message.first("EVN")
    return evn.text(1) if evn is not None else ""


def _pid(message: Message) -> Segment:
    pid = message.first("PID")
    if pid is None:
        raise missing("the PID segment", "PID^1")
    return pid


def _merges(message: Message, issuer: str, *, undone: bool) -> Iterator[PatientMerge]:
    """Each MRG belongs to the PID before it."""
    pid: Segment | None = None
    merges = 0
    for segment in message.all("PID", "MRG"):
        if segment.name == "PID":
            pid = segment
            continue
        merges += 1
        if pid is None:
            raise missing("the PID segment before MRG", "PID^1")
        prior, new = ids(segment, 1, 4, issuer=issuer), ids(pid, 3, 2, issuer=issuer)
        if not prior:
            raise missing("the prior patient's id", f"MRG^{merges}^1")
        if not new:
            raise missing("the patient's id", "PID^1^3")
        yield PatientMerge(pairs=_pairs(prior, new), says=demographics(pid), undone=undone)
    if not merges:
        raise missing("the MRG segment", "MRG^1")


def _linked(message: Message, issuer: str, *, undone: bool) -> PatientMerge:
    pids = list(message.all("PID"))
    if len(pids) < 2:
        raise missing("the second PID segment", "PID^2")
    new, prior = (ids(pid, 3, 2, issuer=issuer) for pid in pids[:2])
    if not new or not prior:
        raise missing("a patient's id", "PID^1^3" if not new else "PID^2^3")
    return PatientMerge(pairs=_pairs(prior, new), undone=undone)


def _pairs(prior: list[Id], new: list[Id]) -> tuple[tuple[str, str], ...]:
    """Each id that was and the one it became: of the same authority and kind, else the first."""
    pairs: dict[tuple[str, str], None] = {}
    for one in prior:
        same = [other for other in new if set(other.authorities) & set(one.authorities)]
        became = next((other for other in same if other.kind == one.kind), (same or new)[0])
        for authority in (*one.authorities, ""):
            to = authority if authority in (*became.authorities, "") else (*became.authorities, "")[0]
            pairs[f"{authority}\\{one.value}", f"{to}\\{became.value}"] = None
    return tuple(pairs)
