"""The catalogue of findings, the course of a disease, and reports that state what is true and nothing else."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest

from radir_pacs import anatomy
from radir_pacs.types import ImageKind
from radir_training.phantoms.course import develop, draw_course, draw_patient
from radir_training.phantoms.findings import CATALOGUE, PhantomFinding, clash, place
from radir_training.phantoms.house import phrases
from radir_training.phantoms.wording import write_report

BOTH = frozenset(ImageKind)
# Words that may only stand in a report, outside a negation, when the finding is there.
TELLTALE = {
    "effusion": r"effusion|pleural fluid",
    "pneumothorax": r"pneumothorax",
    "consolidation": r"consolidation|pneumonia|airspace (disease|opacity\b)|near-complete opacification",
    "cardiomegaly": r"cardiomegaly|enlarged heart|(heart|silhouette) is \w+ enlarged|enlargement of the cardiac",
    "oedema": r"edema|oedema|vascular congestion",
    "emphysema": r"emphysem",
    "rib_fracture": r"rib fracture|\bribs?\b",
    "pacemaker": r"pacemaker|AICD|defibrillator",
}
NEGATED = re.compile(r"\b(no|without|not|rule out|resol\w*|no longer|clear)\b", re.IGNORECASE)


def test_every_region_is_one_of_the_anatomy() -> None:
    for kind in CATALOGUE.values():
        for region in kind.regions:
            assert anatomy.region(region).key == region


def test_a_finding_refuses_nonsense() -> None:
    good = place("nodule", "left_upper_lobe", 2, np.random.default_rng(0))
    assert good.laterality == "left" and 13 <= (good.size_mm or 0) <= 20
    with pytest.raises(ValueError, match="severity"):
        PhantomFinding(concept="nodule", region="left_upper_lobe", side=1, severity=0, at=(0, 0, 0))
    with pytest.raises(ValueError, match="concept"):
        PhantomFinding(concept="dragon", region="left_upper_lobe", side=1, severity=1, at=(0, 0, 0))


def test_patients_are_of_many_kinds() -> None:
    drawn = [draw_patient(1, index) for index in range(400)]
    concepts = Counter(finding.concept for _, findings in drawn for finding in findings)
    assert set(concepts) == set(CATALOGUE)
    assert 0.1 < sum(not findings for _, findings in drawn) / 400 < 0.35
    assert 0.4 < sum(patient.sex == "F" for patient, _ in drawn) / 400 < 0.6
    severities = Counter(finding.severity for _, findings in drawn for finding in findings)
    assert min(severities[grade] for grade in (1, 2, 3)) > 60


def test_findings_of_one_patient_can_be_told_apart() -> None:
    for index in range(200):
        _, findings = draw_patient(2, index)
        for i, one in enumerate(findings):
            assert not any(clash(one, other) for other in findings[i + 1 :])


def test_a_course_goes_forward_in_time_and_findings_come_and_go() -> None:
    changes: Counter[str] = Counter()
    for index in range(120):
        course = draw_course(3, index, BOTH)
        assert [visit.kind for visit in course.visits][:2] == [ImageKind.CXR, ImageKind.CT]
        for before, after in zip(course.visits, course.visits[1:], strict=False):
            assert before.on < after.on and before.number + 1 == after.number
            old, new = ({finding.key: finding for finding in visit.findings} for visit in (before, after))
            changes["gone"] += len(old.keys() - new.keys())
            changes["new"] += len(new.keys() - old.keys())
            changes["worse"] += sum(new[key].severity > old[key].severity for key in old.keys() & new.keys())
            changes["better"] += sum(new[key].severity < old[key].severity for key in old.keys() & new.keys())
    assert min(changes[what] for what in ("gone", "new", "worse", "better")) > 5


def test_one_kind_alone_can_be_asked_for() -> None:
    assert {v.kind for i in range(20) for v in draw_course(3, i, frozenset({ImageKind.CT})).visits} == {ImageKind.CT}


@pytest.mark.parametrize("kind", list(ImageKind))
def test_reports_never_claim_what_is_not_there_nor_deny_what_is(kind: ImageKind) -> None:
    rng = np.random.default_rng(11)
    for index in range(250):
        patient, findings = draw_patient(4, index)
        before = findings if index % 3 == 0 else None
        if before is not None:
            findings = develop(findings, 40, rng)
        report = write_report(patient, findings, before, kind, rng)
        present = {finding.concept for finding in findings}
        sentences = re.split(r"(?<=[.])\s+", report.findings + " " + report.impression)
        for concept, words in TELLTALE.items():
            said = [s for s in sentences if re.search(words, s, re.IGNORECASE)]
            affirmed = [s for s in said if not NEGATED.search(s)]
            if concept not in present:
                assert not affirmed, (concept, affirmed)
            else:
                assert affirmed, (concept, report.findings)


def test_reports_name_the_side() -> None:
    rng = np.random.default_rng(1)
    patient, _ = draw_patient(1, 0)
    for side, wrong in (("right", "left"), ("left", "right")):
        for concept in ("effusion", "pneumothorax"):
            text = write_report(patient, (place(concept, f"{side}_pleura", 2, rng),), None, ImageKind.CXR, rng).findings
            assert re.search(rf"\b{side}\b", text, re.IGNORECASE) and not re.search(
                rf"\b{wrong}\b", text, re.IGNORECASE
            )


def test_wording_varies() -> None:
    rng = np.random.default_rng(1)
    patient, _ = draw_patient(1, 0)
    finding = place("consolidation", "right_lower_lobe", 2, rng)
    texts = {write_report(patient, (finding,), None, ImageKind.CXR, rng).text for _ in range(60)}
    assert len(texts) > 55
    assert any("RLL" in text for text in texts) and any("right lower lobe" in text.lower() for text in texts)


def test_every_concept_has_words_for_every_grade() -> None:
    book = phrases()
    for concept in CATALOGUE:
        assert book[concept]["short"]
        assert "any" in book[concept] or {"1", "2", "3"} <= book[concept].keys()
