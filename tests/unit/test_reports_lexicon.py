"""The shipped lexicon has no fault; a faulty one is refused and says which; a hospital can add to it."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest

from radir_pacs.errors import SettingError
from radir_pacs.reports import Miner, lexicon_check, lexicon_data
from radir_pacs.reports.labels import label_set, label_sets
from radir_pacs.reports.lexicon import load
from radir_pacs.reports.lexicon_check import faults, refuse_faults
from radir_pacs.reports.lexicon_data import LANGUAGES


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_shipped_lexicons_have_no_fault(language: str) -> None:
    assert faults(language) == []


def test_every_language_says_the_same_things_of_a_concept() -> None:
    english, german = load("en"), load("de")
    assert german.concepts.keys() == english.concepts.keys()
    for key, concept in german.concepts.items():
        assert replace(concept, terms=()) == replace(english.concepts[key], terms=()), key
    assert german.sided == english.sided and german.formed == english.formed


def test_what_a_language_has_no_words_for_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    complete = lexicon_data.read_data("de")
    less = deepcopy(complete)
    less["concepts"]["pneumothorax"]["terms"] = []
    less["concepts"]["edema"] |= {"terms": [], "unworded": True}  # on purpose
    del less["places"]["terms"]["carina"], less["attributes"]["attribute"]["blunted"], less["cues"]["negation"]["after"]
    given = {"de": less, "en": lexicon_data.read_data("en")}
    monkeypatch.setattr(lexicon_check, "read_data", lambda language, extra=(): given[language])
    found = faults("de")
    assert "concept pneumothorax has no words" in found and "region carina has no words" in found
    assert "attribute blunted has no words" in found and "cues.toml has no group negation.after" in found
    assert not any("edema" in fault for fault in found)


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        ("Unterlappenatelektasen", "Unterlappen Atelektase"),
        ("Pleuraergüsse", "Pleura Erguss"),
        ("PLEURAERGUESSE", "Pleura Erguss"),
        ("linksbasales", "links basal"),
        ("Verschattungsareale", "Verschattung Areal"),
        ("ergussfrei", "Erguss nicht vorhanden"),
        ("Streifenatelektase", "streifen Atelektase"),
        ("unauffällig", "unauffällig"),
        ("Nichtinfiltrat", "Nichtinfiltrat"),
        ("bi" * 40 + "x", "bi" * 40 + "x"),
    ],
)
def test_compounds_are_read_in_their_parts(word: str, parts: str) -> None:
    normalise = load("de").normalise
    assert list(normalise.all(word)) == [normalise.base(part) for part in parts.split()]


@pytest.mark.parametrize("name", label_sets())
def test_label_rules_name_concepts_and_regions_there_are(name: str) -> None:
    assert label_set(name).rules


@pytest.mark.parametrize(
    ("concepts", "complaint"),
    [
        ('[orphan]\nis_a = []\nat = "lungs"\nterms = ["orphanoma"]', "orphan"),
        (
            '[a]\nis_a = ["b"]\nat = "lungs"\nterms = []\n[b]\nis_a = ["a"]\nat = "lungs"\nterms = []',
            "its own ancestor",
        ),
        ('[twin]\nis_a = ["opacity"]\nat = "lungs"\nterms = ["pleural effusion"]', "'pleural effusion' is a term of"),
        ('[far]\nis_a = ["opacity"]\nat = "moon"\nterms = ["moonoma"]', "unknown region moon"),
        ('[child]\nis_a = ["nobody"]\nat = "lungs"\nterms = ["childoma"]', "unknown parent nobody"),
        ('[odd]\nis_a = ["opacity"]\nat = "lungs"\nterms = ["odd"]\nformed = ["purple + lungs"]', "attribute purple"),
    ],
)
def test_faults_are_named_and_refused(tmp_path: Path, concepts: str, complaint: str) -> None:
    (tmp_path / "concepts.toml").write_text(concepts)
    assert any(complaint in fault for fault in faults(extra=(tmp_path,)))
    with pytest.raises(SettingError):
        refuse_faults(extra=(tmp_path,))


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "concepts.toml").write_text("[half")
    with pytest.raises(SettingError, match=r"concepts\.toml"):
        load("en", (tmp_path,))


def test_an_unknown_language_is_refused() -> None:
    with pytest.raises(SettingError, match="'xx'"):
        load("xx")


def test_a_hospital_adds_a_concept_and_a_term(tmp_path: Path) -> None:
    (tmp_path / "concepts.toml").write_text(
        '[halo]\nis_a = ["opacity"]\nat = "lungs"\nterms = ["reversed halo"]\n[pneumothorax]\nterms = ["collapsus"]\n'
    )
    findings = Miner(load("en", (tmp_path,))).mine("Reversed halo in the left apex. No collapsus.").findings
    assert [(f.concept, f.asserted) for f in findings] == [("halo", True), ("pneumothorax", False)]


@pytest.mark.parametrize(
    ("word", "normal"),
    [
        ("oedema", "edema"),
        ("apices", "apex"),
        ("opacities", "opacity"),
        ("XXXX", "_"),
        ("___", "_"),
        ("effusoin", "effusion"),
        ("Tumours", "tumor"),
    ],
)
def test_words_have_one_form(word: str, normal: str) -> None:
    assert load().normalise(word) == normal
