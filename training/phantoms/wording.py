"""Synthetic reports in the styles of several simulated radiologists.

A report only states what is true of the phantom: a negative is dropped where its finding is present.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np

from radir_pacs.types import ImageKind

from .devices import tube_tip_mm
from .findings import PhantomFinding
from .house import FIRST, phrases
from .parenchyma import is_cavity
from .patient import Patient
from .skeleton import compressed_level, fracture_place

_GRADES = (("small", "mild"), ("moderate", "moderate"), ("large", "severe"))
_SIZED = {"effusion", "pneumothorax"}
_ABBREVIATED = {
    "right_upper_lobe": "RUL",
    "right_middle_lobe": "RML",
    "right_lower_lobe": "RLL",
    "left_upper_lobe": "LUL",
    "left_lower_lobe": "LLL",
}
_LUNG = {"nodule", "mass", "consolidation", "ground_glass", "atelectasis", "oedema", "emphysema", "fibrosis"}
# The findings that suppress a normal statement, in the usual order of a report.
_NORMAL = {
    "airways": {"endotracheal_tube", "mass", "hilar_adenopathy"},
    "lungs": _LUNG | {"pneumothorax", "effusion"},
    "consolidation": {"consolidation"},
    "nodule": {"nodule", "mass"},
    "oedema": {"oedema"},
    "pleura": {"effusion", "pneumothorax"},
    "effusion": {"effusion"},
    "pneumothorax": {"pneumothorax"},
    "heart": {"cardiomegaly"},
    "aorta": {"aortic_dilatation", "aortic_calcification"},
    "mediastinum": {"cardiomegaly", "aortic_dilatation", "aortic_calcification", "hilar_adenopathy", "mass"}
    | {"vertebral_compression"},  # the paraspinal lines are its borders
    "hila": {"hilar_adenopathy", "mass", "oedema"},
    "bones": {"rib_fracture", "vertebral_compression"},
    "ribs": {"rib_fracture"},
    "spine": {"vertebral_compression"},
    "abdomen": {"elevated_hemidiaphragm", "nasogastric_tube"},
}
_WIDER = {
    "consolidation": "lungs",
    "nodule": "lungs",
    "effusion": "pleura",
    "pneumothorax": "pleura",
    "hila": "mediastinum",
}
_WIDER |= {"ribs": "bones", "oedema": "lungs"}
Book = Mapping[str, Any]
_ORDER = ("devices", "lungs", "pleura", "heart", "rest")


@dataclass(frozen=True, kw_only=True)
class WrittenReport:
    """Sections of a report; ``text`` is all of them under headings."""

    indication: str
    technique: str
    comparison: str
    findings: str
    impression: str

    @property
    def sections(self) -> tuple[tuple[str, str], ...]:
        return (
            ("INDICATION", self.indication),
            ("TECHNIQUE", self.technique),
            ("COMPARISON", self.comparison),
            ("FINDINGS", self.findings),
            ("IMPRESSION", self.impression),
        )

    @property
    def text(self) -> str:
        return "\n\n".join(f"{heading}:\n{body}" for heading, body in self.sections)


def write_report(
    patient: Patient,
    findings: tuple[PhantomFinding, ...],
    before: tuple[PhantomFinding, ...] | None,
    kind: ImageKind,
    rng: np.random.Generator,
    *,
    prior_on: date | None = None,
    house: str = FIRST,
) -> WrittenReport:
    """A report of ``findings``; with ``before`` (the findings of the prior study) it also states what changed."""
    book = phrases(house)
    frame = book["frame"]
    prior = prior_on.strftime(_pick(["%m/%d/%Y", "%d %B %Y", "%Y-%m-%d"], rng)) if prior_on else "the previous visit"
    compared = _pick(frame["none"] if before is None else frame["prior"], rng).format(date=prior)
    sentences = [
        _topic(finding, _describe(book, finding, kind, rng) + _change(book, finding, before, rng))
        for finding in findings
    ]
    present = {finding.concept for finding in findings}
    sentences += [(_topic_of_normal(topic), text) for topic, text in _normals(book, present, rng)]
    if before is not None:
        sentences += [("rest", text) for text in _resolved(book, findings, before, rng)]
    ordered = sorted(enumerate(sentences), key=lambda item: (_ORDER.index(item[1][0]), item[0]))
    return WrittenReport(
        indication=_indication(book, patient, rng),
        technique=_pick(frame[kind.value], rng),
        comparison=compared,
        findings=" ".join(text for _, (_, text) in ordered),
        impression=_impression(book, findings, before, kind, rng),
    )


def _indication(book: Book, patient: Patient, rng: np.random.Generator) -> str:
    complaint = _pick(book["frame"]["indication"], rng)
    if rng.random() < 0.5:
        return complaint
    who = {"F": ("female", "woman"), "M": ("male", "man")}[patient.sex][int(rng.integers(2))]
    return f"{patient.age_years}-year-old {who}. {complaint}"


def _pick(options: list[str], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def grade(finding: PhantomFinding) -> str:
    return _GRADES[finding.severity - 1][finding.concept not in _SIZED]


def _describe(book: Book, finding: PhantomFinding, kind: ImageKind, rng: np.random.Generator) -> str:
    book = book[finding.concept]
    options = book.get(str(finding.severity)) or book["any"]
    if kind is ImageKind.CT:
        options = book.get(f"ct{finding.severity}") or book.get("ctany") or options
    text = _fill(_pick(options, rng), finding, rng)
    if is_cavity(finding):
        text += " " + _pick(book["cavity"], rng)
    return text


def _fill(template: str, finding: PhantomFinding, rng: np.random.Generator) -> str:
    name = finding.region.replace("_", " ")
    short = _ABBREVIATED.get(finding.region)
    size = ""
    if finding.size_mm:
        size = f"{finding.size_mm:.0f} mm" if rng.random() < 0.5 else f"{finding.size_mm / 10:.1f} cm"
    fields = {
        "side": finding.laterality or "",
        "lobe": short if short and rng.random() < 0.25 else name,
        "size": size,
        "grade": grade(finding),
        "part": "aortic arch" if finding.region == "aortic_arch" else "thoracic aorta",
    }
    if finding.concept == "rib_fracture":
        numbers = [f"{number}th" for number in fracture_place(finding)[0]]
        fields["rib"] = numbers[0] if len(numbers) == 1 else f"{', '.join(numbers[:-1])} and {numbers[-1]}"
    if finding.concept == "vertebral_compression":
        fields["level"] = "lower thoracic" if compressed_level(finding) < -4 else "mid thoracic"
    if finding.concept == "endotracheal_tube":
        fields["tip"] = f"{max(tube_tip_mm(finding), 0) / 10:.1f} cm"
    return _capital(template.format(**fields))


def _topic(finding: PhantomFinding, text: str) -> tuple[str, str]:
    if finding.concept in {"pacemaker", "endotracheal_tube", "nasogastric_tube", "central_line"}:
        return "devices", text
    if finding.concept in _LUNG:
        return "lungs", text
    if finding.concept in _SIZED:
        return "pleura", text
    return ("heart" if finding.concept == "cardiomegaly" else "rest"), text


def _topic_of_normal(topic: str) -> str:
    if topic in {"lungs", "consolidation", "nodule", "oedema"}:
        return "lungs"
    if topic in {"pleura", "effusion", "pneumothorax"}:
        return "pleura"
    return "heart" if topic == "heart" else "rest"


def _normals(book: Book, present: set[str], rng: np.random.Generator) -> list[tuple[str, str]]:
    """Normal statements; some readers state many, others few."""
    wordy = rng.uniform(0.25, 1)
    said: list[tuple[str, str]] = []
    for topic, silencers in _NORMAL.items():
        if present & silencers or any(_WIDER.get(topic) == wide for wide, _ in said):
            continue
        if rng.random() < (max(wordy, 0.8) if topic in {"lungs", "pleura", "heart"} else wordy * 0.7):
            said.append((topic, _pick(book["normal"][topic], rng)))
    return said


def _change(
    book: Book, finding: PhantomFinding, before: tuple[PhantomFinding, ...] | None, rng: np.random.Generator
) -> str:
    if before is None or rng.random() < 0.3:
        return ""
    old = next((other for other in before if other.key == finding.key), None)
    if old is None:
        how = "new"
    elif (finding.severity, finding.size_mm or 0) == (old.severity, old.size_mm or 0):
        how = "same"
    else:
        how = "worse" if (finding.severity, finding.size_mm or 0) > (old.severity, old.size_mm or 0) else "better"
    return " " + _pick(book["change"][how], rng)


def _resolved(
    book: Book, findings: tuple[PhantomFinding, ...], before: tuple[PhantomFinding, ...], rng: np.random.Generator
) -> list[str]:
    here = {finding.key for finding in findings}
    gone = [finding for finding in before if finding.key not in here]
    return [_pick(book["change"]["gone"], rng).format(what=_name(finding)) for finding in gone if rng.random() < 0.7]


def _name(finding: PhantomFinding) -> str:
    """A finding in a few words, for a sentence about the past."""
    name = finding.concept.replace("_", " ").replace("ground glass", "ground-glass opacity")
    name = name.replace("oedema", "pulmonary edema").replace("effusion", "pleural effusion")
    if finding.region in _ABBREVIATED:
        return f"{finding.region.replace('_', ' ')} {name}"
    return f"{finding.laterality} {name}" if finding.laterality else name


def _impression(
    book: Book,
    findings: tuple[PhantomFinding, ...],
    before: tuple[PhantomFinding, ...] | None,
    kind: ImageKind,
    rng: np.random.Generator,
) -> str:
    minor = {"aortic_calcification", "endotracheal_tube", "nasogastric_tube", "central_line", "pacemaker"}
    worth = [finding for finding in findings if finding.concept not in minor] or list(findings)
    worth.sort(key=lambda finding: -finding.severity)
    if not worth:
        text = _pick(book["normal"][kind.value], rng)
        return text + (" Interval resolution of prior findings." if before and rng.random() < 0.5 else "")
    lines = [_fill(_pick(book[finding.concept]["short"], rng), finding, rng) for finding in worth[:4]]
    if len(lines) == 1:
        return lines[0] + "."
    if rng.random() < 0.5:
        return "\n".join(f"{number}. {line}." for number, line in enumerate(lines, 1))
    return " ".join(f"{line}." for line in lines)
