"""Documents that reports come in."""

from __future__ import annotations


def pdf(*lines: str) -> bytes:
    """A PDF of one page with these lines, Latin-1, as a report writer makes it: one text object, a font, a table."""
    said = " ".join(f"({line}) Tj 0 -14 Td" for line in lines)
    stream = f"BT /F1 11 Tf 50 750 Td {said} ET".encode("latin-1")
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R"
        b" /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    out = bytearray(b"%PDF-1.4\n")
    places = []
    for number, content in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    out += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, table)
    return bytes(out)


def cda(findings: str, impression: str = "") -> bytes:
    """A CDA with a section for each text, and a patient's name in its head."""
    sections = "".join(
        f"<component><section><title>{title}</title><text><paragraph>{text}</paragraph></text></section></component>"
        for title, text in (("Findings", findings), ("Impression", impression))
        if text
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?><ClinicalDocument xmlns="urn:hl7-org:v3"><title>CT Chest</title>'
        "<recordTarget><patientRole><patient><name><family>Muster</family></name></patient></patientRole></recordTarget>"
        f"<component><structuredBody>{sections}</structuredBody></component></ClinicalDocument>"
    ).encode()
