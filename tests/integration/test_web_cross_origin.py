"""CORS: viewers of listed origins read and store with their own token; no other origin gets an answer."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import requests

from tests.dicom_files import radiograph
from tests.integration.conftest import Web, part10

VIEWER, OTHER, TOKEN = "https://viewer.example:3000", "https://evil.example", "first-token-of-us"


@pytest.fixture
def open_to_viewer(serve: Callable[..., Web]) -> Web:
    return serve(cors_origins=(VIEWER, "http://localhost:3000"), api_tokens=(TOKEN,))


def preflight(web: Web, path: str, method: str, origin: str = VIEWER) -> requests.Response:
    asked = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": "authorization,content-type"}
    return web.ask("OPTIONS", path, headers={"Origin": origin} | asked)


@pytest.mark.parametrize("path", ["/studies", "/studies/1.2/series/1.3/metadata", "//studies/", "", "/nowhere"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_a_preflight_needs_no_token(open_to_viewer: Web, path: str, method: str) -> None:
    answer = preflight(open_to_viewer, path, method)
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["Access-Control-Allow-Origin"] == VIEWER
    assert method in answer.headers["Access-Control-Allow-Methods"].split(", ")
    allowed = answer.headers["Access-Control-Allow-Headers"].lower().split(", ")
    assert {"authorization", "content-type", "accept"} <= set(allowed)
    assert "Origin" in answer.headers["Vary"]
    assert "Access-Control-Allow-Credentials" not in answer.headers


def test_what_follows_needs_the_token_and_may_be_read(open_to_viewer: Web) -> None:
    web = open_to_viewer
    headers = {"Origin": VIEWER, "Sec-Fetch-Site": "cross-site"}
    without = web.get("/studies", headers=headers)
    assert (without.status_code, without.headers["Access-Control-Allow-Origin"]) == (401, VIEWER)
    headers |= {"Authorization": f"Bearer {TOKEN}"}
    sent = web.ask(
        "POST", "/studies", data=part10(radiograph()), headers=headers | {"Content-Type": "application/dicom"}
    )
    assert (sent.status_code, sent.headers["Access-Control-Allow-Origin"]) == (200, VIEWER)
    found = web.get("/studies", headers=headers)
    assert found.status_code == 200
    exposed = found.headers["Access-Control-Expose-Headers"].split(", ")
    assert {"Warning", "ETag", "Content-Location", "Location"} <= set(exposed)
    assert found.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    study = found.json()[0]["0020000D"]["Value"][0]
    assert web.get(f"/studies/{study}/metadata", headers=headers).headers["Access-Control-Allow-Origin"] == VIEWER
    assert web.ask("DELETE", f"/studies/{study}", headers=headers).status_code == 204


@pytest.mark.parametrize(
    "origin",
    [OTHER, "null", VIEWER + ".evil.example", "http://viewer.example:3000", "https://viewer.example", "", VIEWER + "/"],
)
def test_other_origins_get_nothing(open_to_viewer: Web, origin: str) -> None:
    web = open_to_viewer
    assert preflight(web, "/studies", "POST", origin).status_code == 401
    headers = {"Origin": origin, "Authorization": f"Bearer {TOKEN}"}
    for answer in (web.get("/studies", headers=headers), web.ask("DELETE", "/studies/1.2.3", headers=headers)):
        assert "Access-Control-Allow-Origin" not in answer.headers
        assert "Origin" in answer.headers["Vary"]
    if origin:
        assert web.ask("DELETE", "/studies/1.2.3", headers=headers).status_code == 403


def test_pages_are_not_open_to_listed_origins(open_to_viewer: Web) -> None:
    web = open_to_viewer
    headers = {"Origin": VIEWER, "Authorization": f"Bearer {TOKEN}"}
    for path in ("/", "/status", "/sidebar/context", "/dicom-webx"):
        answer = requests.get(web.root + path, headers=headers, timeout=30)
        assert "Access-Control-Allow-Origin" not in answer.headers
    assert requests.post(web.root + "/sidebar/context", headers=headers, timeout=30).status_code == 403
