"""Who may call: tokens, and on loopback without tokens only requests that name this machine."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote

import pytest
import requests

from tests.integration.conftest import Web

TOKENS = ("first-token-of-us", "second-token-of-us")


def code(answer: requests.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def test_with_tokens_every_route_but_the_probes_needs_one(serve: Callable[..., Web]) -> None:
    web = serve(api_tokens=TOKENS)
    assert web.get("/studies", headers={"Authorization": "Bearer second-token-of-us"}).status_code == 204
    assert web.get("/studies", headers={"Authorization": "bearer first-token-of-us"}).status_code == 204
    for authorization in (
        None,
        "Bearer",
        "Bearer wrong",
        "Basic first-token-of-us",
        "Bearer first-token-of-us2",
        "Bearer é",
    ):
        for path in ("/dicom-web/studies", "/", "/status", "/nowhere", "/similar"):
            headers = {"Authorization": authorization.encode()} if authorization else {}
            answer = requests.get(web.root + path, headers=headers, timeout=30)
            assert code(answer) == (401, "unauthorized"), path
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    for path in ("/health/live", "/health/ready", "/sign-in", "/static/radir.css", "/admin/static/admin.css"):
        assert requests.get(web.root + path, timeout=30).status_code == 200


def test_a_person_gives_the_token_as_the_password_of_any_user(serve: Callable[..., Web]) -> None:
    web = serve(api_tokens=TOKENS)
    for path in ("/", "/dicom-web/studies"):
        assert requests.get(web.root + path, auth=("reader", TOKENS[1]), timeout=30).status_code in (200, 204), path
        for password in ("", "wrong", TOKENS[0] + "x"):
            assert requests.get(web.root + path, auth=(TOKENS[0], password), timeout=30).status_code == 401, path


def test_a_person_is_led_to_the_sign_in_page_and_a_program_is_told(serve: Callable[..., Web]) -> None:
    web = serve(api_tokens=TOKENS)
    page = {"Accept": "text/html,*/*;q=0.8"}
    for path in ("/", "/similar", "/studies/1.2.3", "/sidebar?StudyInstanceUID=1.2.3", "/ohif/viewer?x=a%26b"):
        answer = requests.get(web.root + path, headers=page, allow_redirects=False, timeout=30)
        assert answer.status_code == 302 and answer.headers["Location"] == f"/sign-in?to={quote(path, safe='')}"
        assert answer.headers["Cache-Control"] == "no-store"
    for path in ("/api/regions", "/dicom-web/studies", "/status", "/studies/1.2.3"):
        told = requests.get(web.root + path, timeout=30)
        assert (told.status_code, told.headers["WWW-Authenticate"]) == (401, 'Bearer realm="radir"')
    picture = requests.get(web.base + "/studies/1.2/rendered", headers={"Sec-Fetch-Dest": "image"}, timeout=30)
    assert picture.status_code == 401
    for program in ("/ohif/app-config.js", "/viewer/ohif-extension.js"):
        assert requests.get(web.root + program, allow_redirects=False, timeout=30).status_code in (200, 404)


def test_a_browser_that_holds_the_password_is_not_used_by_other_sites(serve: Callable[..., Web]) -> None:
    web = serve(api_tokens=TOKENS)
    foreign = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    assert code(web.ask("DELETE", "/studies/1.2.3", headers=foreign, auth=("", TOKENS[0]))) == (403, "forbidden")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "[::1", "", "10.0.0.1"])
def test_without_tokens_a_foreign_host_header_is_refused(web: Web, host: str) -> None:
    answer = requests.get(web.base + "/studies", headers={"Host": host}, timeout=30)
    assert answer.status_code in (400, 421)
    assert set(answer.json()["error"]) == {"code", "message"}


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:1", "[::1]:8042", "LOCALHOST:80"])
def test_names_of_this_machine_are_admitted(web: Web, host: str) -> None:
    assert requests.get(web.base + "/studies", headers={"Host": host}, timeout=30).status_code == 204


def test_the_public_name_is_admitted(serve: Callable[..., Web]) -> None:
    web = serve(web_public_url="https://pacs.example:8443")
    local = f"http://127.0.0.1:{web.settings.web_port}/dicom-web/studies"
    assert requests.get(local, headers={"Host": "pacs.example:8443"}, timeout=30).status_code == 204


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://["},
        {"Origin": "http://127.0.0.1:1"},  # another program of this machine
        {"Origin": "http://localhost"},
    ],
)
def test_pages_of_other_sites_cannot_trigger_anything(web: Web, headers: dict[str, str]) -> None:
    for method, path in (("POST", "/studies/1.2.3/complete"), ("DELETE", "/studies/1.2.3"), ("POST", "/studies")):
        assert code(web.ask(method, path, headers=headers)) == (403, "forbidden")


def test_our_own_pages_can(web: Web) -> None:
    headers = {"Origin": web.root, "Sec-Fetch-Site": "same-origin"}
    assert web.ask("POST", "/studies/1.2.3/complete", headers=headers).status_code == 404


def test_no_other_site_is_ever_let_in(web: Web) -> None:
    preflight = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    for answer in (
        web.get("/studies", headers={"Origin": "https://evil.example"}),
        web.ask("OPTIONS", "/studies", headers=preflight),
    ):
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
