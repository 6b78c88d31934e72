"""The plain pages: no script, every picture of our own."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import Any

import pytest
import requests

from tests.dicom_files import radiograph
from tests.integration.conftest import Web
from tests.integration.test_web_similar import archive, report_of, uid

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


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
    assert hospital.base not in page(hospital, "/").text, "addresses for programs have a page of their own"
    assert 'href="/developers"' in page(hospital, "/").text
    assert hospital.base in page(hospital, "/developers").text
    assert requests.get(hospital.root + "/static/radir.css", timeout=30).headers["Content-Type"].startswith("text/css")
    for icon in ("/favicon.ico", "/static/icon.svg"):
        assert requests.get(hospital.root + icon, timeout=30).headers["Content-Type"].startswith("image/svg+xml")


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


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/similar", 400, "not a UID"),
        ("/similar?study=<b>", 400, "not a UID"),
        ("/studies/9.9", 404, "<form"),
        ("/sidebar", 400, "not a UID"),
        ("/ohif/none/such", 404, "<form"),
        ("/?find=" + "9" * 201, 400, "accession number"),
    ],
)
def test_a_browser_gets_the_error_as_a_page(hospital: Web, path: str, status: int, said: str) -> None:
    answer = requests.get(hospital.root + path, headers={"Accept": BROWSER}, timeout=30)
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "text/html; charset=utf-8")
    assert 'role="alert"' in answer.text and said in answer.text and "<b>" not in answer.text


def test_a_mistyped_region_offers_the_nearest_as_links_and_the_form(hospital: Web) -> None:
    asked = f"/similar?study={uid(0)}&anatomy=left lowr lobe"
    text = requests.get(hospital.root + asked, headers={"Accept": BROWSER}, timeout=30).text
    first = html.unescape(re.findall(r'<a href="(/similar[^"]+)">left lower lobe', text)[0])
    assert "left lower lobe" in page(hospital, first).text
    assert 'name="anatomy" value="left lowr lobe"' in text


def test_a_region_that_resembles_none_leads_to_the_list(hospital: Web) -> None:
    asked = f"/similar?study={uid(0)}&anatomy=xyzzy"
    text = requests.get(hospital.root + asked, headers={"Accept": BROWSER}, timeout=30).text
    assert "radir regions" in text and f'<a href="/studies/{uid(0)}">' in text
    assert "Did you mean" not in text


@pytest.mark.parametrize("path", ["/api/typed?text=xyzzy", "/dicom-web/studies/9.9/similar", "/nowhere"])
def test_what_is_no_page_answers_json_to_a_browser_too(hospital: Web, path: str) -> None:
    answer = requests.get(hospital.root + path, headers={"Accept": BROWSER}, timeout=30)
    assert answer.headers["Content-Type"] == "application/json"


def test_every_page_of_a_study_leads_to_its_sidebar(hospital: Web) -> None:
    for path in ("/", f"/studies/{uid(0)}", f"/similar?StudyInstanceUID={uid(0)}"):
        links = re.findall(
            rf'href="(/sidebar\?StudyInstanceUID={re.escape(uid(0))}[&"][^"]*)"?', page(hospital, path).text
        )
        assert links, path


def test_where_the_sidebar_opens_by_tokens_alone_no_page_leads_to_it(serve: Callable[..., Web]) -> None:
    web = serve(sidebar_context_tokens=True)
    archive(web)
    for path in ("/", f"/studies/{uid(0)}", f"/similar?study={uid(0)}"):
        text = page(web, path).text
        assert "/sidebar" not in text and "/similar" in text


def test_the_start_page_tells_studies_apart(hospital: Web) -> None:
    text = page(hospital, "/").text
    assert "2026-01-01" in text and "36 y" in text and "CR" in text
    assert "ready to be asked about" in text


def test_the_start_page_names_patients_only_where_that_is_allowed(serve: Callable[..., Web]) -> None:
    web = serve()
    archive(web)
    assert "Name1" in page(web, "/").text
    text = page(serve(sidebar_shows=("age", "sex", "date", "report")), "/").text
    assert uid(1) in text and "Name1" not in text and "P1<" not in text


def test_a_sidebar_s_context_learns_no_names_from_the_start_page(serve: Callable[..., Web]) -> None:
    web = serve(api_tokens=("sixteen-letters!",), sidebar_context_tokens=True)
    archive(serve())
    opened = requests.post(
        web.root + "/sidebar/context",
        json={"StudyInstanceUID": uid(0)},
        headers={"Authorization": "Bearer sixteen-letters!"},
        timeout=30,
    ).json()
    with requests.Session() as session:
        assert session.get(opened["url"], timeout=30).status_code == 200
        assert "Name1" not in session.get(web.root + "/", timeout=30).text


@pytest.mark.parametrize(
    ("find", "numbers"), [("P3", (3,)), ("2024-01-01", (4,)), ("20250101", (5,)), ("ACC-1", (1,)), ("nobody", ())]
)
def test_a_study_is_found_by_patient_id_accession_number_or_date(
    hospital: Web, find: str, numbers: tuple[int, ...]
) -> None:
    text = page(hospital, f"/?find={find}").text
    assert set(re.findall(r'href="/studies/([0-9.]+)"', text)) == {uid(number) for number in numbers}


def test_another_region_is_asked_for_beside_the_answer(hospital: Web) -> None:
    text = page(hospital, f"/similar?study={uid(0)}&anatomy=left lung&PatientSex=M&limit=3").text
    assert '<option value="left_lung" selected>' in text
    assert '<input type="hidden" name="PatientSex" value="M">' in text
    own, others = text.split("<optgroup")[1:3]
    assert "known to the model" in own and "right_lung" in own and "right_lower_lobe" not in own
    assert "right_lower_lobe" in others and "gallbladder" not in others
    assert "outline: schematic, not measured" in text


def test_a_finding_typed_beside_the_region_lets_only_those_answer_that_affirm_it(hospital: Web) -> None:
    report_of(hospital, uid(4), "FINDINGS: Consolidation in the left lower lobe.")
    text = html.unescape(page(hospital, f"/similar?study={uid(0)}&anatomy=left lung consolidation").text)
    assert "Cases like this one: left lung" in text
    assert "'consolidation' was read as a finding: only cases" in text
    assert set(re.findall(r'href="/studies/([0-9.]+)"', text)) - {uid(0)} == {uid(4)}
