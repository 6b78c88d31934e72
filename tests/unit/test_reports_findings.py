"""What is read from a sentence: concept, polarity, certainty, place, side, severity, size, change and span."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radir_pacs import anatomy
from radir_pacs.reports import Certainty, Change, Finding, FindingKind, Laterality, Polarity, Severity, mine
from tests.examples import examples


def only(text: str, concept: str) -> Finding:
    found = [finding for finding in mine(text).findings if finding.concept == concept]
    assert len(found) == 1, f"{concept} in {[f.concept for f in mine(text).findings]}"
    return found[0]


def check(text: str, present: set[str], absent: set[str]) -> None:
    """The concepts that a text affirms, all of them, and some that it denies."""
    findings = mine(text).findings
    assert {f.concept for f in findings if f.polarity is Polarity.PRESENT} == present
    assert absent <= {f.concept for f in findings if f.polarity is Polarity.ABSENT}


@pytest.mark.parametrize(
    ("text", "present", "absent"),
    [
        (
            "No effusion or pneumothorax but a small nodule in the right apex.",
            {"nodule"},
            {"pleural_effusion", "pneumothorax"},
        ),
        ("No pneumothorax, small left effusion.", {"pleural_effusion"}, {"pneumothorax"}),
        (
            "No focal consolidation, effusion, or pneumothorax.",
            set(),
            {"consolidation", "pleural_effusion", "pneumothorax"},
        ),
        ("Pericardial effusion-thickening was not observed.", set(), {"pericardial_effusion"}),
        (
            "Lungs are clear of airspace disease, pneumothorax, or effusion.",
            set(),
            {"airspace_disease", "pneumothorax", "pleural_effusion"},
        ),
        ("The heart is not enlarged.", set(), {"cardiomegaly"}),
        ("The heart is mildly enlarged and the lungs are clear.", {"cardiomegaly"}, {"abnormality"}),
        ("There is no change in the left effusion.", {"pleural_effusion"}, set()),
        ("Previously seen effusion has resolved.", set(), {"pleural_effusion"}),
        ("No pneumonia, masses or nodules were detected.", set(), {"pneumonia", "mass", "nodule"}),
        (
            "Low lung volumes. The aorta is tortuous and calcified.",
            {"hypoinflation", "aortic_contour", "vascular_calcification"},
            set(),
        ),
        ("Status post CABG, sternotomy XXXX intact.", {"cabg", "sternotomy"}, set()),
        ("Large pleural effusoin.", {"pleural_effusion"}, set()),
        ("Pulmonary oedema. Haemothorax.", {"edema", "hemothorax"}, set()),
    ],
)
def test_what_is_affirmed_and_denied(text: str, present: set[str], absent: set[str]) -> None:
    check(text, present, absent)


@pytest.mark.parametrize(
    ("text", "affirmed", "denied"),
    [
        ("Small right and no left effusion.", "right", "left"),
        ("No left and small right effusion.", "right", "left"),
        ("No left effusion and a small right effusion.", "right", "left"),
        ("Right, but not left pleural effusion.", "right", "left"),
        ("There is a small left and no right pleural effusion.", "left", "right"),
        ("Rechts kleiner und links kein Erguss.", "right", "left"),
        ("Rechts kein, links kleiner Pleuraerguss.", "left", "right"),
        ("Kleiner rechtsseitiger und kein linksseitiger Pleuraerguss.", "right", "left"),
        ("Kein rechtsseitiger und ein kleiner linksseitiger Pleuraerguss.", "left", "right"),
        ("Kein Erguss rechts und kleiner Erguss links.", "left", "right"),
        ("Small effusion on the right and none on the left.", "right", "left"),
        ("No effusion on the right and a small one on the left.", "left", "right"),
        ("Kleiner Erguss rechts, links keiner.", "right", "left"),
        ("Links kein Erguss, rechts gering.", "right", "left"),
        ("Right effusion, left effusion absent.", "right", "left"),
        ("Right pleural effusion, left pleural effusion not seen.", "right", "left"),
        ("No right and no left effusion.", None, "bilateral"),
        ("No right or left effusion.", None, "bilateral"),
        ("No right and left effusions.", None, "bilateral"),
    ],
)
def test_one_side_is_denied_and_the_other_is_not(text: str, affirmed: str | None, denied: str) -> None:
    found = {f.polarity: f.laterality for f in mine(text).findings if f.concept == "pleural_effusion"}
    assert (found.get(Polarity.PRESENT), found[Polarity.ABSENT]) == (affirmed, denied)


@pytest.mark.parametrize(
    ("text", "present", "absent"),
    [
        ("Left subclavian catheter, pneumothorax absent.", {"catheter"}, {"pneumothorax"}),
        ("Left subclavian catheter, pneumothorax not seen.", {"catheter"}, {"pneumothorax"}),
        ("Left effusion, pneumothorax none.", {"pleural_effusion"}, {"pneumothorax"}),
        (
            "Small effusion, pneumothorax, consolidation absent.",
            {"pleural_effusion"},
            {"pneumothorax", "consolidation"},
        ),
        ("ZVK links, Pneumothorax fehlend.", {"catheter"}, {"pneumothorax"}),
        ("ZVK von links, Pneumothorax: keiner.", {"catheter"}, {"pneumothorax"}),
        ("Kleiner Erguss links, Pneumothorax ausgeschlossen.", {"pleural_effusion"}, {"pneumothorax"}),
        ("Cardiomegaly, edema, pneumothorax absent.", set(), {"cardiomegaly", "edema", "pneumothorax"}),
        ("Left effusion and pneumothorax are absent.", set(), {"pleural_effusion", "pneumothorax"}),
        ("Left effusion, pneumothorax and consolidation not seen.", set(), {"pleural_effusion", "consolidation"}),
        ("Left effusion, previously noted, is not seen.", set(), {"pleural_effusion"}),
        ("Lines, tubes: absent.", set(), {"tube"}),
        ("Scarring in the RUL, not in the LUL, and effusion.", {"scar", "pleural_effusion"}, {"scar"}),
        ("Left effusion, right pneumothorax absent.", {"pleural_effusion"}, {"pneumothorax"}),
        ("Left effusion, right pneumothorax is not seen.", {"pleural_effusion"}, {"pneumothorax"}),
        ("Left effusion and right pneumothorax absent.", set(), {"pleural_effusion", "pneumothorax"}),
        ("Left effusion, left pneumothorax absent.", set(), {"pleural_effusion", "pneumothorax"}),
        ("Erguss links, Pneumothorax rechts fehlend.", {"pleural_effusion"}, {"pneumothorax"}),
    ],
)
def test_what_a_word_at_the_end_denies(text: str, present: set[str], absent: set[str]) -> None:
    check(text, present, absent)


@pytest.mark.parametrize(
    ("text", "present", "absent"),
    [
        ("Absent pleural effusion, pericardial effusion small.", {"pericardial_effusion"}, {"pleural_effusion"}),
        ("No pleural effusion, pneumothorax small.", {"pneumothorax"}, {"pleural_effusion"}),
        ("No effusion, pneumothorax is small, no consolidation.", {"pneumothorax"}, {"pleural_effusion"}),
        ("Kein Pneumothorax, Erguss gering.", {"pleural_effusion"}, {"pneumothorax"}),
        ("No effusion, pneumothorax or nodule, large or small.", set(), {"pleural_effusion", "pneumothorax", "nodule"}),
        ("No effusion, large pneumothorax, or nodule.", set(), {"pleural_effusion", "pneumothorax", "nodule"}),
        ("No pleural effusion, pneumothorax, consolidation.", set(), {"pleural_effusion", "consolidation"}),
    ],
)
def test_a_finding_graded_after_a_comma_is_not_denied(text: str, present: set[str], absent: set[str]) -> None:
    check(text, present, absent)


@pytest.mark.parametrize(
    ("text", "present", "absent"),
    [
        ("Right lower lobe but no left lower lobe consolidation.", "right_lower_lobe", "left_lower_lobe"),
        ("Left upper lobe but not left lower lobe consolidation.", "left_upper_lobe", "left_lower_lobe"),
        ("Right middle lobe and no right lower lobe consolidation.", "right_middle_lobe", "right_lower_lobe"),
        ("RUL, but no RLL consolidation.", "right_upper_lobe", "right_lower_lobe"),
        ("No right lower lobe but left lower lobe consolidation.", "left_lower_lobe", "right_lower_lobe"),
        ("Consolidation in the right lower lobe, not in the left lower lobe.", "right_lower_lobe", "left_lower_lobe"),
        ("No consolidation in the RLL but in the LLL.", "left_lower_lobe", "right_lower_lobe"),
        ("Konsolidierung im rechten Unterlappen, nicht im linken Unterlappen.", "right_lower_lobe", "left_lower_lobe"),
    ],
)
def test_one_place_is_denied_and_the_other_is_not(text: str, present: str, absent: str) -> None:
    found = {f.polarity: f.regions for f in mine(text).findings if f.concept == "consolidation"}
    assert found == {Polarity.PRESENT: (present,), Polarity.ABSENT: (absent,)}


@pytest.mark.parametrize(
    ("text", "concept", "certainty"),
    [
        ("Left basilar pneumonia.", "pneumonia", Certainty.CERTAIN),
        ("Opacity consistent with pneumonia.", "pneumonia", Certainty.CERTAIN),
        ("Probable pneumonia.", "pneumonia", Certainty.PROBABLE),
        ("Opacity which may represent pneumonia.", "pneumonia", Certainty.POSSIBLE),
        ("Pneumonia cannot be excluded.", "pneumonia", Certainty.POSSIBLE),
        ("Lucency in the right base (pneumonia?) is seen.", "pneumonia", Certainty.POSSIBLE),
        ("History of pneumonia.", "pneumonia", Certainty.HISTORICAL),
        ("Evaluate for pneumonia.", "pneumonia", Certainty.HYPOTHETICAL),
        ("INDICATION: pneumonia", "pneumonia", Certainty.HYPOTHETICAL),
    ],
)
def test_certainty(text: str, concept: str, certainty: Certainty) -> None:
    assert only(text, concept).certainty is certainty


@pytest.mark.parametrize(
    ("text", "concept", "regions", "laterality"),
    [
        ("RLL pneumonia.", "pneumonia", {"right_lower_lobe"}, Laterality.RIGHT),
        ("Opacity in the lower lobe of the left lung.", "opacity", {"left_lower_lobe"}, Laterality.LEFT),
        ("Consolidation in the left lung, upper lobe.", "consolidation", {"left_upper_lobe"}, Laterality.LEFT),
        ("Bibasilar atelectasis.", "atelectasis", {"left_lower_zone", "right_lower_zone"}, Laterality.BILATERAL),
        (
            "Small bilateral pleural effusions.",
            "pleural_effusion",
            {"left_pleura", "right_pleura"},
            Laterality.BILATERAL,
        ),
        ("PTX on the left.", "pneumothorax", {"left_pleura"}, Laterality.LEFT),
        ("Pleural effusion.", "pleural_effusion", {"pleura"}, None),
        ("In the right base there is an opacity.", "opacity", {"right_lower_zone"}, Laterality.RIGHT),
        ("Left basilar opacity, likely atelectasis.", "atelectasis", {"left_lower_zone"}, Laterality.LEFT),
        ("Left basilar opacity. This may be atelectasis.", "atelectasis", {"left_lower_zone"}, Laterality.LEFT),
        ("Nodule in the left apex overlying the first rib.", "nodule", {"left_lung_apex"}, Laterality.LEFT),
        ("Healed left rib fractures.", "fracture", {"left_ribs"}, Laterality.LEFT),
        ("Scar in the left base and right apical granuloma.", "granuloma", {"right_lung_apex"}, Laterality.RIGHT),
        ("Effusion in the pericardium.", "pericardial_effusion", {"pericardium"}, None),
        ("Thoracic spondylosis.", "spondylosis", {"thoracic_spine"}, None),
        (
            "Right IJ catheter with tip in the right atrium.",
            "catheter",
            {"right_internal_jugular_vein"},
            Laterality.RIGHT,
        ),
    ],
)
def test_place_and_side(text: str, concept: str, regions: set[str], laterality: Laterality | None) -> None:
    finding = only(text, concept)
    assert regions <= set(finding.regions)
    assert finding.laterality is laterality


def test_severity_size_and_change() -> None:
    effusion = only("Interval increase in the moderate left pleural effusion.", "pleural_effusion")
    assert (effusion.severity, effusion.change) == (Severity.MODERATE, Change.WORSE)
    nodule = only("Stable 1.5 x 1.2 cm nodule in the right upper lobe.", "nodule")
    assert (nodule.size_mm, nodule.change) == (15.0, Change.STABLE)
    assert only("Nodule in the right apex. It measures 5 mm.", "nodule").size_mm == 5.0


def test_the_size_of_a_place_is_a_measurement_and_no_finding() -> None:
    findings = mine("The ascending aorta measures 41 mm; effusion of 2 cm on the right.").findings
    assert [(f.concept, f.regions, f.size_mm) for f in findings] == [
        ("measurement", ("ascending_aorta",), 41.0),
        ("pleural_effusion", ("right_pleura",), 20.0),
    ]
    assert [f.asserted for f in findings] == [False, True]


def test_a_normal_statement_denies_the_root_at_its_place() -> None:
    (statement,) = mine("Heart size is normal.").findings
    assert (statement.kind, statement.polarity, statement.regions) == (FindingKind.NORMAL, Polarity.ABSENT, ("heart",))


def test_spans_point_into_the_text_and_its_sentence() -> None:
    text = "FINDINGS: Heart is enlarged.\n\nIMPRESSION: 1. Small left effusion."
    report = mine(text)
    assert [text[slice(*finding.span)] for finding in report.findings] == ["enlarged", "effusion"]
    assert [text[slice(*finding.sentence)] for finding in report.findings] == [
        "Heart is enlarged",
        "Small left effusion",
    ]
    assert [finding.section for finding in report.findings] == ["findings", "impression"]


@pytest.mark.parametrize(
    "text", ["", "   ", "XXXX ___ [**name**]", "\0\1\2", "é" * 5, "no " * 3000, "effusion " * 5000]
)
def test_any_text_is_survived(text: str) -> None:
    report = mine(text)
    assert report.text == text


@settings(max_examples=examples(60), deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                "no",
                "small",
                "left",
                "right",
                "base",
                "effusion",
                "nodule",
                "heart",
                "is",
                "enlarged",
                "and",
                ",",
                ".",
                ";",
                "with",
                "in",
                "the",
                "lungs",
                "clear",
                "but",
                "may",
                "be",
                "opacity",
                "XXXX",
                "5",
                "mm",
            ]
        ),
        max_size=40,
    )
)
def test_findings_are_well_formed_whatever_the_words(words: list[str]) -> None:
    text = " ".join(words)
    for finding in mine(text).findings:
        start, end = finding.span
        assert finding.sentence[0] <= start < end <= finding.sentence[1] <= len(text)
        assert finding.regions
        for region in finding.regions:
            anatomy.region(region)


def test_a_finding_of_a_shared_noun_has_a_place_in_the_text() -> None:
    text = "Right upper, bilateral lower paratracheal, aortopulmonary lymph nodes smaller than 1 cm are observed."
    found = mine(text).findings
    assert found
    assert all(finding.span[0] < finding.span[1] for finding in found)
