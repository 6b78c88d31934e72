"""The plain pages: no script, every picture of our own."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest
import requests

from tests.dicom_files import radiograph
from tests.integration.conftest import Web
from tests.integration.test_web_similar import archive, uid


def page(web: Web, path: str) -> requests.Response:
    answer = requests.get(web.root + path, timeout=30)
    assert answer.status_code == 200, answer.text
    assert "Decision support, not diagnosis" in answer.text
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "script-src" not in policy
    assert not re.search(r"<script|\son\w+=|style=|javascript:", answer.text)
    return answer


@pytest.fixture(scope="module")
def hospital(shared_web: Web) -> Web:
    archive(shared_web)
    return shared_web


def test_the_start_page_says_where_things_are(hospital: Web) -> None:
    text = page(hospital, "/").text
    assert hospital.base in text
    assert requests.get(hospital.root + "/static/radir.css", timeout=30).headers["Content-Type"].startswith("text/css")


def test_the_answer_shows_the_query_and_its_hits(hospital: Web) -> None:
    text = page(hospital, f"/similar?study={uid(0)}&anatomy=left lung&limit=3").text
    pictures: list[Any] = re.findall(r'<img src="([^"]+)"', text)
    assert len(pictures) == 4
    for picture in pictures:
        answer = requests.get(hospital.root + html.unescape(picture), timeout=30)
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, "image/png")
    assert uid(1) in text and "left lung" in text
    assert "Name1" not in text and "P1<" not in text


def test_a_study_has_a_page_with_its_regions(hospital: Web) -> None:
    text = page(hospital, f"/studies/{uid(0)}").text
    assert "right lower lobe" in text


@pytest.mark.filterwarnings("ignore:Invalid value for VR CS")
def test_what_came_from_outside_is_escaped(web: Web) -> None:
    ds = radiograph(Modality="<B>X")
    web.store(ds)
    text = page(web, f"/studies/{ds.StudyInstanceUID}").text
    assert "<B>" not in text and "&lt;B&gt;X" in text


@pytest.mark.parametrize(
    ("path", "status"),
    [("/similar", 400), ("/similar?study=<b>", 400), ("/similar?study=1.2.99", 404), ("/studies/9.9", 404)],
)
def test_errors_of_pages_have_the_one_shape(hospital: Web, path: str, status: int) -> None:
    answer = requests.get(hospital.root + path, timeout=30)
    assert (answer.status_code, set(answer.json()["error"])) == (status, {"code", "message"})
