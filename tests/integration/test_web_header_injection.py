"""Line ends, NUL and letters beyond ASCII in whatever a request has: no header of an answer takes them over."""

from __future__ import annotations

import os
import random
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import quote, urlencode

import pytest
from flask.testing import FlaskClient
from werkzeug.routing import Rule
from werkzeug.test import TestResponse

from tests.conftest import free_port
from tests.integration.conftest import Web, running
from tests.integration.test_web_similar import archive, uid

INJECTED = "X-Injected: y"
PAYLOADS = [
    f"\r\n{INJECTED}",
    f"\n{INJECTED}",
    f"\r{INJECTED}",
    f"\0\r\n\r\n{INJECTED}",
    f"\u2028\x85{INJECTED}",
    "ÿ💀",
]
PAYLOADS += [f'"; x="\r\n\t{INJECTED}', "//evil.example/%0d%0aX-Injected:%20y", f"é\u560d\u560a{INJECTED}"]
VALUES = {  # with which a route goes on, and perhaps repeats the rest
    "anatomy": "left lung",
    "words": "outer third",
    "wordsof": "region",
    "finding": "consolidation",
    "limit": "2",
    "offset": "1",
    "page": "x",
    "to": "/account",
    "requestType": "WADO",
    "objectUID": "1.2.3",
    "contentType": "image/jpeg",
    "StudyInstanceUID": uid(0),
    "similarto": uid(0),
    "study": uid(0),
    "case": uid(1),
    "series": "1.2",
    "region": "left_lung",
    "text": "left lung",
    "kind": "CXR",
    "includefield": "all",
    "PatientName": "Name",
    "accept": "application/dicom+json",
    "window": "1,2,linear",
    "viewport": "10,10",
    "charset": "utf-8",
    "find": "x",
    "lang": "de",
    "context": "x",
    "state": "x",
    "code": "x",
    "error": "x",
    "why": "role",
    "status": "x",
    "name": "x",
}
GOOD = {"anatomy": "left lung", "limit": "2", "similarto": uid(0)}
HEADERS = (
    *("ACCEPT", "ACCEPT_LANGUAGE", "ACCEPT_ENCODING", "IF_NONE_MATCH", "RANGE", "ORIGIN", "REFERER", "COOKIE", "HOST"),
    *("FORWARDED", "X_FORWARDED_HOST", "X_FORWARDED_PROTO", "X_FORWARDED_PREFIX", "X_FORWARDED_FOR", "USER_AGENT"),
    *("ACCESS_CONTROL_REQUEST_METHOD", "X_REQUEST_ID", "TRACEPARENT", "AUTHORIZATION", "X_RADIR_LINK"),
)
# These repeat much of what was asked, and are asked everything; the others a part, all of it with RADIR_TEST_REQUESTS.
REPEATING = {"similar.similar", "similar.studies", "sign_in.form", "viewer.sidebar", "qido.all_series", "pages.start"}
SOME = 10
AS_WSGI = [f"HTTP_{name}" for name in HEADERS if name != "HOST"]  # which is refused before anything else
TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110 5.6.2
COOKIES = {"radir_session", "radir_context", "radir_lang"}


@pytest.fixture(scope="module")
def behind(shared_web: Web) -> Iterator[Web]:
    """Whoever uses the machine may do everything, and is believed what it forwards."""
    archive(shared_web)
    settings = replace(shared_web.settings, web_port=free_port(), trusted_proxies=("127.0.0.1",))
    with running(settings, shared_web.catalogue) as web:
        yield web


@pytest.fixture
def client(behind: Web) -> FlaskClient:
    return behind.app.test_client(use_cookies=False)


def requests_to(rule: Rule, image: dict[str, str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Paths with queries, and headers as WSGI has them: each with one place that is hostile."""
    good = {"study": uid(0), "frames": "1", "where": "00420011", "name": "radir.css", "ohif_chunk": "1.css"} | image

    def path(**parts: str) -> str:
        def part(match: re.Match[str]) -> str:
            name = match[1].rpartition(":")[2]
            return parts.get(name, good.get(name, "1"))

        return re.sub(r"<([^>]+)>", part, str(rule.rule))

    for payload in PAYLOADS:
        for name in sorted(rule.arguments):
            yield path(**{name: quote(good.get(name, "1") + payload)}), {}
        yield path() + "?" + urlencode(GOOD | {f"x{payload}": "1"}), {}
        yield (
            path() + "?" + urlencode(GOOD),
            dict.fromkeys(AS_WSGI, payload.encode().decode("latin-1")),
        )
    for at, (name, value) in enumerate(VALUES.items()):
        yield path() + "?" + urlencode(GOOD | {name: value + PAYLOADS[at % len(PAYLOADS)]}), {}
        yield path() + "?" + urlencode({name: value + PAYLOADS[0]}), {"HTTP_ACCEPT": "text/html"}
    for name in HEADERS:
        yield path() + "?" + urlencode(GOOD), {f"HTTP_{name}": f"localhost{PAYLOADS[0]}"}


def check(answer: TestResponse, asked: str) -> None:
    assert answer.status_code < 500, asked
    for name, value in answer.headers:
        assert TOKEN.fullmatch(name) and not re.search(r"[\r\n\0]", value), (asked, name, value)
        assert "injected" not in name.lower(), asked
        assert value.isascii(), (asked, name, value)
    for cookie in answer.headers.getlist("Set-Cookie"):
        assert cookie.partition("=")[0] in COOKIES, (asked, cookie)
    to = answer.headers.get("Location", "/")
    assert (to.startswith("/") and not to.startswith(("//", "/\\"))) or "://127.0.0.1" in to, (asked, to)


def test_no_route_lets_a_header_in(client: FlaskClient, behind: Web) -> None:
    image = behind.catalogue.instances.of_study(uid(0))[0]
    parts = {"series": image.series_uid, "instance": image.sop_uid}
    chance, answers = random.Random(20), Counter[str]()
    for rule in behind.app.url_map.iter_rules():
        asks = list(requests_to(rule, parts))
        if rule.endpoint not in REPEATING and "RADIR_TEST_REQUESTS" not in os.environ:
            asks = chance.sample(asks, SOME)
        for method in sorted((rule.methods or set()) - {"OPTIONS", "HEAD", "DELETE"}):
            for path, headers in asks:
                answer = client.open(path, method=method, environ_overrides=headers, buffered=True)
                check(answer, f"{method} {path} {headers}")
                answers.update(name for name in ("Location", "Warning", "Link") if name in answer.headers)
    assert min(answers["Location"], answers["Warning"], answers["Link"]) > 10, answers
