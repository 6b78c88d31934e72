"""Which answers a message gets, by MSH-15 and MSH-16 (HL7 2.9, chapter 2.9.3 and table 0155)."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime

import hl7kit
import pytest

from radir_pacs.catalogue import Verdict
from radir_pacs.hl7.acknowledgement import acknowledgements, is_acknowledgement
from radir_pacs.reasons import ReasonCode
from tests.hl7_material import code, enhanced, oru

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
GOOD = Verdict()
ERROR = Verdict(
    answer="AE", reason="the report has no text", reason_code=ReasonCode.NO_TEXT, error_code="101", error_at="OBX^1^5"
)
REJECT = Verdict(
    answer="AR", reason="not taken", reason_code=ReasonCode.MESSAGE_UNSUPPORTED, error_code="200", error_at="MSH^1^9"
)


def answers(accept: str, application: str, verdict: Verdict = GOOD) -> list[bytes]:
    numbers = itertools.count(1)
    raw = enhanced(oru(control="M7"), accept, application)
    return acknowledgements(raw, verdict, new_id=lambda: f"ACK{next(numbers)}", now=NOW)


@pytest.mark.parametrize(
    ("accept", "application", "good", "error", "reject"),
    [
        ("", "", "AA", "AE", "AR"),
        ('""', "", "AA", "AE", "AR"),
        ("AL", "AL", "CA AA", "CE", "CR"),
        ("AL", "NE", "CA", "CE", "CR"),
        ("AL", "", "CA", "CE", "CR"),
        ("al", "ne", "CA", "CE", "CR"),
        ("AL", "ER", "CA", "CE", "CR"),
        ("AL", "SU", "CA AA", "CE", "CR"),
        ("NE", "AL", "AA", "AE", "AR"),
        ("", "AL", "AA", "AE", "AR"),
        ("NE", "ER", "", "AE", "AR"),
        ("NE", "SU", "AA", "", ""),
        ("NE", "NE", "", "", ""),
        ("ER", "AL", "AA", "CE", "CR"),
        ("ER", "NE", "", "CE", "CR"),
        ("ER", "ER", "", "CE", "CR"),
        ("SU", "NE", "CA", "", ""),
        ("SU", "AL", "CA AA", "AE", "AR"),
        ("SU", "ER", "CA", "AE", "AR"),
        ("XX", "", "CA", "CE", "CR"),  # no value of the table: rather an answer too many than none
    ],
)
def test_what_is_asked_for_is_answered(accept: str, application: str, good: str, error: str, reject: str) -> None:
    for verdict, expected in ((GOOD, good), (ERROR, error), (REJECT, reject)):
        assert [code(answer) for answer in answers(accept, application, verdict)] == expected.split()


def test_two_answers_are_messages_of_their_own() -> None:
    accept, application = (hl7kit.parse(answer) for answer in answers("AL", "AL"))
    for found, number in ((accept, "ACK1"), (application, "ACK2")):
        said = [found.get(path) for path in ("MSA-2", "MSH-5", "MSH-9.1", "MSH-9.2", "MSH-10", "MSH-11", "MSH-12")]
        assert said == ["M7", "RIS", "ACK", "R01", number, "P", "2.5.1"]
    assert (application.get("MSH-15"), application.get("MSH-16")) == ("NE", "NE"), "it wants no answer itself"
    assert not accept.get("MSH-15") and not accept.get("MSH-16"), "an accept acknowledgement is never acknowledged"


def test_what_is_not_accepted_is_told_with_its_place() -> None:
    [refused] = (hl7kit.parse(answer) for answer in answers("AL", "AL", ERROR))
    assert [refused.get(path) for path in ("MSA-1", "MSA-2", "MSA-3", "ERR-2.1", "ERR-2.3", "ERR-3.1", "ERR-4")] == [
        *("CE", "M7", "the report has no text", "OBX", "5", "101", "E")
    ]


def test_other_separators_ask_as_well() -> None:
    raw = enhanced(oru(sep="!@$%*"), "NE", "NE", separator=b"!")
    assert acknowledgements(raw, ERROR, new_id=str) == []


def test_an_answer_is_told_from_a_message() -> None:
    [answer] = answers("", "")
    assert is_acknowledgement(answer) and is_acknowledgement(answers("AL", "AL")[1])
    assert is_acknowledgement(b"MSH|^~\\&|A|B|C|D|2026||ACK|1|P|2.3\rMSA|AA|1\r")
    assert not is_acknowledgement(oru()) and not is_acknowledgement(b"") and not is_acknowledgement(b"ACK")
