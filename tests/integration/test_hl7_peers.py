"""HL7 clients that others wrote, and one written from the standard alone: chapter 2.9 and its annex on MLLP."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import hl7
import hl7.mllp
import pytest

from radir_pacs.catalogue import Catalogue, Outcome
from tests.hl7_material import Peer, enhanced, oru
from tests.integration.test_hl7_listener import listen, study, texts

__all__ = ["listen", "study"]  # fixtures

EXAMPLES = {  # after the sample messages of the standard: chapters 3.5, 4.4, 7.4 and 9.9, in versions 2.1 to 2.8
    "A40": [
        "MSH|^~\\&|REGADT|MCM|RADIR|MCM|200301051530|SEC|ADT^A40^ADT_A39|00000003|P|2.8",
        "EVN|A40|200301051530",
        "PID|||MR1^^^XYZ||EVERYWOMAN^EVE||19501010|F|||123 NORTH STREET^^NY^NY^10021||(212)111-3333|||S",
        "MRG|MR2^^^XYZ",
    ],
    "A08": [
        "MSH|^~\\&|ADT1|MCM|RADIR|MCM|198808181126|SECURITY|ADT^A08|MSG00001|P|2.1",
        "EVN|A08|198808181123||",
        "PID|||PATID1234^5^M11||EVERYMAN^ADAM^A^III||19610615|M||C|1200 N ELM STREET^^GREENSBORO^NC^27401-1020",
        "PV1|1|I|2000^2012^01||||004777^ATTEND^AARON^A|||SUR||||ADM|A0|",
    ],
    "O01": [
        "MSH|^~\\&|HIS|MCM|RADIR|MCM|199801181007|security|ORM^O01|MSG7|P|2.3.1",
        "PID|||123456^^^SMH||ONE^PATIENT||19491220|M",
        "ORC|NW|P7|||||^^^199801181000",
        "OBR|1|P7||71020^Radiologic examination, chest^C4||||||||||||||A7",
    ],
    "R01": [
        "MSH|^~\\&|XRAY||RADIR||20260301110614||ORU^R01|CDB22222|P|2.4||||NE|||UNICODE UTF-8",
        "PID|||p1^^^ADT1||EVERYWOMAN^EVE^E^^^^L|JONES|19620320|F",
        "OBR|1|P1^CMS|F1^XRAYS|71020^CHEST XRAY AP \\T\\ LATERAL|||20260301110123|||||||||||A1||||20260301110614|||F",
        "OBX|1|CE|71020&IMP^RADIOLOGIST'S IMPRESSION^LN|4|.61^RUL^ACR~.212^Bronchopneumonia^ACR||||||F",
        "OBX|2|TX|71020&GDT^CHEST XRAY^LN||Right upper lobe bronchopneumonia.~No effusion.||||||F",
    ],
    "T02": [
        "MSH|^~\\&|DMS|MCM|RADIR|MCM|20260301120000||MDM^T02^MDM_T02|MSGID9|P|2.5",
        "EVN|T02|20260301120000",
        "PID|1||p1^^^ADT1||EVERYWOMAN^EVE",
        "PV1|1|O",
        "OBR|1|P1|F1|71020^CHEST XRAY||||||||||||||A1",
        "TXA|1|DI|TX|20260301120000||20260301120000||||||DOC9||P1|F1||LA||AV",
        "OBX|1|TX|||Bronchopneumonia of the right upper lobe.||||||F",
    ],
    "R01 without text": [
        "MSH|^~\\&|GHH LAB|ELAB-3|GHH OE|BLDG4|200202150930||ORU^R01|CNTRL-3456|P|2.4",
        "PID|||555-44-4444||EVERYWOMAN^EVE^E^^^^L|JONES|19620320|F",
        "OBR|1|845439^GHH OE|1045813^GHH LAB|15545^GLUCOSE|||200202150730|||||||||||||||||||F",
        "OBX|1|SN|1554-5^GLUCOSE^POST 12H CFST:MCNC:PT:SER/PLAS:QN||^182|mg/dl|70_105|H|||F",
    ],
    "M03": [
        "MSH|^~\\&|HL7REG|UH|RADIR|UH|200102280700||MFN^M03^MFN_M03|MSGID002|P|2.5",
        "MFI|OMA|LABxxx^Lab Test Dictionary^L|UPD|||AL",
    ],
}
ANSWERS = dict.fromkeys(EXAMPLES, "AA") | {"R01 without text": "AE", "M03": "AR"}


class StandardClient:
    """Sends a message and waits for what its MSH-15 and MSH-16 call for, as 2.9.2 and 2.9.3 lay down; checks each
    acknowledgement as an initiating system does."""

    def __init__(self, peer: Peer) -> None:
        self._peer, self._ids = peer, set[str]()

    def exchange(self, message: str, accept: str = "", application: str = "") -> list[str]:
        """MSA-1 of each acknowledgement, in order."""
        self._peer.send(enhanced(message.encode(), accept, application))
        if not (accept or application):
            return [self._hear(message, "A")]
        heard = []
        if accept in ("AL", "ER"):
            heard.append(self._hear(message, "C"))
        if application == "AL" and heard[-1:] in ([], ["CA"]):
            heard.append(self._hear(message, "A"))
        return heard

    def _hear(self, message: str, kind: str) -> str:
        sent, answer = hl7.parse(message)["MSH"][0], hl7.parse(self._peer.answer().decode("ascii"))
        head, msa = answer["MSH"][0], answer["MSA"][0]
        assert [str(head[n]) for n in (3, 4, 5, 6)] == [str(sent[n]) for n in (5, 6, 3, 4)], "sender and receiver swap"
        assert str(head[9]) == f"ACK^{str(sent[9]).split('^')[1]}^ACK"
        assert [str(head[n]) for n in (11, 12)] == [str(sent[n]) for n in (11, 12)]
        control = str(head[10])
        assert 0 < len(control) <= 20 and control not in self._ids, "MSH-10 names one message"
        self._ids.add(control)
        assert str(msa[2]) == str(sent[10]) and str(msa[1])[0] == kind
        assert ("ERR" in {str(segment[0]) for segment in answer}) == (str(msa[1])[1] != "A")
        return str(msa[1])


def message(name: str, control: str = "") -> str:
    lines = [line.rstrip() for line in EXAMPLES[name]]
    if control:
        head = lines[0].split("|")
        lines[0] = "|".join([*head[:9], control, *head[10:]])
    return "\r".join(lines) + "\r"


def test_a_client_of_the_standard_sends_its_samples(
    listen: Callable[..., int], catalogue: Catalogue, study: None
) -> None:
    """Each in original mode, then anew in enhanced mode with both acknowledgements, then with the accept one alone."""
    with Peer(listen(), timeout_s=60) as peer:
        client = StandardClient(peer)
        for name, answer in ANSWERS.items():
            assert client.exchange(message(name)) == [answer], name
        assert texts(catalogue) == [
            "IMPRESSION:\nRUL\nBronchopneumonia\n\nFINDINGS:\nRight upper lobe bronchopneumonia.\nNo effusion.",
            "Bronchopneumonia of the right upper lobe.",
        ]
        for name, answer in ANSWERS.items():
            both = ["CA", "AA"] if answer == "AA" else [f"C{answer[1]}"]
            assert client.exchange(message(name, f"B{name[:3]}"), "AL", "AL") == both, name
            assert client.exchange(message(name, f"C{name[:3]}"), "AL", "NE") == both[:1], name
            assert client.exchange(message(name, f"D{name[:3]}"), "NE", "AL") == [answer], name


def test_nothing_is_answered_where_nothing_is_asked_for(
    listen: Callable[..., int], catalogue: Catalogue, study: None
) -> None:
    """And an answer is never answered, or two systems would talk for ever; the next message hears its own answer."""
    with Peer(listen(), timeout_s=60) as peer:
        peer.send(enhanced(oru("Large effusion.", control="M1"), "NE", "NE"))
        peer.send(b"MSH|^~\\&|RIS|HOSP|RADIR|HOSP|20260301||ACK^R01^ACK|77|P|2.5\rMSA|CA|1\r")
        assert b"|M2" in peer.ask(oru("Small effusion.", control="M2", minute=5))
    assert texts(catalogue) == ["Small effusion."]
    assert catalogue.overview().messages == {Outcome.STORED: 2}


def test_mllp_send_of_another_package(
    listen: Callable[..., int], catalogue: Catalogue, study: None, tmp_path: Path
) -> None:
    """The command that python-hl7 installs: one message framed, then several of a file with line feeds."""
    port = str(listen())
    framed, loose = tmp_path / "framed", tmp_path / "loose"
    framed.write_bytes(b"\x0b" + oru("Large effusion.") + b"\x1c\r")
    more = oru("Small effusion.", control="M2", minute=5), oru(control="M3", obx=[])
    loose.write_bytes(b"\n".join(one.replace(b"\r", b"\r\n") for one in more))
    heard = [
        _mllp_send("--port", port, "--file", str(framed), "127.0.0.1"),
        _mllp_send("--port", port, "--loose", "--file", str(loose), "127.0.0.1"),
    ]
    assert [b"MSA|AA|M1" in heard[0], b"MSA|AA|M2" in heard[1], b"MSA|AE|M3" in heard[1]] == [True] * 3
    assert texts(catalogue) == ["Small effusion."]


def _mllp_send(*arguments: str) -> bytes:
    program = [sys.executable, "-c", "from hl7.client import mllp_send; mllp_send()", *arguments]
    return subprocess.run(program, capture_output=True, check=True, timeout=120).stdout


@pytest.mark.parametrize("ask", [("", ""), ("AL", "AL")])
def test_streams_of_another_package(
    listen: Callable[..., int], catalogue: Catalogue, study: None, ask: tuple[str, str]
) -> None:
    """python-hl7's asyncio client reads as many answers as were asked for."""

    async def talk(port: int) -> list[str]:
        reader, writer = await hl7.mllp.open_hl7_connection("127.0.0.1", port, encoding="utf-8")
        writer.writemessage(hl7.parse(enhanced(oru("Größere Ergüsse."), *ask).decode()))
        await writer.drain()
        heard = [await asyncio.wait_for(reader.readmessage(), 60) for _ in range(2 if ask[0] else 1)]
        writer.close()
        return [str(answer["MSA"][0][1]) for answer in heard]

    with ThreadPoolExecutor(1) as thread:  # this one may have Playwright's event loop
        heard = thread.submit(lambda: asyncio.run(talk(listen()))).result()
    assert heard == (["CA", "AA"] if ask[0] else ["AA"])
    assert texts(catalogue) == ["Größere Ergüsse."]
