"""A storm of HL7 messages, a part of them faulty in twenty ways, and what must have become of each."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from radir_pacs.catalogue import Catalogue, Outcome
from radir_pacs.reasons import ReasonCode
from tests.catalogue_material import add, header
from tests.hl7_material import Peer, adt, code, encapsulated, mdm, oru

_KEPT = Outcome.KEPT


@dataclass(frozen=True, kw_only=True)
class Told:
    """A message and its due: outcome, reason where it is kept, the answer."""

    raw: bytes
    outcome: Outcome
    reason: ReasonCode | None = None
    answer: str = "AA"
    fault: str = ""
    again: bool = False  # it repeats an earlier message


@dataclass(frozen=True, kw_only=True)
class Storm:
    """``studies``: numbers of the messages whose study is here before."""

    messages: Sequence[Told]
    studies: Sequence[int]
    faults: Counter[str] = field(default_factory=Counter)


def make(count: int, *, share: float = 0.05, seed: int = 1) -> Storm:
    """``count`` messages; one in two is about a study that is here. Each fault comes at least once."""
    rng = random.Random(seed)
    kinds = list(_FAULTS)
    wrong = set(rng.sample(range(count), max(int(count * share), len(kinds))))
    messages: list[Told] = []
    studies = []
    good: list[bytes] = []
    turn = 0
    for number in range(count):
        if number in wrong and good:
            kind = kinds[turn % len(kinds)]
            turn += 1
            messages.append(_FAULTS[kind](number, rng.choice(good)))
            if messages[-1].outcome is Outcome.STORED and not messages[-1].again:
                studies.append(number)
            continue
        here = number % 2 == 0
        if here:
            studies.append(number)
        raw = report(number)
        good.append(raw)
        messages.append(Told(raw=raw, outcome=Outcome.STORED if here else Outcome.WAITING))
    return Storm(messages=messages, studies=studies, faults=Counter(one.fault for one in messages if one.fault))


def report(number: int, **said: object) -> bytes:
    given = {
        "text": f"Nodule of {number % 30 + 1} mm in the left lung.",
        "control": f"M{number}",
        "filler": f"F{number}",
        "placer": f"P{number}",
        "accession": f"A{number}",
        "patient": f"p{number}",
    }
    return oru(**(given | said))  # type: ignore[arg-type]


def _kept(fault: str, raw: bytes, reason: ReasonCode, answer: str = "AE") -> Told:
    return Told(raw=raw, outcome=_KEPT, reason=reason, answer=answer, fault=fault)


def _fine(fault: str, raw: bytes) -> Told:
    return Told(raw=raw, outcome=Outcome.STORED, fault=fault)


_INCOMPLETE, _UNSUPPORTED = ReasonCode.MESSAGE_INCOMPLETE, ReasonCode.MESSAGE_UNSUPPORTED
_UNREADABLE, _DOCUMENT = ReasonCode.MESSAGE_UNREADABLE, ReasonCode.DOCUMENT_UNREADABLE
_FAULTS: dict[str, Callable[[int, bytes], Told]] = {
    "no text": lambda n, _: _kept("no text", report(n, obx=[]), ReasonCode.NO_TEXT),
    "no patient": lambda n, _: _kept("no patient", report(n, patient=""), _INCOMPLETE),
    "no number": lambda n, _: _kept("no number", report(n, accession="", filler="", placer=""), _INCOMPLETE),
    "no control id": lambda n, _: _kept("no control id", report(n, control=""), _INCOMPLETE),
    "broken base64": lambda n, _: _kept(
        "broken base64", report(n, obx=["OBX|1|ED|||A^AP^PDF^Base64^!||||||F"]), _DOCUMENT
    ),
    "broken PDF": lambda n, _: _kept("broken PDF", report(n, obx=encapsulated(b"%PDF-1.4 x")), _DOCUMENT),
    "other document": lambda n, _: _kept(
        "other document", report(n, obx=["OBX|1|ED|||A^image^jpeg^Base64^/9j/||||||F"]), _DOCUMENT
    ),
    "other type": lambda n, _: _kept(
        "other type", report(n).replace(b"ORU^R01^ORU_R01", b"SIU^S12"), _UNSUPPORTED, "AR"
    ),
    "training": lambda n, _: _kept("training", report(n).replace(b"|P|2.5.1", b"|T|2.5.1"), _UNSUPPORTED, "AR"),
    "version": lambda n, _: _kept("version", report(n, version="3.1"), _UNSUPPORTED, "AR"),
    "no MSH": lambda n, _: _kept("no MSH", report(n)[4:], _UNREADABLE),
    "no separators": lambda n, _: _kept("no separators", b"MSHA" + report(n)[8:], _UNREADABLE),
    "no MRG": lambda n, _: _kept("no MRG", adt("A40", f"q{n}", control=f"M{n}"), _INCOMPLETE),
    "no document number": lambda n, _: _kept(
        "no document number", mdm("T02", "Clear.", document="", control=f"M{n}"), _INCOMPLETE
    ),
    "NUL": lambda n, _: _kept("NUL", report(n, text="Clear\0."), _UNREADABLE),
    "resent": lambda n, good: Told(raw=good, outcome=Outcome.DONE, fault="resent", again=True),
    "wrong character set": lambda n, _: _fine("wrong character set", report(n, text="Größe.", codec="latin-1")),
    "bare line breaks": lambda n, _: _fine("bare line breaks", report(n, text="Clear.\n\nNo effusion.")),
    "odd separators": lambda n, _: _fine("odd separators", report(n, sep="!@$%*", end="\n")),
    "unknown character set": lambda n, _: _fine("unknown character set", report(n, charset="nonsense" * 30)),
}


def prepare(storm: Storm, catalogue: Catalogue) -> None:
    for number in storm.studies:
        add(catalogue, header(number + 1, accession_number=f"A{number}", patient_key=f"\\p{number}"))


def send(
    messages: Sequence[Told], connect: Callable[[], Peer], disturb: Callable[[int], bool] = lambda _: False
) -> Iterator[str]:
    """The answers in order; a message without an answer is sent again. disturb: whether the listener was killed."""
    peer = connect()
    for number, told in enumerate(messages):
        while True:
            try:
                peer.send(told.raw)
                killed = disturb(number)
                answer = peer.answer()
            except OSError:
                answer = b""
                killed = True
            if answer:
                break
            assert killed, "the connection ended by itself"
            peer.close()
            peer = connect()
        yield code(answer)
    peer.close()


def check(storm: Storm, answers: Sequence[str], catalogue: Catalogue) -> None:
    """Each message stored, waiting or kept with its reason; counts exact, none twice."""
    assert [(n, a) for n, (a, told) in enumerate(zip(answers, storm.messages, strict=True)) if a != told.answer] == []
    first = [told for told in storm.messages if not told.again]
    overview = catalogue.overview()
    assert overview.messages == Counter(told.outcome for told in first)
    assert overview.waiting_reports == sum(told.outcome is Outcome.WAITING for told in first)
    reasons = Counter(message.reason_code for message in catalogue.messages.kept(100_000))
    assert reasons == Counter(told.reason for told in first if told.reason)
    for number in storm.studies:
        assert len(catalogue.reports.of_study(f"2.25.{number + 1}")) == 1, number
