"""The service as a whole: its root, its description, compression, and links."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import requests

from .service import Service, case, ok, parts, rows


@case
def a_root_with_a_slash_at_its_end(s: Service) -> None:
    assert len(rows(s.get("//studies", allow_redirects=False))) == 3
    assert len(rows(s.get("/studies/", allow_redirects=False))) == 3


@case
def the_service_describes_itself(s: Service) -> None:
    answer = ok(s.ask("OPTIONS", "/"))
    assert ET.fromstring(answer.content).tag.endswith("application")


@case
def text_is_compressed_when_asked_so(s: Service) -> None:
    headers = {"Accept-Encoding": "gzip"}
    answer = ok(s.get("/studies/1.2.77.1/metadata", headers=headers))
    assert answer.headers.get("Content-Encoding") == "gzip"


@case
def urls_in_answers_can_be_followed(s: Service) -> None:
    row = rows(s.get("/instances?SOPInstanceUID=1.2.77.1.1.1"))[0]
    assert len(parts(requests.get(row["00081190"]["Value"][0], timeout=30))) == 1
