"""Ways of calling x routes x methods x paths x bodies, at random, held against the table of routes and roles.

`make test` sends 1,500 of them; RADIR_TEST_REQUESTS=10000 asks for more, RADIR_TEST_SEED for others. They go
through Flask's test client: what the server around it refuses is tested in `test_web_server`.
"""

from __future__ import annotations

import os
import random
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import unquote, urlencode

import psycopg
import pytest
from flask.testing import FlaskClient
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Rule
from werkzeug.test import TestResponse

from radir_pacs.callers import Role
from radir_pacs.catalogue import OF_ACCOUNTS, OF_TOKENS, Catalogue
from radir_pacs.dicom.uids import is_valid_uid
from radir_pacs.scopes import Scope
from radir_pacs.web import context_rights
from radir_pacs.web.auth import _is_open
from radir_pacs.web.route_rights import RIGHTS
from tests.accounts_material import add_account, forget
from tests.catalogue_material import TESTER
from tests.integration.conftest import Web
from tests.integration.test_scopes import COUNT, NORTH, House


def words(text: str) -> list[str]:
    return re.findall(r"\S+", text)


REQUESTS = int(os.environ.get("RADIR_TEST_REQUESTS", "1500"))
SEED = int(os.environ.get("RADIR_TEST_SEED", "20"))
OURS = "http://localhost"
METHODS = ("GET", "GET", "GET", "POST", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS")
OWN, FOREIGN = "1.2.0", "1.2.1"  # of North, of South
UNKNOWN = "1.2.999"
STUDIES = (OWN, OWN, "1.2.2", FOREIGN, FOREIGN, "1.2.3", UNKNOWN)
HOSTILE = words(""".. %2e%2e a%20b é %00 1.2.3%0d%0aSet-Cookie:x=y '-- <script> %F0%9F%92%80 * 1.2.03 1.""")
WORDS = words("meyer a%20radiologist 1 -1 99999999999999999999 radir.css panel.js promote CXR 00420011")
NAMES = words(
    "limit offset StudyInstanceUID similarto study case series anatomy PatientName find PatientID includefield to why"
    " context objectUID requestType contentType window code"
)
VALUES = [OWN, FOREIGN, UNKNOWN, "\r\nX: y", "\0", *words("1 10 * all chest Name1* P1 //evil.example 💀")]
TYPES = ["", "text/plain", "é", 'multipart/related; type="application/dicom"; boundary=x']
TYPES += words("application/json application/dicom application/x-www-form-urlencoded application/fhir+json")
BODIES = [b"", b"{}", b"[]", b"null", b'{"StudyInstanceUID": "1.2.1"}', b'{"case": "1.2.1"}', b"csrf=x&name=meyer"]
BODIES += [b"[" * 5000, b"\xff\xfe\0", b"--x\r\nContent-Type: application/dicom\r\n\r\nDICM\r\n--x--", b"DICM" * 40]
NAMED = re.compile(r"(?:Name(?=\d+\^X)|ACC-)(\d+)")
DELETING = frozenset({"studies.delete", "deletion.delete_part"})  # whoever may deletes what is not there


@dataclass(frozen=True, kw_only=True)
class Who:
    """A way of calling. ``role``: None for nobody; ``site``: which alone is seen; ``study``: which a link opens.

    by_cookie: says where it comes from only by ``headers``.
    """

    client: FlaskClient
    role: Role | None
    site: str | None = None
    study: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    by_cookie: bool = False

    def sees(self, study: str) -> bool:
        """Whether there is such a study to them."""
        return study != UNKNOWN and (self.site is None or int(study.rpartition(".")[2]) % 2 == 0)


@dataclass(frozen=True, kw_only=True)
class Everybody:
    house: House
    rules: list[Rule]
    who: dict[str, Who]


@pytest.fixture
def everybody(serve: Callable[..., Web], catalogue: Catalogue) -> Everybody:
    web = serve(sr_other_uids=False)  # reports that an administrator saves tell North of no other study
    house = House(web)
    context, north = web.app.extensions["radir"], Scope(sites=frozenset({NORTH}))
    who: dict[str, Who] = {}

    def by_token(name: str, token: str, role: Role | None, site: str | None = None) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        who[name] = Who(client=web.app.test_client(), role=role, site=site, headers=headers)

    def by_session(name: str, account: str, role: Role | None, site: str | None = None, ends: bool = False) -> None:
        found = catalogue.accounts.to_sign_in(account)
        assert found is not None
        begun = context.sessions.begin(found.id, found.password_hash, address="127.0.0.1")
        if ends:
            context.sessions.end(begun)
        for kind, origin in (("session", OURS), ("lured", "https://evil.example"), ("silent", "")):
            client = web.app.test_client()
            client.set_cookie("radir_session", begun)
            headers = {"Origin": origin} if origin else {}
            who[f"{kind} {name}"] = Who(client=client, role=role, site=site, headers=headers, by_cookie=True)

    def by_link(name: str, study: str, role: Role | None, valid_s: float) -> None:
        client, token = web.app.test_client(), name.ljust(43, "x")
        catalogue.contexts.open(study, token, valid_s, scope=north)
        client.set_cookie(context_rights.COOKIE, token)
        who[name] = Who(client=client, role=role, site=NORTH, study=study)

    tokens = catalogue.access_tokens
    for role in OF_TOKENS:
        by_token(f"token {role}", tokens.create(f"all {role}", role, by=TESTER), role)
        if role is not Role.ADMINISTRATOR:
            by_token(f"north {role}", tokens.create(f"north {role}", role, by=TESTER, scope=north), role, NORTH)
        for name in ("revoked", "expired"):
            by_token(f"{name} {role}", tokens.create(f"{name} {role}", role, by=TESTER, valid_s=3600), None)
        tokens.revoke(f"revoked {role}", by=TESTER)
    for role in OF_ACCOUNTS:
        scope = Scope() if role is Role.ADMINISTRATOR else north
        add_account(catalogue, f"a {role}", role, scope=scope)
        by_session(str(role), f"a {role}", role, None if scope == Scope() else NORTH)
        by_session(f"ended {role}", f"a {role}", None, ends=True)
    by_link("link", OWN, Role.SIDEBAR, 3600)
    by_link("link ended", OWN, None, 0)
    by_token("a stranger", "radir_stranger", None)
    who["nobody"] = Who(client=web.app.test_client(), role=None)
    with psycopg.connect(web.settings.database_url) as connection:
        connection.execute("UPDATE access_token SET expires_at = now() - interval '1 s' WHERE name LIKE 'expired%'")
    forget(web)
    rules = [rule for rule in web.app.url_map.iter_rules() if rule.endpoint != "sign_in.out"]  # ends the session
    return Everybody(house=house, rules=rules, who=who)


@dataclass(frozen=True, kw_only=True)
class Sent:
    """A request, and what it names once the path is read: ``endpoint`` is None where there is no such route."""

    method: str
    path: str
    endpoint: str | None
    values: dict[str, object]

    @property
    def study(self) -> str | None:
        return str(self.values["study"]) if "study" in self.values else None

    @property
    def has_bad_uid(self) -> bool:
        named = (self.values.get(name) for name in ("study", "series", "instance"))
        return any(value is not None and not is_valid_uid(str(value)) for value in named)


def drawn(chance: random.Random, everybody: Everybody, who: Who) -> Sent:
    web, image = everybody.house.web, chance.choice(everybody.house.images[:4])
    rule = chance.choice(everybody.rules)
    method = chance.choice(sorted(rule.methods or METHODS) if chance.random() < 0.6 else METHODS)
    real = {"series": image.SeriesInstanceUID, "instance": image.SOPInstanceUID, "frames": "1", "name": "panel.js"}

    def value(match: re.Match[str]) -> str:
        name = match[1].rpartition(":")[2]
        if chance.random() < 0.1:
            return chance.choice(HOSTILE)
        if name == "study":
            return str(image.StudyInstanceUID) if chance.random() < 0.5 else chance.choice(STUDIES)
        if name in real and chance.random() < 0.7:
            return real[name]
        return chance.choice(WORDS)

    path = re.sub(r"<([^>]+)>", value, rule.rule)
    asked = [(chance.choice(NAMES), chance.choice(VALUES)) for _ in range(chance.choice((0, 0, 1, 2, 4)))]
    sent = matched(web, method, path, asked)
    if sent.endpoint in DELETING and sent.study is not None and is_permitted(who, sent):
        sent = matched(web, method, path.replace(f"/studies/{sent.study}", f"/studies/{UNKNOWN}"), asked)
    return sent


def matched(web: Web, method: str, path: str, asked: list[tuple[str, str]]) -> Sent:
    adapter = web.app.url_map.bind("localhost")
    whole = f"{path}?{urlencode(asked)}" if asked else path
    try:
        endpoint, values = adapter.match(re.sub("/{2,}", "/", unquoted(path)), method)
    except HTTPException:
        return Sent(method=method, path=whole, endpoint=None, values={})
    return Sent(method=method, path=whole, endpoint=endpoint, values=dict(values))


def unquoted(path: str) -> str:
    """As the server reads it."""
    return unquote(path, "utf-8", "replace")


def is_permitted(who: Who, sent: Sent) -> bool:
    """What the tables say, for a study that they see."""
    if who.role is None:
        return False
    if sent.endpoint is None:
        return who.study is None  # nothing beside what is listed is open to a link
    if who.study is not None:
        reached = context_rights._REACHED | {"emergency.offered"}
        return sent.endpoint in reached and sent.study in (None, who.study)
    if sent.endpoint == "figures.metrics" and who.site is not None:
        return False  # they count the whole archive
    return who.role in RIGHTS.get(sent.endpoint, frozenset())


def fault(who: Who, sent: Sent, answer: TestResponse) -> str:
    """What is wrong with the answer by the tables; empty where nothing is."""
    status = answer.status_code
    changes = sent.method not in {"GET", "HEAD", "OPTIONS"}
    if status >= 500:
        return "the server failed"
    if sent.has_bad_uid:
        return "" if status == 400 else "what is no UID was used as one"
    if _is_open(unquoted(sent.path.partition("?")[0])):
        return ""
    if who.role is None:
        led = status == 302 and sent.endpoint == "ohif.file"  # to the sign-in page
        return "" if status == 401 or led else "nobody got in"
    if not is_permitted(who, sent):
        return "" if status == 403 else "beyond the table of roles"
    if changes and who.by_cookie and who.headers.get("Origin") != OURS:
        return "" if status == 403 else "another site's page got in"
    if sent.method != "OPTIONS" and sent.study is not None and who.site is not None and not who.sees(sent.study):
        return "" if status == 404 or (sent.endpoint == "stow.store" and status >= 400) else "beyond the scope"
    if status in {401, 403} and not (who.study is not None and "?" in sent.path):  # a link's parameters name studies
        return "refused against the table"
    return told_of_others(who, sent, answer)


def told_of_others(who: Who, sent: Sent, answer: TestResponse) -> str:
    """Whether the answer names what they may not see: patients, or another site's images that they did not name."""
    text = answer.data.decode("latin-1")
    named = {int(number) for number in NAMED.findall(text)}
    if who.role is Role.RESEARCHER and named:
        return "a name for a researcher"
    if who.study is not None and named - {0}:
        return "another patient's name for a link"
    if who.site is not None and any(number % 2 for number in named):
        return "a patient of another site"
    return ""


def test_random_requests_reach_what_the_tables_say_and_no_more(everybody: Everybody) -> None:
    chance, outcomes = random.Random(SEED), Counter[str]()
    names, web = sorted(everybody.who), everybody.house.web
    known = [name for name in names if everybody.who[name].role is not None]
    foreign = [str(image.SOPInstanceUID).encode() for image in everybody.house.images[1::2]]
    for number in range(REQUESTS):
        who = everybody.who[name := chance.choice(known if chance.random() < 0.5 else names)]
        sent = drawn(chance, everybody, who)
        data, kind = (b"", "") if sent.method in {"GET", "HEAD"} else (chance.choice(BODIES), chance.choice(TYPES))
        answer = who.client.open(
            sent.path,
            method=sent.method,
            headers={"Accept": "*/*"} | who.headers,
            data=data,
            content_type=kind or None,
            buffered=True,
        )
        where = f"request {number} of seed {SEED}: {name} {sent} with {data[:40]!r} as {kind}: {answer.status}"
        assert not (wrong := fault(who, sent, answer)), f"{wrong}; {where}"
        shown = [uid for uid in foreign if uid in answer.data and uid.decode() not in sent.path]
        assert who.site is None or not shown, f"another site's image; {where}"
        outcomes[f"{answer.status_code // 100}xx"] += 1
    assert sum(outcomes.values()) == REQUESTS
    assert min(outcomes["2xx"], outcomes["4xx"]) > REQUESTS / 20, outcomes
    assert len(list(web.catalogue.studies.uids())) == COUNT, "nothing came or went"
    print(f"{REQUESTS} requests of {len(names)} callers: {dict(outcomes)}")
