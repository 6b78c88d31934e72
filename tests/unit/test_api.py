"""The notebook's API on made-up vectors and answers; docs/how-to/notebook.md is run against a real service."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import radir_pacs.api as radir
from radir_pacs.delivery.dicom_json import PRIVATE_TAGS
from radir_pacs.errors import (
    BadInput,
    NotFound,
    NotReady,
    PeerFailed,
    RoleMayNot,
    SignInFailed,
    TooManyRequests,
    UnknownRegion,
)
from radir_pacs.reports import Polarity
from radir_pacs.types import Encoding

Answers = list[tuple[int, dict[str, str], Any]]


def encoding(study: str, model: str = "m", **vectors: tuple[float, float]) -> Encoding:
    rows = np.array(list(vectors.values()), np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return Encoding(
        study_uid=study, series_uid="1.1", sop_uid="1.2", model_id=model, regions=tuple(vectors), vectors=rows
    )


def test_studies_are_ranked_exactly_at_a_region_in_words() -> None:
    query = encoding("1", chest=(1, 0), heart=(1, 0))
    others = [encoding("2", chest=(1, 0), heart=(0, 1)), encoding("3", chest=(0, 1), heart=(1, 1)), query]
    found = radir.rank(query, others, region="heart")
    assert [(one.study_uid, round(one.score, 3), one.region) for one in found] == [
        ("3", 0.707, "heart"),
        ("2", 0.0, "heart"),
    ]
    assert [one.study_uid for one in radir.rank(query, others, limit=1)] == ["2"], "the whole chest by default"


def test_the_region_around_answers_where_one_cannot_be_seen() -> None:
    query = encoding("1", chest=(1, 0))
    [found] = radir.rank(query, [encoding("2", chest=(1, 0), heart=(0, 1))], region="heart")
    assert found.region not in ("heart",) and found.score == pytest.approx(1)
    assert radir.rank(query, [query]) == []


def test_what_cannot_be_compared_is_refused() -> None:
    query = encoding("1", chest=(1, 0))
    with pytest.raises(BadInput, match="different models"):
        radir.rank(query, [encoding("2", "other", chest=(1, 0))])
    with pytest.raises(UnknownRegion):
        radir.rank(query, [], region="left lowr lobe")
    with pytest.raises(BadInput, match="kind of image"):
        radir.load_bundle(kind="mri")


def test_a_text_is_mined() -> None:
    effusion, consolidation = radir.mine("No effusion. Consolidation in the left lower lobe.", kind="cxr").findings
    assert effusion.polarity is Polarity.ABSENT and consolidation.regions == ("left_lower_lobe",)


@contextmanager
def answering(answers: Answers) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    asked: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers.get("Authorization", "")))
            status, headers, body = answers.pop(0)
            content = b"" if body is None else json.dumps(body).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def row(study: str, rank: int) -> dict[str, Any]:
    values: dict[str, Any] = {"rank": rank, "score": 0.5, "region_answered_key": "heart", "model_id": "m"}
    return {"0020000D": {"vr": "UI", "Value": [study]}} | {
        PRIVATE_TAGS[name]: {"Value": [value]} for name, value in values.items()
    }


def error(message: str) -> dict[str, Any]:
    return {"error": {"code": "x", "message": message}}


def test_a_service_is_asked_and_waited_for() -> None:
    warning = {"Warning": '299 http://127.0.0.1 "a \\"region\\" around it answered", 299 x "few cases"'}
    answers: Answers = [(503, {}, error("still being encoded")), (200, warning, [row("1.2", 1)]), (204, {}, None)]
    with answering(answers) as (url, asked):
        service = radir.Service(url + "/", token="t" * 16)
        found = service.similar("1.9", region="right lower lobe", limit=3, wait_s=30, PatientSex="F")
        assert service.similar("1.9").cases == ()
    [case] = found.cases
    assert (case.study_uid, case.rank, case.score, case.region, found.model_id) == ("1.2", 1, 0.5, "heart", "m")
    assert found.warnings == ('a "region" around it answered', "few cases")
    path, token = asked[0]
    assert path == "/dicom-web/studies/1.9/similar?anatomy=right+lower+lobe&limit=3&PatientSex=F"
    assert token == "Bearer " + "t" * 16


def test_a_service_is_asked_in_words_and_its_own_form_of_warnings_is_read() -> None:
    warning = {"Warning": "299 http://x/dicom-web: by the words 'a, b', as asked, 299 http://x/dicom-web: few cases"}
    with answering([(200, warning, [row("1.2", 1)])]) as (url, asked):
        found = radir.Service(url).similar("1.9", words="outer third of the left lung", words_of="region")
    assert found.warnings == ("by the words 'a, b', as asked", "few cases")
    assert asked[0][0] == ("/dicom-web/studies/1.9/similar?words=outer+third+of+the+left+lung&wordsof=region&limit=10")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *((400, BadInput), (401, SignInFailed), (403, RoleMayNot), (404, NotFound), (429, TooManyRequests)),
        *((500, PeerFailed), (503, NotReady)),
    ],
)
def test_a_refusal_says_what_the_service_said(status: int, kind: type[Exception]) -> None:
    with answering([(status, {}, error("because"))]) as (url, _), pytest.raises(kind, match="because"):
        radir.Service(url).similar("1.9")


def test_it_is_said_when_to_ask_again() -> None:
    refusals: Answers = [(429, {"Retry-After": "7"}, error("later")), (429, {"Retry-After": "x"}, error("later"))]
    with answering(refusals) as (url, _):
        for wait_s in (7, 1):
            with pytest.raises(TooManyRequests) as caught:
                radir.Service(url).studies()
            assert caught.value.wait_s == wait_s


def test_a_password_for_the_machine_does_not_replace_the_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with answering([(204, {}, None), (204, {}, None)]) as (url, asked):
        radir.Service(url, token="t" * 16).studies()
        radir.Service(url).studies()
    assert [sent for _, sent in asked] == ["Bearer " + "t" * 16, ""]


def test_a_service_that_is_not_there_is_said_to_be_so() -> None:
    with pytest.raises(PeerFailed, match="does not answer"):
        radir.Service("http://127.0.0.1:9", timeout_s=1).studies()
