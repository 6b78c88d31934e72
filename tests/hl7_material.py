"""HL7 messages for tests, and a peer that sends them byte by byte as it likes."""

from __future__ import annotations

import base64
import socket
from typing import Any

VT, FS, CR = b"\x0b", b"\x1c", b"\r"


def segment(name: str, fields: dict[int, str]) -> str:
    """A segment with these fields, by number."""
    return "|".join([name, *(fields.get(number, "") for number in range(1, max(fields) + 1))])


def oru(
    text: str = "Large pneumothorax.",
    *,
    control: str = "M1",
    status: str = "F",
    minute: int = 0,
    patient: str = "p1",
    authority: str = "",
    accession: str = "A1",
    filler: str = "F1",
    placer: str = "P1",
    study: str = "",
    kind: str = "TX",
    charset: str = "UNICODE UTF-8",
    codec: str = "utf-8",
    end: str = "\r",
    sep: str = "|^~\\&",
    obx: list[str] | None = None,
    version: str = "2.5.1",
) -> bytes:
    """An ORU^R01 of one report; ``obx``: its OBX segments in full, with | as in the standard."""
    at = f"2026030108{minute:02}00"
    lines = obx if obx is not None else [f"OBX|1|{kind}|R^Text||{text}||||||{status}"]
    segments = [
        f"MSH|^~\\&|RIS|HOSP|RADIR|HOSP|{at}||ORU^R01^ORU_R01|{control}|P|{version}||||||{charset}",
        f"PID|1||{patient}^^^{authority}||Muster^Anna||19500101|F",
        f"ORC|RE|{placer}|{filler}",
        segment("OBR", {1: "1", 2: placer, 3: filler, 4: "71020^XR CHEST", 7: at, 18: accession, 22: at, 25: status}),
        *lines,
        *([f"ZDS|{study}^RIS^Application^DICOM"] if study else []),
    ]
    plain = end.join(segments) + end
    for usual, given in zip("|^~\\&", sep, strict=True):
        if usual != given:
            assert given not in plain
            plain = plain.replace(usual, given)
    return plain.encode(codec)


def adt(event: str, patient: str, prior: str = "", *, control: str = "ADT1", name: str = "Muster^Anna") -> bytes:
    """An ADT message; with a prior patient in MRG, or for A24 and A37 in a second PID."""
    segments = [
        f"MSH|^~\\&|ADT|HOSP|RADIR|HOSP|20260301090000||ADT^{event}|{control}|P|2.5",
        f"EVN|{event}|20260301090000",
        f"PID|1||{patient}||{name}||19500101|F",
    ]
    if prior:
        segments.append(f"PID|2||{prior}" if event in ("A24", "A37") else f"MRG|{prior}")
    return ("\r".join(segments) + "\r").encode()


def mdm(event: str, text: str, *, document: str = "D1", parent: str = "", control: str = "T1", **said: Any) -> bytes:
    """An MDM message; ``completion``, ``availability``, ``minute``, ``accession``, ``patient``."""
    at = f"2026030110{said.get('minute', 0):02}00"
    fields = {1: "1", 2: "DI", 3: "TX", 4: at, 6: at, 12: document, 13: parent, 14: "P1", 15: "F1"}
    txa = segment("TXA", fields | {17: said.get("completion", "LA"), 19: said.get("availability", "AV")})
    segments = [
        f"MSH|^~\\&|DMS|HOSP|RADIR|HOSP|{at}||MDM^{event}|{control}|P|2.5",
        f"EVN|{event}|{at}",
        f"PID|1||{said.get('patient', 'p1')}||Muster^Anna",
        segment("OBR", {1: "1", 2: "P1", 3: "F1", 4: "XR", 18: said.get("accession", "A1")}),
        txa,
        *([f"OBX|1|TX|||{text}||||||F"] if text else []),
    ]
    return ("\r".join(segments) + "\r").encode()


def order(
    study: str, *, accession: str = "A1", control: str = "O1", action: str = "NW", kind: str = "OMI^O23"
) -> bytes:
    """An imaging order that names its study: by IPC, or as ORM^O01 by ZDS."""
    segments = [
        f"MSH|^~\\&|RIS|HOSP|RADIR|HOSP|20260301070000||{kind}|{control}|P|2.5.1",
        "PID|1||p1||Muster^Anna",
        f"ORC|{action}|P1|F1",
        segment("OBR", {1: "1", 2: "P1", 3: "F1", 4: "71020^XR CHEST", 18: accession}),
    ]
    segments.append(f"ZDS|{study}^RIS^Application^DICOM" if kind == "ORM^O01" else f"IPC|{accession}|RP1|{study}|SPS1")
    return ("\r".join(segments) + "\r").encode()


def encapsulated(content: bytes, subtype: str = "PDF") -> list[str]:
    data = base64.b64encode(content).decode()
    return [f"OBX|1|ED|PDF^Report||RIS^AP^{subtype}^Base64^{data}||||||F"]


def enhanced(raw: bytes, accept: str, application: str, separator: bytes = b"|") -> bytes:
    """The message with MSH-15 and MSH-16."""
    head, rest = raw.split(b"\r", 1)
    fields = head.split(separator) + [b""] * 16
    fields[14:16] = [accept.encode(), application.encode()]
    return separator.join(fields).rstrip(separator) + b"\r" + rest


class Peer:
    """A connection to an MLLP listener."""

    def __init__(self, port: int, host: str = "127.0.0.1", timeout_s: float = 30.0) -> None:
        self.sock = socket.create_connection((host, port), timeout=timeout_s)
        self._left = b""

    def send(self, message: bytes) -> None:
        self.sock.sendall(VT + message + FS + CR)

    def answer(self) -> bytes:
        """The next answer; empty when the connection ended."""
        while FS not in self._left:
            data = self.sock.recv(65536)
            if not data:
                return b""
            self._left += data
        found, _, self._left = self._left.partition(FS)
        return found.lstrip(CR + VT)

    def ask(self, message: bytes) -> bytes:
        self.send(message)
        return self.answer()

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def code(answer: bytes) -> str:
    """MSA-1."""
    msa = next((line for line in answer.split(b"\r") if line.startswith(b"MSA")), b"MSA|")
    return msa.split(msa[3:4])[1].decode()
