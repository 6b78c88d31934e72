"""Who may call: tokens, and on loopback without tokens only requests that name this machine."""

from __future__ import annotations

from collections.abc import Callable

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
        for path in ("/dicom-web/studies", "/", "/status", "/nowhere", "/similar", "/static/radir.css"):
            headers = {"Authorization": authorization.encode()} if authorization else {}
            answer = requests.get(web.root + path, headers=headers, timeout=30)
            assert code(answer) == (401, "unauthorized"), path
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    for path in ("/health/live", "/health/ready"):
        assert requests.get(web.root + path, timeout=30).status_code == 200


def test_a_person_gives_the_token_as_the_password_of_any_user(serve: Callable[..., Web]) -> None:
    web = serve(api_tokens=TOKENS)
    for path in ("/", "/static/radir.css", "/dicom-web/studies"):
        assert requests.get(web.root + path, auth=("reader", TOKENS[1]), timeout=30).status_code in (200, 204), path
        for password in ("", "wrong", TOKENS[0] + "x"):
            assert requests.get(web.root + path, auth=(TOKENS[0], password), timeout=30).status_code == 401, path


def test_the_password_is_asked_for_where_a_person_looks_and_never_of_a_script(serve: Callable[..., Web]) -> None:
    web = serve(api_tokens=TOKENS)
    for path in ("/", "/similar", "/studies/1.2.3", "/sidebar?StudyInstanceUID=1.2.3"):
        answer = requests.get(web.root + path, headers={"Accept": "text/html,*/*;q=0.8"}, timeout=30)
        assert (answer.status_code, answer.headers["Content-Type"]) == (401, "text/html; charset=utf-8")
        assert "Basic realm" in answer.headers["WWW-Authenticate"]
    picture = requests.get(web.base + "/studies/1.2/rendered", headers={"Sec-Fetch-Dest": "image"}, timeout=30)
    assert "Basic realm" in picture.headers["WWW-Authenticate"]
    for path in ("/api/regions", "/dicom-web/studies", "/status"):
        assert "Basic" not in requests.get(web.root + path, timeout=30).headers["WWW-Authenticate"]


def test_a_link_into_ohif_asks_for_the_password_at_the_root_and_comes_back(serve: Callable[..., Web]) -> None:
    web = serve(api_tokens=TOKENS)
    link = "/ohif/viewer?StudyInstanceUIDs=1.2.3&x=a%26b"
    answer = requests.get(web.root + link, allow_redirects=False, timeout=30)
    assert answer.status_code == 302 and answer.headers["Location"].startswith("/sign-in?to=")
    asked = requests.get(web.root + answer.headers["Location"], headers={"Accept": "text/html"}, timeout=30)
    assert (asked.status_code, "Basic realm" in asked.headers["WWW-Authenticate"]) == (401, True)
    back = requests.get(web.root + answer.headers["Location"], auth=("", TOKENS[0]), allow_redirects=False, timeout=30)
    assert (back.status_code, back.headers["Location"]) == (302, link)
    for program in ("/ohif/app-config.js", "/viewer/ohif-extension.js"):
        assert requests.get(web.root + program, allow_redirects=False, timeout=30).status_code in (200, 404)
    for to in (
        "https://evil.example/",
        "//evil.example",
        "/",
        "/status",
        "javascript:alert(1)",
        "\\\\evil",
        "",
        "/ohif/\r\nX: 1",
    ):
        lured = requests.get(web.root + "/sign-in", params={"to": to}, auth=("", TOKENS[0]), timeout=30)
        assert code(lured) == (400, "bad_input"), to


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
