"""The answer in a terminal says each thing once."""

from __future__ import annotations

from dataclasses import replace

from radir_pacs.cli.output import out
from radir_pacs.cli.similar import show
from radir_pacs.types import FindingNote
from tests.sr_material import similar_answer


def test_a_concept_is_said_once_as_gravely_as_it_is_put() -> None:
    said = (
        ("fibrosis", "left_lung", None),
        ("opacity", "left_upper_lobe", None),
        ("fibrosis", "right_lung", None),
        ("opacity", "right_lower_lobe", "moderate"),
        ("opacity", "right_upper_lobe", "mild"),
    )
    notes = [FindingNote(concept=c, region=r, polarity="present", severity=s) for c, r, s in said]
    notes.append(FindingNote(concept="opacity", region="lingula", polarity="absent"))
    answer = similar_answer(count=1)
    answer = replace(answer, cases=(replace(answer.cases[0], shared=tuple(notes), contradicting=()),))
    with out.capture() as printed:
        show(answer)
    assert "fibrosis, opacity (moderate), no opacity" in " ".join(printed.get().split())
