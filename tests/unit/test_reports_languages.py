"""The same statement in English and in German gives the same findings; the language is told from the text."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radir_pacs.reports import Certainty, Finding, FindingKind, Polarity, Statements, excerpt, explain, mine
from radir_pacs.reports.lexicon import is_heading
from tests.examples import examples

CONCEPTS = {  # English, German with its gender, whether it lies in a lobe
    "pleural effusion": ("m", "Pleuraerguss", False),
    "pneumothorax": ("m", "Pneumothorax", False),
    "infiltrate": ("n", "Infiltrat", True),
    "consolidation": ("f", "Konsolidierung", True),
    "atelectasis": ("f", "Atelektase", True),
    "nodule": ("m", "Rundherd", True),
    "mass": ("f", "Raumforderung", True),
    "opacity": ("f", "Verschattung", True),
    "pneumonia": ("f", "Pneumonie", True),
    "bronchiectasis": ("f", "Bronchiektasie", True),
    "rib fracture": ("f", "Rippenfraktur", False),
    "granuloma": ("n", "Granulom", True),
}
PLACES = {
    "right upper lobe": ("rechten Oberlappen", "Oberlappen rechts", "OL re."),
    "left upper lobe": ("linken Oberlappen", "Oberlappen links", "OL li."),
    "right lower lobe": ("rechten Unterlappen", "Unterlappen rechts", "re. UL"),
    "left lower lobe": ("linken Unterlappen", "Unterlappen links", "li. UL"),
    "middle lobe": ("Mittellappen", "rechten Mittellappen", "ML"),
}
SIDES = {"right": ("rechts", "re.", "rechtsseitig"), "left": ("links", "li.", "linksseitig")}
BOTH = ("beidseits", "bds.", "beidseitig")
ENDING = {"m": "er", "f": "e", "n": "es"}
NO = {"m": "Kein", "f": "Keine", "n": "Kein"}
GRADES = {"small": "klein", "moderate": "mäßig", "large": "groß"}
CHANGES = {"unchanged": "unverändert", "improved": "rückläufig", "worsened": "progredient"}


class Statement(NamedTuple):
    english: str
    german: str


@st.composite
def statements(draw: st.DrawFn) -> Statement:
    """A finding, affirmed, doubted or denied, with a side or lobe, in a wording of either language."""
    english = draw(st.sampled_from(sorted(CONCEPTS)))
    gender, german, in_lobe = CONCEPTS[english]
    where = [("", "")]
    if in_lobe:
        where += [(f" in the {place}", f" im {words}") for place, named in PLACES.items() for words in named]
    else:
        where += [(f" on the {side}", f" {word}") for side, words in SIDES.items() for word in words]
        where += [(" on both sides", f" {word}") for word in BOTH]
    at_english, at_german = draw(st.sampled_from(where))
    grade = draw(st.sampled_from(["", *GRADES]))
    graded = f"{grade} " if grade else ""
    adjective = f"{GRADES[grade]}{ENDING[gender]} " if grade else ""
    ways = [
        (f"No {english}{at_english}.", f"{NO[gender]} {german}{at_german}."),
        (f"No evidence of {english}{at_english}.", f"Kein Nachweis von {german}{at_german}."),
        (f"{english.capitalize()}{at_english} is not seen.", f"{german}{at_german} nicht nachweisbar."),
        (f"{graded}{english}{at_english}.".capitalize(), f"{adjective}{german}{at_german}.".capitalize()),
        (f"There is a {graded}{english}{at_english}.", f"Es findet sich ein {adjective}{german}{at_german}."),
        (f"Suspected {english}{at_english}.", f"V.a. {german}{at_german}."),
        (f"Probable {english}{at_english}.", f"Wahrscheinlich {german}{at_german}."),
        (f"{english.capitalize()}{at_english} cannot be excluded.", f"{german}{at_german} ist nicht auszuschließen."),
        *(
            (f"{english.capitalize()}{at_english} is {change}.", f"{german}{at_german} ist {word}.")
            for change, word in CHANGES.items()
        ),
    ]
    return Statement(*draw(st.sampled_from(ways)))


def said(findings: tuple[Finding, ...]) -> list[tuple[object, ...]]:
    fields = (
        (f.concept, f.polarity, f.certainty, tuple(sorted(f.regions)), f.laterality, f.severity, f.size_mm, f.change)
        for f in findings
    )
    return sorted(fields, key=repr)


@given(statements())
@settings(max_examples=examples(300), deadline=None)
def test_a_statement_says_the_same_in_both_languages(statement: Statement) -> None:
    english, german = mine(statement.english), mine(f"Befund: {statement.german}")
    assert (english.language, german.language) == ("en", "de"), statement
    assert english.findings and said(english.findings) == said(german.findings), statement


@given(st.lists(statements(), min_size=2, max_size=5))
@settings(max_examples=examples(60), deadline=None)
def test_a_report_says_what_its_statements_say(told: list[Statement]) -> None:
    alone = [finding for statement in told for finding in mine(f"Befund: {statement.german}").findings]
    together = mine("Befund: " + " ".join(statement.german for statement in told))
    assert said(together.findings) == said(tuple(alone)), together.text


@given(st.integers(1, 99), st.integers(1, 9), st.sampled_from(["mm", "cm"]))
@settings(max_examples=examples(30), deadline=None)
def test_a_decimal_comma_is_read_as_a_point(whole: int, part: int, unit: str) -> None:
    english = mine(f"There is a nodule of {whole}.{part} {unit} in the right upper lobe.")
    german = mine(f"Rundherd von {whole},{part} {unit} im rechten Oberlappen.")
    assert said(english.findings) == said(german.findings)


@given(st.text(alphabet="abeinrstuüäß.,-/ \n0123456789?:", max_size=300))
@settings(max_examples=examples(100), deadline=None)
def test_any_german_text_is_accepted(text: str) -> None:
    report = mine(f"Befund: kein Erguss. {text}")
    for finding in report.findings:
        assert finding.sentence[0] <= finding.span[0] < finding.span[1] <= finding.sentence[1] <= len(report.text)


def test_a_german_report_explains_and_is_excerpted_like_an_english_one() -> None:
    german = mine("Befund: Pleuraerguss rechts. Rechts kein Pneumothorax. Herz normal groß.")
    english = mine("Right pleural effusion. Right pneumothorax.")
    shared, contradicting = explain(Statements.of(english.findings), Statements.of(german.findings), "right_pleura")
    assert [note.concept for note in shared] == ["pleural_effusion"]
    assert [(note.concept, note.polarity) for note in contradicting] == [("pneumothorax", "absent")]
    shown = excerpt(german.text, german.findings, "right_pleura", shared=shared, contradicting=contradicting)
    assert shown.text == "Pleuraerguss rechts. Rechts kein Pneumothorax."
    assert [shown.text[mark.start : mark.end] for mark in shown.marks] == ["Pleuraerguss", "Pneumothorax"]


def test_history_and_questions_are_no_findings_in_german() -> None:
    report = mine("Klinische Angaben: Pneumonie? Z.n. Lungenembolie.\nBefund: Kein Infiltrat.")
    asked = [f for f in report.findings if f.section == "indication"]
    assert asked and all(f.certainty is Certainty.HYPOTHETICAL for f in asked)
    assert not any(f.asserted for f in report.findings)


def test_english_headings_may_stand_above_german_text() -> None:
    report = mine("INDICATION:\nPneumothorax rechts?\nIMPRESSION:\nKleiner Pleuraerguss links.")
    assert report.language == "de"
    assert [(f.concept, f.section, f.asserted) for f in report.findings] == [
        ("pneumothorax", "indication", False),
        ("pleural_effusion", "impression", True),
    ]
    assert is_heading("Beurteilung", loosely=False) and is_heading("Impression", loosely=False)


def test_a_normal_statement_is_read_in_german() -> None:
    [finding] = mine("Die Lungen sind frei belüftet.").findings
    assert (finding.kind, finding.polarity) == (FindingKind.NORMAL, Polarity.ABSENT)
    assert set(finding.regions) <= {"lungs", "left_lung", "right_lung"}


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Randwinkelerguss re.", "de"),
        ("Degenerative Veränderungen der BWS.", "de"),
        ("Unauffaelliger Befund.", "de"),
        ("Pulmonary oedema. Haemothorax.", "en"),
        ("Pneumothorax.", "en"),
        ("Geen pneumothorax. Pleuravocht rechts.", "nl"),
        ("Pas d'épanchement pleural.", "fr"),
    ],
)
def test_the_language_is_told_from_few_words(text: str, language: str) -> None:
    assert mine(text).language == language


@pytest.mark.parametrize(
    "text", ["Pneumonia?", "Ausschluss Pneumonie?", "Pneumonie?", "Pneumothorax ist ausgeschlossen. Pneumonie?"]
)
def test_a_question_at_the_end_of_a_sentence_is_a_doubt(text: str) -> None:
    (finding,) = (found for found in mine(text).findings if found.concept == "pneumonia")
    assert finding.asserted and finding.certainty is Certainty.POSSIBLE


@pytest.mark.parametrize(
    "text", ["Pleuraergüsse li. > re.", "Pleuraerguss re. > li., kein Pneumothorax.", "Pleural effusion R > L."]
)
def test_which_side_has_more_says_that_both_have_it(text: str) -> None:
    (finding,) = (found for found in mine(text).findings if found.concept == "pleural_effusion")
    assert finding.regions == ("left_pleura", "right_pleura")


@pytest.mark.parametrize(
    "text",
    [
        "Pleuraerguss rechts, links keiner.",
        "Right pleural effusion, left none.",
        "Rechtsseitiger Pleuraerguss, links nicht nachweisbar.",
        "Erguss rechts, links nicht abgrenzbar.",
        "Right pleural effusion, left absent.",
    ],
)
def test_what_one_side_lacks_is_not_denied_of_the_other(text: str) -> None:
    finding, *others = mine(text).findings
    assert finding.asserted and finding.regions == ("right_pleura",)
    assert [(other.polarity, other.regions) for other in others] == [(Polarity.ABSENT, ("left_pleura",))]


@pytest.mark.parametrize(
    "text",
    [
        "No new infiltrate.",
        "Kein neues Infiltrat.",
        "Keine neuen Infiltrate.",
        "Keine neu aufgetretenen Infiltrate.",
    ],
)
def test_nothing_new_is_a_denial(text: str) -> None:
    (finding,) = (found for found in mine(text).findings if found.concept == "infiltrate")
    assert finding.polarity is Polarity.ABSENT


@pytest.mark.parametrize(
    "text",
    [
        "Ascending aorta 41 mm, right pleural effusion 2 cm.",
        "Aorta ascendens 41 mm, Pleuraerguss rechts 2 cm.",
        "Aorta ascendens 41 mm. Pleuraerguss re. 2 cm.",
    ],
)
def test_a_size_stays_with_the_place_it_measures(text: str) -> None:
    measured = {found.concept: found.size_mm for found in mine(text).findings}
    assert measured == {"measurement": 41.0, "pleural_effusion": 20.0}


@pytest.mark.parametrize(
    ("text", "concepts"),
    [
        ("Unauffälliger Herz-Lungen-Befund.", {"abnormality"}),
        ("Altersentsprechender Lungenbefund.", {"abnormality"}),
        ("Kein pathologischer Lungenbefund.", {"lung_abnormality"}),
        ("Keine Pneumonie, sondern Atelektase rechts.", {"pneumonia", "atelectasis"}),  # "sondern" is no "Sonde"
        ("Nodule RUL 6 x 4 mm (se 3 im 41).", {"nodule"}),  # "im" and "se" before a number are no other language
    ],
)
def test_words_that_look_like_others(text: str, concepts: set[str]) -> None:
    found = mine(text).findings
    assert {finding.concept for finding in found} == concepts
    assert all(finding.polarity is Polarity.ABSENT for finding in found if "abnormality" in finding.concept)


@pytest.mark.parametrize(
    "text", ["Dense consol-\nidation in the right lower lobe.", "Dichte Konsoli-\ndierung im rechten Unterlappen."]
)
def test_a_word_broken_by_a_line_end_is_one(text: str) -> None:
    (finding,) = mine(text).findings
    assert (finding.concept, finding.regions) == ("consolidation", ("right_lower_lobe",))


@pytest.mark.parametrize(
    "text",
    [
        "Left basilar pleural effusion.",
        "Small left basal effusion.",
        "Linksseitiger basaler Pleuraerguss.",
        "Linksbasaler Pleuraerguss.",
        "Links basal Pleuraerguss.",
    ],
)
def test_a_place_where_a_finding_cannot_be_tells_its_side(text: str) -> None:
    (finding,) = mine(text).findings
    assert (finding.concept, finding.regions) == ("pleural_effusion", ("left_pleura",))
