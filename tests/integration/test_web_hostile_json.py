"""JSON that is not what a route expects: refused in the one shape, or taken; never an error of the server."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.dicom_files import radiograph
from tests.examples import examples
from tests.integration.conftest import Web
from tests.integration.test_web_fhir import resource
from tests.integration.test_web_stow_metadata import described

STUDY = "2.25.7"
IMAGE = radiograph(StudyInstanceUID=STUDY)
JUDGED = {"case": STUDY, "region": "chest", "model": "m", "rank": 1, "score": 0.5, "verdict": "UP", "reader": "r"}
BODIES: dict[str, Any] = {
    f"/api/studies/{STUDY}/feedback": JUDGED | {"reason": "alike", "generation": "g"},
    "/sidebar/context": {"StudyInstanceUID": STUDY, "reader": "r"},
    "/fhir/DiagnosticReport": resource(),
    "/dicom-web/studies": [described(IMAGE, {})],
}
ODD: list[Any] = [
    "a" * 70_000,
    None,
    True,
    10**400,
    -(2**63),
    2**31,
    1e308,
    float("inf"),
    float("nan"),
    "",
    "\0",
    "\ud800",
]
ODD += ["1.2.3", {}, [], [[]], {"": {}}, {"vr": "SQ", "Value": [None]}, {"vr": "PN", "Value": [{"Ideographic": 1}]}]
LEAVES = st.one_of(st.sampled_from(ODD), st.integers(), st.floats(), st.text(max_size=20))
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3))


@pytest.fixture(scope="module")
def client(shared_web: Web) -> FlaskClient:
    shared_web.store(IMAGE)
    return shared_web.app.test_client()


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Of everything within a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, one in inner for place in places(one, (*path, key)))]


def changed(body: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    made = copy.deepcopy(body)
    at = made
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return made


def send(client: FlaskClient, path: str, text: str) -> int:
    """Status of the answer, which has the one shape."""
    kind, data = "application/json", text.encode("utf-8", "surrogatepass")
    if path.startswith("/fhir"):
        kind = "application/fhir+json"
    if path.startswith("/dicom-web"):
        kind = 'multipart/related; type="application/dicom+json"; boundary=x'
        data = b"--x\r\nContent-Type: application/dicom+json\r\n\r\n" + data + b"\r\n--x--\r\n"
    answer = client.post(path, data=data, content_type=kind, headers={"Origin": "http://localhost"})
    assert answer.status_code < 500, (path, text[:200], answer.text)
    if answer.status_code >= 400 and not path.startswith(("/fhir", "/dicom-web")):
        assert set(answer.json["error"]) >= {"code", "message"}  # type: ignore[index]
    return answer.status_code


@pytest.mark.parametrize("path", [path for path in BODIES if not path.startswith("/dicom-web")])
def test_an_odd_value_in_each_place(client: FlaskClient, path: str) -> None:
    assert send(client, path, json.dumps(BODIES[path])) in (200, 201, 204)
    for place in places(BODIES[path]):
        for odd in ODD:
            assert send(client, path, json.dumps(changed(BODIES[path], place, odd))) < 500


@settings(max_examples=examples(100), deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_other_values_in_some_places(client: FlaskClient, data: st.DataObject) -> None:
    for path, body in BODIES.items():
        value = body
        for _ in range(data.draw(st.integers(1, 2))):
            value = changed(value, data.draw(st.sampled_from(places(value))), data.draw(VALUES))
        assert send(client, path, json.dumps(value)) < 500


HARDLY = [
    "",
    "{",
    "null",
    "[" * 100_000,
    '{"a":' * 100_000,
    "NaN",
    "1e999999",
    '"\\ud800"',
    '{"a": 1, "a": 2}',
    "\ufeff{}",
]


@pytest.mark.parametrize("path", BODIES)
def test_what_is_hardly_json(client: FlaskClient, path: str) -> None:
    for text in HARDLY:
        assert send(client, path, text) < 500
        assert send(client, path, "[" + text + "]") < 500
