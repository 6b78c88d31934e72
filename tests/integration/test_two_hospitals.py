"""Two hospitals in one installation: a study of the other one is answered as one that is nowhere, by every route.

The same status, body and headers, after the same statements to the database: where a look-up more told them apart, so
would its time. And what the other one has changes no answer.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import psycopg
import pytest
from flask.testing import FlaskClient

from radir_pacs.access.references import reference
from radir_pacs.callers import Role
from radir_pacs.scopes import Scope
from radir_pacs.types import JobKind
from radir_pacs.web.route_rights import RIGHTS
from tests.integration.conftest import Web
from tests.integration.test_scopes import COUNT, NORTH, House
from tests.integration.test_tokens import rules
from tests.integration.test_web_similar import report_of

FOREIGN, NOWHERE = "1.2.11", "1.2.99"  # of South; of nobody
TELLING = frozenset({"stow.store", "studies.pull"})  # who adds to a study learns that its UID is taken


@dataclass(frozen=True, kw_only=True)
class Ask:
    """A request that names a study; ``path`` and ``body`` have {study}, {instance} and {reference} in them.

    same_way: whether both are looked for in the same way.
    """

    role: Role
    method: str
    path: str
    body: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 404
    same_way: bool = True

    def __str__(self) -> str:
        return f"{self.role} {self.method} {self.path} {self.headers.get('Accept', '')}"


@pytest.fixture
def house(web: Web) -> House:
    return House(web)


def asks(house: House) -> Iterator[Ask]:
    """Each route that names a study in its path, by each role that reaches it; then each other way to name one."""
    job = house.web.catalogue.jobs.enqueue(JobKind.PULL, FOREIGN)
    series = str(house.images[11].SeriesInstanceUID)
    known = {"<series>": series, "<instance>": "{instance}", "<study>": "{study}", "<int:number>": str(job)}
    for rule in rules(house.web):
        if "<study>" not in rule.rule or rule.endpoint in TELLING or RIGHTS[rule.endpoint] == {Role.ADMINISTRATOR}:
            continue
        path = rule.rule
        for name, value in known.items():
            path = path.replace(name, value)
        path = "/".join("1" if part.startswith("<") else part for part in path.split("/"))
        for method in sorted((rule.methods or set()) - {"OPTIONS"}):
            for role in sorted(RIGHTS[rule.endpoint] - {Role.ADMINISTRATOR}):
                yield Ask(role=role, method=method, path=path)
    page = {"Accept": "text/html"}
    for path in (
        "/dicom-web/studies?similarto={study}",
        "/similar?StudyInstanceUID={study}",
        "/similar?StudyInstanceUID={study}&anatomy=chest",
        "/sidebar?StudyInstanceUID={study}",
        "/api/studies/1.2.0/similar/slices?case={study}&series=" + series,
        "/api/regions?study={study}",
        "/wado?requestType=WADO&contentType=application/dicom&objectUID={instance}",
        "/wado?requestType=WADO&studyUID={study}&objectUID={instance}",
        "/studies/{study}",
    ):
        yield Ask(role=Role.RADIOLOGIST, method="GET", path=path)
        yield Ask(role=Role.RADIOLOGIST, method="GET", path=path, headers=page)
    for path in (
        "/?find={study}",
        "/?find={reference}",
        "/dicom-web/studies?StudyInstanceUID={study}",
        "/dicom-web/series?StudyInstanceUID={study}",
        "/dicom-web/instances?SOPInstanceUID={instance}",
        "/api/emergency?study={study}",
    ):
        status = 204 if path.startswith("/dicom-web") else 200
        yield Ask(role=Role.RADIOLOGIST, method="GET", path=path, status=status)
    as_json, as_fhir = ({"Content-Type": kind} for kind in ("application/json", "application/fhir+json"))
    yield Ask(
        role=Role.SERVICE,
        method="POST",
        path="/sidebar/context",
        body='{"StudyInstanceUID": "{study}"}',
        headers=as_json,
    )
    judged = {
        "case": "{study}",
        "region": "chest",
        "model": "m",
        "rank": 1,
        "score": 0.9,
        "verdict": "UP",
        "reader": "r",
    }
    yield Ask(
        role=Role.RADIOLOGIST,
        method="POST",
        path="/api/studies/1.2.0/feedback",
        body=json.dumps(judged),
        headers=as_json,
    )
    report = {
        "resourceType": "DiagnosticReport",
        "status": "final",
        "identifier": [{"value": "R"}],
        "code": {"text": "CT"},
        "issued": "2024-05-01T10:00:00Z",
        "imagingStudy": [{"identifier": {"system": "urn:dicom:uid", "value": "urn:oid:{study}"}}],
        "presentedForm": [{"contentType": "text/plain", "data": "VGV4dC4="}],
    }
    yield Ask(  # where the UID is nowhere, its study is looked for by numbers and patient
        role=Role.SERVICE,
        method="POST",
        path="/fhir/DiagnosticReport",
        body=json.dumps(report),
        headers=as_fhir,
        same_way=False,
    )


@contextmanager
def statements() -> Iterator[list[str]]:
    """The texts of the statements that this thread sends meanwhile, without their parameters."""
    sent: list[str] = []
    execute, own = psycopg.Cursor.execute, threading.get_ident()

    def noted(self: Any, query: Any, *args: Any, **more: Any) -> Any:
        if threading.get_ident() == own:
            sent.append(query.decode() if isinstance(query, bytes) else str(query))
        return execute(self, query, *args, **more)

    with patch.object(psycopg.Cursor, "execute", noted):
        yield sent


def test_a_study_of_the_other_hospital_is_answered_as_one_that_is_nowhere(house: House) -> None:
    scope = Scope(sites=frozenset({NORTH}))
    tokens = {role: house.token(role, scope) for role in (Role.RADIOLOGIST, Role.RESEARCHER, Role.SERVICE)}
    image = str(house.images[11].SOPInstanceUID)
    other = image[:-3] + ("111" if image[-3:] != "111" else "222")
    settings, client = house.web.settings, house.web.app.test_client()
    names = {
        study: {"{study}": study, "{instance}": instance, "{reference}": reference(study, settings)}
        for study, instance in ((FOREIGN, image), (NOWHERE, other))
    }
    asked, tried = list(asks(house)), 0
    answered(client, asked[0], names[NOWHERE], tokens[asked[0].role])
    house.web.app.extensions["radir"].bearers._read_s = float("inf")  # or tokens are read anew once a second
    for ask in asked:
        for _ in range(2):  # first with whatever is read once and kept
            told = [answered(client, ask, names[study], tokens[ask.role]) for study in (FOREIGN, NOWHERE)]
        (foreign, looked_up), (nowhere, looked_up_too) = told
        assert foreign[0] == ask.status, f"{ask}: {foreign}"
        assert foreign == nowhere, ask
        assert looked_up == looked_up_too or not ask.same_way, ask
        tried += 1
    assert tried > 90
    assert len(list(house.web.catalogue.studies.uids())) == COUNT, "nothing was deleted"


def answered(
    client: FlaskClient, ask: Ask, names: dict[str, str], token: str
) -> tuple[tuple[int, bytes, list[tuple[str, str]]], list[str]]:
    """Status, body and headers without what the request named, and the statements that were sent for it."""
    path, body = ask.path, ask.body or ""
    for name, value in names.items():
        path, body = path.replace(name, value), body.replace(name, value)
    headers = {"Accept": "*/*"} | ask.headers | {"Authorization": f"Bearer {token}"}
    with statements() as sent:
        answer = client.open(path, method=ask.method, headers=headers, data=body, buffered=True)
    data, told = answer.data, sorted((name, value) for name, value in answer.headers if name != "Set-Cookie")
    for value in names.values():
        data = data.replace(value.encode(), b"")
        told = [(name, text.replace(value, "")) for name, text in told]
    return (answer.status_code, data, told), sent


QUESTIONS = (
    *(f"/dicom-web/studies/1.2.0/similar{query}" for query in ("", "?limit=5", "?limit=30", "?anatomy=left+lung")),
    "/dicom-web/studies/1.2.0/similar?finding=pneumothorax",
    "/api/studies/1.2.0/similar",
    "/api/studies/1.2.0/similar?finding=pneumothorax",
    "/api/studies/1.2.0/similar?anatomy=left+lung&limit=3",
    "/api/studies/1.2.0",
    "/dicom-web/studies?limit=100",
    "/dicom-web/series?limit=100",
    "/dicom-web/instances?limit=100",
    "/dicom-web/studies?PatientName=Name*",
    "/dicom-web/studies?limit=3&offset=2",
    "/api/regions",
    "/api/findings",
    "/api/typed?text=pneumothorax",
    "/status",
    "/",
    "/?find=P11",
    "/similar?StudyInstanceUID=1.2.0",
    "/studies/1.2.0",
    "/account",
)
MOMENTS = re.compile(rb"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[.\d]*|\d{14}\.\d{6}|\"generation\":\"[^\"]*\"|\d+ s\b")
MARK = re.compile(r"page=[\w-]+")  # of the next page: sealed, and new each time


def test_no_answer_to_north_depends_on_what_south_has(house: House) -> None:
    """Search, statistics, explanation, pages: all are the same when South's studies and reports are gone."""
    catalogue = house.web.catalogue
    for number in range(COUNT):
        text = "Large left pneumothorax." if number % 2 else "Small left pleural effusion."
        report_of(house.web, f"1.2.{number}", text)
    token = house.token(Role.RADIOLOGIST, Scope(sites=frozenset({NORTH})), names=True)

    def told(token: str) -> dict[str, tuple[int, bytes, list[tuple[str, str]]]]:
        client, names = house.web.app.test_client(), {"{study}": "1.2.0"}
        asks = [Ask(role=Role.RADIOLOGIST, method="GET", path=path) for path in QUESTIONS]
        answers = {ask.path: answered(client, ask, names, token)[0] for ask in asks}
        return {
            path: (status, MOMENTS.sub(b"", body), [(name, MARK.sub("", value)) for name, value in headers])
            for path, (status, body, headers) in answers.items()
        }

    before, to_all_before = told(token), told(house.administrator)
    assert {status for status, _, _ in before.values()} <= {200, 204}
    for number in range(1, COUNT, 2):
        catalogue.studies.delete(f"1.2.{number}")
    after, to_all_after = told(token), told(house.administrator)
    for path in QUESTIONS:
        assert after[path] == before[path], path
    assert sum(to_all_after[path] != to_all_before[path] for path in QUESTIONS) > 10, "there was something to see"
