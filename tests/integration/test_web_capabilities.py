"""OPTIONS on the service root describes every route (PS3.18 8.9)."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from tests.integration.conftest import Web

NAMESPACE = {"w": "http://wadl.dev.java.net/2009/02"}


def test_the_wadl_names_every_resource_and_method(web: Web) -> None:
    answer = web.ask("OPTIONS", "/")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/vnd.sun.wadl+xml"
    root = ET.fromstring(answer.content)
    assert root.find("w:resources", NAMESPACE).attrib["base"] == web.base  # type: ignore[union-attr]
    described = {
        (resource.attrib["path"], method.attrib["name"])
        for resource in root.iterfind(".//w:resource", NAMESPACE)
        for method in resource.iterfind("w:method", NAMESPACE)
    }
    assert described >= {
        ("studies", "GET"),
        ("studies", "POST"),
        ("studies/{study}", "GET"),
        ("studies/{study}", "POST"),
        ("studies/{study}", "DELETE"),
        ("studies/{study}/similar", "GET"),
        ("studies/{study}/similar", "POST"),
        ("studies/{study}/series/{series}/instances/{instance}/frames/{frames}", "GET"),
        ("studies/{study}/rendered", "GET"),
    }


def test_each_described_get_without_a_path_parameter_answers(web: Web) -> None:
    root = ET.fromstring(web.ask("OPTIONS", "/").content)
    paths = [resource.attrib["path"] for resource in root.iterfind(".//w:resource", NAMESPACE)]
    for path in (path for path in paths if "{" not in path):
        assert web.get("/" + path).status_code == 204, path


def test_the_base_without_a_slash_and_other_media_types(web: Web) -> None:
    assert web.ask("OPTIONS", "").status_code == 200
    assert web.ask("OPTIONS", "/", "application/xml").headers["Content-Type"] == "application/xml"
    assert web.ask("OPTIONS", "/", "application/pdf").status_code == 406
    assert web.get("/").status_code == 405
