"""One text about several studies: each is told what stands in its own part, and what belongs to all."""

from __future__ import annotations

import pytest

from radir_pacs.reports import Finding, mine
from radir_pacs.types import ImageKind

CT, CXR = ImageKind.CT, ImageKind.CXR

# text, concepts said of the CT, of the radiograph ("-": denied)
TEXTS = {
    "a report each": (
        "EXAMINATION: CT CHEST WITH CONTRAST, XR CHEST 2 VIEWS\n\nINDICATION: Fever.\n\nCT CHEST WITH CONTRAST:\n"
        "FINDINGS: 8 mm nodule in the right upper lobe. No pleural effusion.\nIMPRESSION: Right upper lobe nodule.\n\n"
        "XR CHEST, PA AND LATERAL:\nFINDINGS: Left lower lobe consolidation. The heart is enlarged.\n"
        "IMPRESSION: Pneumonia.",
        {"nodule", "-pleural_effusion"},
        {"consolidation", "cardiomegaly", "pneumonia"},
    ),
    "a line each": (
        "CT chest: Emphysema. Small left pleural effusion.\nChest X-ray: Cardiomegaly. No pneumothorax.",
        {"emphysema", "pleural_effusion"},
        {"cardiomegaly", "-pneumothorax"},
    ),
    "numbered, with times": (
        "1. CT CHEST 08:30: Emphysema.\n2. CHEST X-RAY 10:15: Right pneumothorax after biopsy.",
        {"emphysema"},
        {"pneumothorax"},
    ),
    "titles alone, one impression for all": (
        "INDICATION: cough\n\nCHEST RADIOGRAPH 03/12/2024\nCardiomegaly.\n\nCT CHEST WITHOUT CONTRAST\n"
        "FINDINGS:\nRight pleural effusion.\n\nIMPRESSION:\nPulmonary edema.",
        {"pleural_effusion", "edema"},
        {"cardiomegaly", "edema"},
    ),
    "two titles above one text": (
        "CT CHEST WITHOUT CONTRAST\nXR CHEST 2 VIEWS\n\nFINDINGS: Right lower lobe consolidation.\n"
        "IMPRESSION: Pneumonia.",
        {"consolidation", "pneumonia"},
        {"consolidation", "pneumonia"},
    ),
    "of a modality that is not encoded": (
        "MRI THORACIC SPINE WITHOUT CONTRAST\nCompression fracture of T8.\n\nXR CHEST PORTABLE\nRight pneumothorax.",
        set(),
        {"pneumothorax"},
    ),
    "reported elsewhere": (
        "XR CHEST 1 VIEW:\nCardiomegaly.\n\nCT CHEST:\nSee separate report.",
        set(),
        {"cardiomegaly"},
    ),
    "earlier studies are no parts": (
        "COMPARISON:\nCT chest 01/02/2024\nChest radiograph 03/04/2024\nFINDINGS: Left pleural effusion.",
        {"pleural_effusion"},
        {"pleural_effusion"},
    ),
    "another modality in a sentence is no part": (
        "CT CHEST:\nNodule in the right upper lobe, seen on the\nchest radiograph of the same day.\nSmall effusion.",
        {"nodule", "pleural_effusion"},
        {"nodule", "pleural_effusion"},
    ),
    "German": (
        "Röntgen Thorax in 2 Ebenen vom 12.03.2024:\nPneumothorax rechts. Kein Pleuraerguss.\n\n"
        "CT Thorax mit KM vom 13.03.2024:\nRundherd im linken Oberlappen. Lungenembolie rechts.",
        {"nodule", "pulmonary_embolism"},
        {"pneumothorax", "-pleural_effusion"},
    ),
}


def said(text: str, kind: ImageKind | None) -> set[str]:
    return {("" if f.asserted else "-") + f.concept for f in mine(text, kind).findings}


@pytest.mark.parametrize("name", TEXTS)
def test_each_study_has_its_part(name: str) -> None:
    text, ct, cxr = TEXTS[name]
    assert (said(text, CT), said(text, CXR)) == (ct, cxr)
    assert said(text, None) == ct | cxr | ({"fracture"} if name.startswith("of a modality") else set())


def test_findings_stand_where_the_text_has_them() -> None:
    text = TEXTS["a report each"][0]
    [finding] = [f for f in mine(text, CXR).findings if f.concept == "consolidation"]
    assert isinstance(finding, Finding) and text[slice(*finding.span)] == "consolidation"
    assert text[slice(*finding.sentence)] == "Left lower lobe consolidation" and finding.section == "findings"


@pytest.mark.parametrize(
    "text",
    [
        "See report of CT chest of the same day for the pulmonary embolism.",
        "Pneumothorax: please see separate report.",
        "Effusion, reported separately.",
        "Pleuraerguss: siehe Befund der CT vom selben Tag.",
    ],
)
def test_what_another_report_says_is_not_said_here(text: str) -> None:
    assert not [f for f in mine(text).findings if f.asserted]
