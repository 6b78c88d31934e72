"""The administrator's pages without a server: their words, figures, charts and the card."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

import radir_pacs.web as web_package
from radir_pacs.catalogue import Flow, Happening, ProblemOf
from radir_pacs.encode import default_bundles
from radir_pacs.encode.card import model_card
from radir_pacs.encode.folder import read_manifest
from radir_pacs.types import ImageKind, JobKind, JobState, ModelChange, ModelState, StepState, StudyState
from radir_pacs.web import language
from radir_pacs.web.admin.charts import BARS_HEIGHT, HEIGHT, WIDTH, bars, curves
from radir_pacs.web.admin.figures import Figures
from radir_pacs.web.admin.markdown import card_parts
from radir_pacs.web.admin.words import Speaker, words
from radir_training.retraining.gates import GateCode
from radir_training.retraining.steps import STEPS

TEMPLATES = Path(web_package.__file__).parent / "templates" / "admin"
ENGLISH, GERMAN = (Figures(tag, Speaker(tag)) for tag in ("en", "de"))


def test_every_language_says_the_same_things() -> None:
    for tag in language.LANGUAGES:
        places = {key: set(re.findall(r"\{\w+\}", text)) for key, text in words(tag).items()}
        assert places == {key: set(re.findall(r"\{\w+\}", text)) for key, text in words("en").items()}, tag


def test_every_text_that_a_template_says_is_there_and_none_is_written_in_it() -> None:
    source = {path.name: path.read_text("utf-8") for path in TEMPLATES.glob("*.html")}
    asked = set(re.findall(r"""say\(\s*["'](\w+)["']\s*[,)]""", "".join(source.values())))
    assert len(asked) > 150 and asked <= set(words("en"))
    allowed = re.compile(
        r"RadIR-PACS|radir (?:problems|studies|tokens create)|--role administrator|since|recipe|epochs"
    )
    for name, text in source.items():
        text = re.sub(r"\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}", "", text, flags=re.DOTALL)
        text = re.sub(r"<[^>]*>|&#?\w+;", " ", text)
        assert not re.search(r"[A-Za-z]{3,}", allowed.sub("", text)), name


@pytest.mark.parametrize(
    ("of", "codes"),
    [
        ("state", [*StudyState, *ModelState]),
        ("means", StudyState),
        ("flow", Flow),
        ("of", ProblemOf),
        ("happened", Happening),
        ("job", JobKind),
        ("jobstate", JobState),
        ("change", ModelChange),
        ("stepstate", StepState),
        ("step", STEPS),
        ("gate", GateCode),
        ("kind", ImageKind),
    ],
)
def test_every_code_has_a_word(of: str, codes: list[str]) -> None:
    assert [str(code) for code in codes if f"{of}_{code}" not in words("en")] == []


def test_figures_are_written_as_each_language_does() -> None:
    assert (ENGLISH.count(1234567), GERMAN.count(1234567)) == ("1,234,567", "1.234.567")
    assert (ENGLISH.decimal(0.1234), GERMAN.decimal(0.1234)) == ("0.123", "0,123")
    assert ENGLISH.decimal(None) == ENGLISH.decimal(math.nan) == ENGLISH.count(None) == ENGLISH.age(None) == "–"
    assert (ENGLISH.signed(0.05), ENGLISH.signed(-0.05)) == ("+0.050", "−0.050")
    assert ENGLISH.moment(datetime(2026, 11, 1, 9, 5, 7, tzinfo=UTC), seconds=True) == "2026-11-01 09:05:07"


@pytest.mark.parametrize(("share", "told"), [(0.0, "0"), (0.99999, "99.9"), (1.0, "100"), (0.5, "50.0")])
def test_a_hundred_is_said_only_of_all(share: float, told: str) -> None:
    assert ENGLISH.share(share).split("\N{NARROW NO-BREAK SPACE}") == [told, "%"]


@pytest.mark.parametrize(
    ("seconds", "told"), [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (172800, "2 d")]
)
def test_ages_round_to_what_a_person_would_say(seconds: float, told: str) -> None:
    assert ENGLISH.age(seconds) == told


def test_bars_stand_on_the_line_and_show_whatever_is_not_nothing() -> None:
    made = bars((0, 1, 1000))
    assert [bar.height for bar in made] == [0, 1.5, BARS_HEIGHT] and all(
        bar.y + bar.height == BARS_HEIGHT for bar in made
    )
    assert bars((0, 0))[0].height == 0


def test_curves_fill_their_frame_and_what_cannot_be_drawn_is_left_out() -> None:
    drawn, last = curves(
        {"a": [[1, 4.0], [10, 1.0]], "b": [[1, 2.0], [5, 2.0]], "none": [[1, 0.0]], "nan": [[1, math.nan]]}
    )
    assert [curve.name for curve in drawn] == ["a", "b"] and last == 10
    ends = [[tuple(map(float, point.split(","))) for point in curve.points.split()] for curve in drawn]
    assert ends[0][-1] == (WIDTH, HEIGHT) and ends[1][0][1] == ends[0][0][1] == 0
    assert curves({}) == ((), 0)


def test_a_card_is_taken_apart_whole() -> None:
    card = model_card(read_manifest(default_bundles()[ImageKind.CXR]))
    parts = card_parts(card)
    assert [part.heading for part in parts if part.level == 2] == re.findall(r"(?m)^## (.*)$", card)
    rows = sum(len(part.rows) for part in parts)
    assert rows == len(re.findall(r"(?m)^\|(?!---)", card)) > 10
    assert sum(len(part.items) for part in parts) == len(re.findall(r"(?m)^- ", card))
    assert all(len(row) == len(part.rows[0]) for part in parts for row in part.rows)
