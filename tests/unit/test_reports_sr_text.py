"""Structured reports as text: what coded items and texts about one finding state, and what a document replaces."""

from __future__ import annotations

from typing import Any

import pytest

from radir_pacs.reports import Polarity, mine
from radir_pacs.reports.sr_text import sr_text, standing

Json = dict[str, Any]


def named(value_type: str, name: str, relationship: str = "CONTAINS", children: tuple[Json, ...] = ()) -> Json:
    item: Json = {
        "0040A010": {"vr": "CS", "Value": [relationship]},
        "0040A040": {"vr": "CS", "Value": [value_type]},
        "0040A043": {"vr": "SQ", "Value": [{"00080104": {"vr": "LO", "Value": [name]}}]},
    }
    if children:
        item["0040A730"] = {"vr": "SQ", "Value": list(children)}
    return item


def code(name: str, value: str, *children: Json, relationship: str = "CONTAINS") -> Json:
    item = named("CODE", name, relationship, children)
    return item | {"0040A168": {"vr": "SQ", "Value": [{"00080104": {"vr": "LO", "Value": [value]}}]}}


def text(name: str, value: str) -> Json:
    return named("TEXT", name) | {"0040A160": {"vr": "UT", "Value": [value]}}


def number(name: str, value: str, unit: str) -> Json:
    measured = {
        "0040A30A": {"vr": "DS", "Value": [value]},
        "004008EA": {"vr": "SQ", "Value": [{"00080100": {"vr": "SH", "Value": [unit]}}]},
    }
    return named("NUM", name, "HAS PROPERTIES") | {"0040A300": {"vr": "SQ", "Value": [measured]}}


def container(name: str, *children: Json) -> Json:
    return named("CONTAINER", name, children=children)


def document(*items: Json, title: str = "Diagnostic imaging report") -> Json:
    return container(title, *items)


def has(name: str, value: str) -> Json:
    return code(name, value, relationship="HAS PROPERTIES")


@pytest.mark.parametrize(
    ("items", "present", "absent"),
    [
        ((code("Pneumothorax", "Absent"),), set(), {"pneumothorax"}),
        ((code("Pneumothorax", "Absent (qualifier value)"), code("Edema", "Present")), {"edema"}, {"pneumothorax"}),
        ((text("Pneumonia", "None"),), set(), {"pneumonia"}),
        ((text("Pneumonia", "Right lower lobe."), text("Effusion", "No")), {"pneumonia"}, {"pleural_effusion"}),
        (
            (container("Findings", text("Finding", "No pneumothorax. Left effusion.")),),
            {"pleural_effusion"},
            {"pneumothorax"},
        ),
        ((code("Finding", "Pneumothorax", has("Presence", "Absent")),), set(), {"pneumothorax"}),
        ((code("Finding", "Nodule", has("Laterality", "Left"), has("Presence", "Present")),), {"nodule"}, set()),
        ((container("Pneumothorax", code("Presence", "Absent")),), set(), {"pneumothorax"}),
        ((container("Cardiomegaly", code("Presence", "Present"), code("Severity", "Mild")),), {"cardiomegaly"}, set()),
        (
            (container("History", text("History", "Pneumonia")), container("Findings", text("Finding", "Clear."))),
            set(),
            set(),
        ),
        ((text("Impression", "<p>No&nbsp;effusion</p><p>Emphysema</p>"),), {"emphysema"}, {"pleural_effusion"}),
        (
            (code("Language of Content Item", "German", relationship="HAS CONCEPT MOD"), code("Edema", "No")),
            set(),
            {"edema"},
        ),
        ((code("Finding", "Pleural effusion"),), {"pleural_effusion"}, set()),
    ],
)
def test_what_items_state(items: tuple[Json, ...], present: set[str], absent: set[str]) -> None:
    findings = mine(sr_text(document(*items))).findings
    assert {f.concept for f in findings if f.asserted} == present
    assert absent <= {f.concept for f in findings if f.polarity is Polarity.ABSENT}


def test_properties_of_a_coded_finding_are_read_with_it() -> None:
    nodule = code("Finding", "Nodule", has("Finding Site", "Left upper lobe"), number("Diameter", "12", "mm"))
    (finding,) = mine(sr_text(document(nodule))).findings
    assert (finding.concept, finding.regions, finding.size_mm) == ("nodule", ("left_upper_lobe",), 12.0)


def test_which_documents_one_replaces() -> None:
    reference = {"00081155": {"vr": "UI", "Value": ["2.25.7"]}}
    series = {"00081199": {"vr": "SQ", "Value": [reference]}}
    before = {"0040A360": {"vr": "SQ", "Value": [{"00081115": {"vr": "SQ", "Value": [series]}}]}}
    assert standing(document() | before).predecessors == ("2.25.7",)
    assert standing(document(title="Radiology report addendum") | before).predecessors == ()
    assert not standing(document()).draft
    assert standing(document() | {"0040A491": {"vr": "CS", "Value": ["PARTIAL"]}}).draft
    assert standing(document() | {"0040A496": {"vr": "CS", "Value": ["PRELIMINARY"]}}).draft
