"""HL7 messages as they are read: separators, line ends, character sets, escapes, orders, reports, patients, answers."""

from __future__ import annotations

from datetime import UTC, datetime

import hl7kit
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radir_pacs.catalogue import (
    Deed,
    OrderLink,
    PatientMerge,
    PatientUpdate,
    ReportStatus,
    ReportVersion,
    Verdict,
)
from radir_pacs.errors import BadInput
from radir_pacs.hl7.acknowledgement import acknowledge, acknowledge_batch
from radir_pacs.hl7.framing import Frames, is_batch, split_batch
from radir_pacs.hl7.interpret import Reading, interpret
from radir_pacs.hl7.message import parse_time, read_message
from radir_pacs.reasons import ReasonCode
from tests.hl7_material import adt, mdm, order, oru, segment

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def read(raw: bytes, **said: str) -> Reading:
    return interpret(read_message(raw), **said)  # type: ignore[arg-type]


def only(raw: bytes, **said: str) -> Deed:
    reading = read(raw, **said)
    assert reading.verdict == Verdict()
    [deed] = reading.deeds
    return deed


def report(raw: bytes, **said: str) -> ReportVersion:
    deed = only(raw, **said)
    assert isinstance(deed, ReportVersion)
    return deed


def acked(raw: bytes, verdict: Verdict | None = None) -> bytes:
    return acknowledge(raw, verdict or read(raw).verdict, new_id=lambda: "ACK1", now=NOW)


# -- Text --


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n"])
@pytest.mark.parametrize("sep", ["|^~\\&", "!@$%*", "|^~\\#"])
def test_line_ends_and_separators_of_any_kind(end: str, sep: str) -> None:
    found = report(oru("No pneumothorax.", end=end, sep=sep))
    assert found.body == "No pneumothorax."
    assert (found.document, found.numbers, found.sender) == ("F1", ("A1", "F1", "P1"), "RIS|HOSP")


@pytest.mark.parametrize(
    ("charset", "codec", "text"),
    [
        ("UNICODE UTF-8", "utf-8", "Kein Pleuraerguß, Änderung größer."),
        ("8859/1", "latin-1", "Kein Pleuraerguß, Änderung größer."),
        ("8859/15", "iso8859-15", "Größe, 5 €."),
        ("8859/2", "iso8859-2", "Płuca bez zmian ogniskowych, łuk aorty."),
        ("8859/5", "iso8859-5", "Лёгкие без очаговых изменений."),
        ("WINDOWS-1252", "cp1252", "Kein „Erguß“ – unverändert."),
        ("", "latin-1", "Kein Pleuraerguß."),
        ("", "utf-8", "Kein Pleuraerguß."),
        ("8859/1", "utf-8", "Kein Pleuraerguß."),  # says one and writes another
        ("UNICODE UTF-8", "latin-1", "Kein Pleuraerguß."),
        ("ISO IR87", "iso2022_jp", "両肺に異常を認めない。"),
        ("~ISO IR87", "iso2022_jp", "両肺に異常を認めない。 RUL"),  # as in Japan: ASCII, and escape sequences
        ("ASCII~ISO IR87", "iso2022_jp", "右肺に結節を認める。"),  # its bytes look like separators, and are none
        ("ISO IR6~ISO IR14~ISO IR87", "iso2022_jp_ext", "ﾊｲの結節"),
        ("UNICODE UTF-8~ISO IR87", "utf-8", "両肺に異常を認めない。"),
        ("KS X 1001", "euc_kr", "폐에 이상 없음."),
        ("GB 18030-2000", "gb18030", "双肺未见异常。"),
        ("ISO_IR 192", "utf-8", "Kein Pleuraerguß."),
        ("nonsense", "utf-8", "Kein Pleuraerguß."),
    ],
)
def test_character_sets(charset: str, codec: str, text: str) -> None:
    assert report(oru(text, charset=charset, codec=codec)).body == text


def test_two_character_sets_in_one_message() -> None:
    lines = ["OBX|1|TX|||Kein Erguß.||||||F", "OBX|2|TX|||Rückbildung.||||||F"]
    raw = oru(obx=lines, charset="8859/1")
    mixed = raw.replace("Rückbildung".encode(), "Rückbildung".encode("latin-1"))
    assert report(mixed).body == "Kein Erguß.\nRückbildung."


@pytest.mark.parametrize(
    ("written", "body"),
    [
        (r"A \T\ B \S\ D \E\ E", "A & B ^ D \\ E"),
        (r"One.\.br\Two.", "One.\nTwo."),
        (r"One.\.sp2\Two.", "One.\n\nTwo."),
        (r"One.\.in+4\\.ti-2\Two.", "One.Two."),
        (r"\H\Bold\N\ plain", "Bold plain"),
        (r"Ergu\XC39F\.", "Erguß."),
        (r"Line\X0D0A\Line", "Line\nLine"),
        (r"\Zfoo\Seen.", "Seen."),
        (r"File C:\dir\x", r"File C:\dir\x"),
        ("First.~Second.", "First.\nSecond."),
        ("Unescaped ^ and & stay.", "Unescaped ^ and & stay."),
        ("Left alone.\nA line break.\n\nA paragraph.", "Left alone.\nA line break.\n\nA paragraph."),
    ],
)
def test_escapes_and_lines(written: str, body: str) -> None:
    assert report(oru(written, kind="FT")).body == body


def test_segments_become_sections() -> None:
    lines = [
        "OBX|1|TX|71020&GDT^XR CHEST||Small effusion.||||||F",
        "OBX|2|TX|71020&GDT^XR CHEST||No pneumothorax.||||||F",
        "OBX|3|TX|71020&IMP^XR CHEST||Effusion.||||||F",
        "OBX|4|CE|C^Conclusion||60046008^Pleural effusion^SCT||||||F",
        "OBX|5|TX|||Wrong patient.||||||W",
        "OBX|6|NM|DLP||12|mGy.cm|||||F",
    ]
    body = report(oru(obx=lines)).body
    assert body.split("\n")[:5] == ["FINDINGS:", "Small effusion.", "No pneumothorax.", "", "IMPRESSION:"]
    assert "Pleural effusion" in body and "Wrong" not in body and "12" not in body


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ("P", ReportStatus.PRELIMINARY),
        ("R", ReportStatus.PRELIMINARY),
        ("A", ReportStatus.PRELIMINARY),
        ("F", ReportStatus.FINAL),
        ("C", ReportStatus.AMENDED),
        ("X", ReportStatus.CANCELLED),
        ("", ReportStatus.FINAL),
    ],
)
def test_status(said: str, status: ReportStatus) -> None:
    found = report(oru(obx=["OBX|1|TX|||Clear.||||||F"], status=said))
    assert found.status is status
    assert (found.body == "") == (status is ReportStatus.CANCELLED)


def test_a_report_of_deleted_lines_was_an_error_and_scheduled_orders_say_nothing() -> None:
    assert report(oru(obx=["OBX|1|TX|||Not hers.||||||W"], status="")).status is ReportStatus.IN_ERROR
    assert read(oru(status="S")).deeds == ()
    assert report(oru("ADDENDUM: No pneumothorax.")).status is ReportStatus.ADDENDUM


@pytest.mark.parametrize(
    ("lines", "where"),
    [
        (["OBX|1|ST|110180^Study Instance UID^DCM||1.2.3.4||||||F", "OBX|2|TX|||Clear.||||||F"], "OBX"),
        (["OBX|1|HD|110180^Study Instance UID^DCM||^1.2.3.4^ISO||||||F", "OBX|2|TX|||Clear.||||||F"], "OBX"),
        (["OBX|1|TX|||Clear.||||||F", "ZDS|1.2.3.4^RIS^Application^DICOM"], "ZDS"),
        (["OBX|1|TX|||Clear.||||||F", "IPC|A9|RP1|1.2.3.4|S1"], "IPC"),
    ],
)
def test_the_study_is_named(lines: list[str], where: str) -> None:
    found = report(oru(obx=lines))
    assert (found.study_uid, found.body) == ("1.2.3.4", "Clear."), where
    assert found.numbers[0] == ("A9" if where == "IPC" else "A1")
    assert report(oru(obx=[*lines[:1], "OBX|9|TX|||Clear.", "ZDS|no uid"])).numbers


def test_several_orders_in_a_message() -> None:
    second = segment("OBR", {1: "2", 2: "P2", 3: "F2", 18: "A2", 25: "F"})
    more = [second, "OBX|1|TX|||Nodule.||||||F", "OBR|3|P3|F3|CT"]
    found = read(oru("Clear.", obx=["OBX|1|TX|||Clear.||||||F", *more]))
    assert [(d.document, d.body) for d in found.deeds if isinstance(d, ReportVersion)] == [
        ("F1", "Clear."),
        ("F2", "Nodule."),
    ]
    assert found.verdict == Verdict(), "the third shares a report"


@pytest.mark.parametrize("text_first", [True, False])
def test_one_text_for_two_accessions(text_first: bool) -> None:
    text = "CT CHEST: Emphysema.~XR CHEST: Cardiomegaly."
    obx = f"OBX|1|TX|R^Text||{text}||||||F"
    second = segment("OBR", {1: "2", 2: "P2", 3: "F2", 4: "71250^CT CHEST", 18: "A2", 25: "F"})
    found = read(oru(obx=[obx, second] if text_first else [second, obx])).deeds
    assert [(d.document, d.numbers[0], d.body) for d in found if isinstance(d, ReportVersion)] == [
        ("F1", "A1", "XR CHEST: Cardiomegaly."),
        ("F2", "A2", "CT CHEST: Emphysema."),
    ]


def test_times_and_patients() -> None:
    found = report(oru(minute=5, authority="HOSP&1.2.3&ISO"))
    assert found.version_at == found.sent_at == datetime(2026, 3, 1, 8, 5, tzinfo=UTC)
    assert found.patient_keys == ("HOSP\\p1", "1.2.3\\p1")
    assert report(oru(), issuer="OURS").patient_keys == ("OURS\\p1",)
    assert report(oru()).patient_keys == ("\\p1",)
    assert parse_time("20260301083015.25+0130") == datetime(2026, 3, 1, 7, 0, 15, 250000, tzinfo=UTC)
    assert [parse_time(text) for text in ("", "yesterday", "20261399", "2026030125")] == [None] * 4


# -- Documents, orders, patients --


def test_documents_by_their_events() -> None:
    first = report(mdm("T02", "Large pneumothorax.", completion="PA"))
    assert (first.status, first.document, first.numbers) == (ReportStatus.PRELIMINARY, "D1", ("A1", "F1", "P1"))
    assert report(mdm("T02", "Clear.")).status is ReportStatus.FINAL
    assert report(mdm("T08", "Clear.")).status is ReportStatus.AMENDED
    replaced = report(mdm("T10", "Clear.", document="D2", parent="D1"))
    assert (replaced.status, replaced.replaces) == (ReportStatus.AMENDED, ("D1",))
    added = report(mdm("T06", "No pneumothorax.", document="D3", parent="D1"))
    assert (added.status, added.body.split("\n")[0]) == (ReportStatus.ADDENDUM, "ADDENDUM:")
    assert report(mdm("T11", "")).status is ReportStatus.CANCELLED
    assert report(mdm("T02", "Clear.", availability="CA")).status is ReportStatus.CANCELLED
    assert read(mdm("T01", "Clear.")).deeds == ()


def test_a_document_of_several_orders_is_told_of_each_study() -> None:
    def read_orders(event: str, text: str, *orders: dict[int, str]) -> list[ReportVersion]:
        head, _, rest = mdm(event, text).decode().partition("OBR|")
        lines = [segment("OBR", {1: str(number)} | fields) for number, fields in enumerate(orders, 1)]
        raw = head + "\r".join([*lines, rest.partition("\r")[2]])
        deeds = read(raw.encode()).deeds
        assert all(isinstance(deed, ReportVersion) for deed in deeds)
        return list(deeds)  # type: ignore[arg-type]

    chest, abdomen = {3: "F1", 4: "71250^CT CHEST", 18: "A1"}, {3: "F2", 4: "74150^CT ABDOMEN", 18: "A2"}
    text = r"CT ABDOMEN: Cyst.\.br\CT CHEST: Nodule."
    found = read_orders("T02", text, chest, abdomen)
    assert [(one.document, one.numbers, one.body) for one in found] == [
        ("D1", ("A1", "F1"), "CT CHEST: Nodule."),
        ("D1", ("A2", "F2"), "CT ABDOMEN: Cyst."),
    ]
    assert {one.parts for one in found} == {tuple(one.part for one in found)} == {("A1", "A2")}
    [alone] = read_orders("T08", "Nodule.", chest, chest | {3: "F9"})  # one study, ordered in two procedures
    assert (alone.part, alone.numbers, alone.body) == ("", ("A1", "F1", "P1"), "Nodule.")
    [gone] = read_orders("T11", "")
    assert (gone.part, gone.numbers) == ("", ("F1", "P1")), "all parts are withdrawn"
    unsure = read_orders("T02", text, {3: "F1", 4: "CT CHEST"}, {3: "F2", 4: "CT ABDOMEN"})
    assert [(one.part, one.body.count("CT")) for one in unsure] == [("F1", 2), ("F2", 2)], "it may be one study"


def test_a_withdrawn_document_needs_no_study() -> None:
    lines = [line for line in mdm("T11", "").decode().split("\r") if not line.startswith(("OBR", "PID"))]
    fields = lines[-2].split("|")
    fields[14:16] = ["", ""]
    found = report("\r".join([*lines[:-2], "|".join(fields), ""]).encode())
    assert (found.status, found.document, found.numbers) == (ReportStatus.CANCELLED, "D1", ())


def test_orders_link_their_numbers_and_their_study() -> None:
    expected = OrderLink(numbers=("A1", "F1", "P1"), study_uid="1.2.3")
    assert only(order("1.2.3")) == expected
    assert only(order("1.2.3", kind="ORM^O01")) == expected
    assert only(order("1.2.3", action="CA")) == OrderLink(numbers=expected.numbers, study_uid="1.2.3", ended=True)
    assert read(order("no uid")).deeds == ()


def test_patients_that_change() -> None:
    update = only(adt("A08", "p1^^^HOSP", name="Müller^Anna^B^^Dr."))
    assert isinstance(update, PatientUpdate)
    assert update.keys == ("HOSP\\p1", "\\p1") and update.says.name == "Müller^Anna^B^Dr."
    for event in ("A18", "A34", "A39", "A40"):
        merge = only(adt(event, "p2^^^HOSP^MR", "p1^^^HOSP^MR"))
        assert isinstance(merge, PatientMerge) and not merge.undone
        assert merge.pairs == (("HOSP\\p1", "HOSP\\p2"), ("\\p1", "\\p2"))
    undone = only(adt("A37", "p2", "p1"))
    assert isinstance(undone, PatientMerge) and undone.undone and undone.pairs == (("\\p1", "\\p2"),)
    assert read(adt("A01", "p1")).deeds == ()


@pytest.mark.parametrize(
    ("raw", "answer", "code", "where", "reason"),
    [
        (oru(obx=[]), "AE", "101", "OBX^1^5", ReasonCode.NO_TEXT),
        (oru(obx=["OBX|1|ED|||RIS^AP^PDF^Base64^!!!||||||F"]), "AE", "102", "OBX^1^5", ReasonCode.DOCUMENT_UNREADABLE),
        (oru(accession="", filler="", placer=""), "AE", "101", "OBR^1^18", ReasonCode.MESSAGE_INCOMPLETE),
        (oru(patient=""), "AE", "101", "PID^1^3", ReasonCode.MESSAGE_INCOMPLETE),
        (oru(control=""), "AE", "101", "MSH^1^10", ReasonCode.MESSAGE_INCOMPLETE),
        (oru().replace(b"ORU^R01^ORU_R01", b"SIU^S12"), "AR", "200", "MSH^1^9", ReasonCode.MESSAGE_UNSUPPORTED),
        (oru().replace(b"|P|2.5.1", b"|T|2.5.1"), "AR", "202", "MSH^1^11", ReasonCode.MESSAGE_UNSUPPORTED),
        (oru().replace(b"|P|2.5.1", b"|P|3.0"), "AR", "203", "MSH^1^12", ReasonCode.MESSAGE_UNSUPPORTED),
        (adt("A40", "p1"), "AE", "101", "MRG^1", ReasonCode.MESSAGE_INCOMPLETE),
        (mdm("T02", "Clear.", document=""), "AE", "101", "TXA^1^12", ReasonCode.MESSAGE_INCOMPLETE),
    ],
)
def test_faults_are_answered_with_their_place(
    raw: bytes, answer: str, code: str, where: str, reason: ReasonCode
) -> None:
    verdict = read(raw).verdict
    assert (verdict.answer, verdict.error_code, verdict.error_at) == (answer, code, where)
    assert verdict.reason_code is reason and "Muster" not in verdict.reason


def test_what_is_usable_is_used() -> None:
    more = ["OBX|1|TX|||Clear.||||||F", "OBR|2|||CT", "OBX|1|ED|||RIS^AP^PDF^Base64^!||||||F"]
    reading = read(oru(obx=more))
    assert len(reading.deeds) == 1 and reading.verdict.answer == "AE"


def test_only_named_senders_are_heard() -> None:
    for senders, heard in ((("RIS",), True), (("RIS|HOSP",), True), (("OTHER",), False), ((), True)):
        assert (interpret(read_message(oru()), senders=senders).verdict.answer == "AA") == heard


# -- Answers --


def test_an_answer_is_read_by_another_library() -> None:
    found = hl7kit.parse(acked(oru(control="M7")))
    assert [found.get(path) for path in ("MSA-1", "MSA-2", "MSH-3", "MSH-5", "MSH-9.1", "MSH-9.2", "MSH-10")] == [
        *("AA", "M7", "RADIR", "RIS", "ACK", "R01", "ACK1")
    ]
    wrong = hl7kit.parse(acked(oru(control="M8", obx=[])))
    assert [wrong.get(path) for path in ("MSA-1", "MSA-2", "ERR-2.1", "ERR-2.3", "ERR-3.1", "ERR-4")] == [
        *("AE", "M8", "OBX", "5", "101", "E")
    ]
    assert wrong.get("ERR-8") == wrong.get("MSA-3") == "the report has no text"
    old = hl7kit.parse(acked(oru(version="2.3", obx=[])))
    assert (old.get("ERR-1.1"), old.get("ERR-1.4.1")) == ("OBX", "101")


def test_an_answer_uses_the_senders_separators() -> None:
    answer = acked(oru(sep="!@$%*", control="M9"))
    assert answer.startswith(
        b"MSH!@$%*!RADIR!HOSP!RIS!HOSP!20260301120000.000+0000!!ACK@R01@ACK!ACK1!P!2.5.1\rMSA!AA!M9"
    )


@pytest.mark.parametrize("raw", [b"", b"garbage", b"MSH", b"MSH|", b"\x00\xff" * 50, b"MSH\xff\xff\xff\xff\xff\xff"])
def test_what_is_no_message_is_answered_all_the_same(raw: bytes) -> None:
    with pytest.raises(BadInput):
        read_message(raw)
    answer = acked(raw, Verdict(answer="AR", reason="not HL7 | at all", error_code="207"))
    assert hl7kit.parse(answer).get("MSA-1") == "AR" and hl7kit.parse(answer).get("MSA-3") == "not HL7 | at all"


def test_batches() -> None:
    batch = b"FHS|^~\\&|RIS|H|RADIR|H\rBHS|^~\\&|RIS|H|RADIR|H|||||B7\r" + oru() + oru(control="M2") + b"BTS|2\rFTS|1\r"
    assert is_batch(batch) and not is_batch(oru())
    assert [read_message(one).control_id for one in split_batch(batch)] == ["M1", "M2"]
    answer = acknowledge_batch(batch, [acked(one) for one in split_batch(batch)])
    lines = answer.split(b"\r")
    assert [line[:3] for line in lines if line] == [b"FHS", b"BHS", b"MSH", b"MSA", b"MSH", b"MSA", b"BTS", b"FTS"]
    assert lines[1].split(b"|")[11] == b"B7" and b"BTS|2" in lines


# -- Frames, and whatever may come --


@settings(deadline=None)
@given(st.binary(max_size=300).filter(lambda b: b"\x0b" not in b and b"\x1c" not in b), st.integers(1, 40))
def test_frames_come_whole_however_they_are_cut(message: bytes, step: int) -> None:
    frames = Frames(1 << 20)
    stream = b"noise\x0b" + message + b"\x1c\r\r\n\x0b" + message + b"\x1c"
    found = [one for at in range(0, len(stream), step) for one in frames.feed(stream[at : at + step])]
    assert found == [message, message] and not frames.is_inside


def test_a_message_that_was_given_up_does_not_spoil_the_next() -> None:
    assert list(Frames(1 << 20).feed(b"\x0bMSH|half" + b"\x0b" + oru() + b"\x1c\r")) == [oru()]
    with_tab = oru("Line.\x0bLine.")
    assert list(Frames(1 << 20).feed(b"\x0b" + with_tab + b"\x1c\r")) == [with_tab]


@given(st.binary(max_size=400), st.sampled_from([b"", b"MSH|^~\\&|A|B|||2026||ORU^R01|1|P|2.5\r"]))
@settings(deadline=None)
def test_nothing_breaks_the_reader(junk: bytes, head: bytes) -> None:
    try:
        reading = read(head + junk)
    except BadInput:
        return
    assert reading.verdict.answer in ("AA", "AE", "AR")


@given(
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\r\n\x0b\x1c\x1b\x00"), max_size=30),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from(["|^~\\&", "!@$%*"]),
)
@settings(deadline=None)
def test_fields_are_read_as_another_library_reads_them(values: list[str], sep: str) -> None:
    f, c, r, e, s = list(sep)

    def escaped(text: str) -> str:
        names = {f: "F", c: "S", r: "R", e: "E", s: "T"}
        return "".join(f"{e}{names[one]}{e}" if one in names else one for one in text)

    raw = f"MSH{sep}{f}A\rZZZ{f}" + f.join(map(escaped, values)) + "\r"
    ours, theirs = read_message(raw.encode()), hl7kit.parse(raw.encode())
    for number, value in enumerate(values, 1):
        assert ours.segments[1].text(number) == value.strip() or value == '""'
        assert (theirs.get(f"ZZZ-{number}") or "").strip() == value.strip()


CHEST, ABDOMEN = "CT CHEST WITH CONTRAST:~Right upper lobe nodule.", "CT ABDOMEN:~Cyst of the liver."


@pytest.mark.parametrize(
    ("text", "names", "chest", "abdomen"),
    [
        (f"{CHEST}~~{ABDOMEN}", ("CT CHEST", "CT ABDOMEN"), "nodule", "Cyst"),
        (f"{ABDOMEN}~~{CHEST}", ("CT CHEST W CONTRAST", "CT ABDOMEN"), "nodule", "Cyst"),  # by name, not by order
        (f"{CHEST}~~{ABDOMEN}", ("CT", "CT"), "nodule", "Cyst"),  # by order
        ("XR CHEST 08:00:~Pneumothorax.~~XR CHEST 14:00:~Drain.", ("XR CHEST", "XR CHEST"), "Pneumothorax", "Drain"),
    ],
)
def test_two_studies_of_one_modality_in_one_text(text: str, names: tuple[str, str], chest: str, abdomen: str) -> None:
    text = f"HISTORY: Fever.~~{text}~~IMPRESSION: See above."
    lines = [
        segment("OBR", {1: "2", 2: "P2", 3: "F2", 4: f"2^{names[1]}", 18: "A2", 25: "F"}),
        f"OBX|1|TX|R^Text||{text}||||||F",
    ]
    raw = oru(obx=lines).replace(b"71020^XR CHEST", f"1^{names[0]}".encode())
    first, second = (deed.body for deed in read(raw).deeds if isinstance(deed, ReportVersion))
    assert chest in first and abdomen not in first
    assert abdomen in second and chest not in second
    for body in (first, second):
        assert body.startswith("HISTORY: Fever.") and body.endswith("IMPRESSION: See above.")


@pytest.mark.parametrize("last", ["CT PELVIS:~Clear.", ""])
def test_a_text_without_a_part_for_each_order_is_told_of_all(last: str) -> None:
    """Too many parts; or parts of two modalities under names that tell nothing, which the study's modality tells."""
    text = f"{CHEST}~~{ABDOMEN}~~{last}" if last else f"{CHEST}~~XR CHEST:~Clear."
    lines = [
        segment("OBR", {1: "2", 2: "P2", 3: "F2", 4: "2^IMAGING", 18: "A2", 25: "F"}),
        f"OBX|1|TX|R^Text||{text}||||||F",
    ]
    raw = oru(obx=lines).replace(b"XR CHEST", b"IMAGING", 1)
    bodies = [deed.body for deed in read(raw).deeds if isinstance(deed, ReportVersion)]
    assert bodies == [text.replace("~", "\n")] * 2
