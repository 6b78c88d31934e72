"""Patients that merge and change, by the messages that say so: studies and exclusions move at once, and back."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from radir_pacs.catalogue import Catalogue
from radir_pacs.config import Settings
from radir_pacs.hl7.handling import Handler
from tests.hl7_material import adt, code, oru
from tests.integration.test_report_intake import excluded, shown, texts, three

__all__ = ["three"]  # a fixture: studies 1, 2 and 3 of the patients p1, p2 and p3, each called Name^ and its number

Tell = Callable[..., None]
MERGES = ("A18", "A34", "A36", "A39", "A40")
ONE, BOTH = {"2.25.1"}, {"2.25.1", "2.25.2"}


@pytest.fixture
def tell(settings: Settings, catalogue: Catalogue) -> Tell:
    """Sends an ADT message, which must be taken; each call is a message of its own."""
    settings.home.mkdir(parents=True, exist_ok=True)
    handler = Handler(catalogue, settings)
    numbers = iter(range(1, 100))

    def send(event: str, patient: str, prior: str = "", name: str = "Muster^Anna") -> None:
        [answer] = handler.answer(adt(event, patient, prior, name=name, control=f"ADT{next(numbers)}"))
        assert code(answer) == "AA"

    return send


@pytest.mark.parametrize("event", MERGES)
@pytest.mark.parametrize(("undo", "patient", "prior"), [("A37", "p2", "p1"), ("A37", "p1", "p2"), ("A43", "p1", "p2")])
def test_a_merge_moves_and_its_undoing_moves_back(
    event: str, undo: str, patient: str, prior: str, catalogue: Catalogue, three: None, tell: Tell
) -> None:
    assert excluded(catalogue) == ONE
    tell(event, "p2^^^HOSP^MR", "p1^^^HOSP^MR")
    assert excluded(catalogue) == BOTH and shown(catalogue, 1) == ("p2", "Muster^Anna")
    tell(event, "p2^^^HOSP^MR", "p1^^^HOSP^MR")
    assert excluded(catalogue) == BOTH, "said twice, it is one merge"
    tell(undo, f"{patient}^^^HOSP^MR", f"{prior}^^^HOSP^MR")
    assert excluded(catalogue) == ONE and shown(catalogue, 1) == ("p1", "Name^1")
    assert shown(catalogue, 2)[0] == "p2"
    tell(event, "p2^^^HOSP^MR", "p1^^^HOSP^MR")
    assert excluded(catalogue) == BOTH, "and it can be said again"


def test_a_link_is_a_merge_that_a37_undoes(catalogue: Catalogue, three: None, tell: Tell) -> None:
    tell("A24", "p2", "p1")
    assert excluded(catalogue) == BOTH
    tell("A37", "p2", "p1")
    assert excluded(catalogue) == ONE


def test_a_merge_the_other_way_round_takes_the_place_of_the_first(
    catalogue: Catalogue, three: None, tell: Tell
) -> None:
    tell("A40", "p2", "p1")
    tell("A40", "p1", "p2", name="Name^1")
    assert excluded(catalogue) == BOTH
    assert shown(catalogue, 1) == shown(catalogue, 2) == ("p1", "Name^1")


def test_several_merges_in_a_message(settings: Settings, catalogue: Catalogue, three: None) -> None:
    settings.home.mkdir(parents=True, exist_ok=True)
    raw = adt("A40", "p2", "p1") + b"PID|2||p3||Muster^Anna\rMRG|p2\r"
    assert [code(answer) for answer in Handler(catalogue, settings).answer(raw)] == ["AA"]
    assert excluded(catalogue) == {"2.25.1", "2.25.2", "2.25.3"}
    assert {shown(catalogue, study)[0] for study in (1, 2, 3)} == {"p3"}


def test_reports_under_either_id_are_the_studys_while_the_merge_holds(
    settings: Settings, catalogue: Catalogue, three: None, tell: Tell
) -> None:
    """The study is named by its order and its patient; after the undoing the other patient's report waits."""
    handler = Handler(catalogue, settings)
    with catalogue._database.transaction() as connection:
        connection.execute("UPDATE study SET accession_number = 'A1' WHERE study_uid = '2.25.1'")
    tell("A40", "p2", "p1")
    assert [code(answer) for answer in handler.answer(oru("Clear.", patient="p2"))] == ["AA"]
    assert texts(catalogue) == ["Clear."]
    tell("A37", "p2", "p1")
    assert [code(answer) for answer in handler.answer(oru("Other.", patient="p2", control="M2", filler="F2"))] == ["AA"]
    assert texts(catalogue) == ["Clear."] and catalogue.overview().waiting_reports == 1


@pytest.mark.parametrize("event", ["A08", "A31"])
def test_an_update_renames_all_studies_and_is_undone_by_the_next(
    event: str, catalogue: Catalogue, three: None, tell: Tell
) -> None:
    tell("A40", "p2", "p1")
    tell(event, "p2^^^HOSP^MR", name="Neu^Anna")
    assert [shown(catalogue, study)[1] for study in (1, 2, 3)] == ["Neu^Anna", "Neu^Anna", "Name^3"]
    tell(event, "p2", name="Muster^Anna")
    assert [shown(catalogue, study)[1] for study in (1, 2)] == ["Muster^Anna"] * 2
