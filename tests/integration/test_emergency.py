"""A radiologist opens one patient out of scope, with a reason, for a while: what that reaches, and what it does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import requests

from radir_pacs.callers import AuditEvent, Role
from radir_pacs.catalogue import Catalogue
from radir_pacs.cli import main
from radir_pacs.config import Settings, to_environment
from radir_pacs.errors import NotFound
from radir_pacs.monitoring import ArchiveFigures
from radir_pacs.scopes import Scope, Withheld
from tests.accounts_material import Browser, add_account, forget
from tests.catalogue_material import TESTER
from tests.dicom_files import radiograph
from tests.integration.conftest import Web
from tests.integration.test_scopes import NORTH, SOUTH, House, uids
from tests.integration.test_tokens import bearing

REASON = "unconscious after a fall, earlier images needed"
MINE = Scope(sites=frozenset({NORTH}))
FOREIGN = "1.2.1"  # of the South, as is 1.2.3; 1.2.0 and 1.2.2 are of the North


@pytest.fixture
def house(serve: Callable[..., Web]) -> House:
    return House(serve(emergency_access=True))


def person(house: House, role: Role = Role.RADIOLOGIST, scope: Scope = MINE, name: str = "meyer") -> Browser:
    add_account(house.web.catalogue, name, role, scope=scope)
    forget(house.web)
    browser = Browser(house.web.root)
    assert browser.sign_in(name).status_code == 303
    return browser


def ask(browser: Browser, study: str = FOREIGN, reason: str = REASON) -> requests.Response:
    return browser.submit("/emergency", study=study, reason=reason)


def rows(browser: Browser, path: str) -> list[dict[str, Any]]:
    answer = browser.get(f"{browser.root}/dicom-web{path}", headers={"Accept": "application/dicom+json"}, timeout=30)
    assert answer.status_code in (200, 204), answer.text
    return answer.json() if answer.content else []


def test_one_patient_is_open_and_nobody_else(house: House) -> None:
    second = radiograph(StudyInstanceUID="1.2.501", Modality="DX", PatientID="P1", StudyDate="20240101")
    assert house.store(second, house.tokens[SOUTH]).status_code == 200
    browser = person(house)
    before = uids(rows(browser, "/studies?limit=100"))
    refused = browser.see(f"/studies/{FOREIGN}")
    assert refused.status_code == 404 and f"/emergency?study={FOREIGN}" in refused.text
    assert browser.get(browser.root + "/api/emergency", timeout=30).json() == {"may_ask": True}
    answer = ask(browser)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/emergency")
    assert f'href="/studies/{FOREIGN}"' in browser.see("/emergency").text
    assert browser.see(f"/studies/{FOREIGN}").status_code == 200
    assert set(uids(rows(browser, "/studies?limit=100"))) == {*before, FOREIGN, "1.2.501"}
    assert uids(rows(browser, "/studies?PatientName=Name1^X")) == [FOREIGN]
    assert len(rows(browser, f"/studies/{FOREIGN}/metadata")) == 1
    for foreign in ("1.2.3", "1.2.5"):
        assert browser.see(f"/studies/{foreign}").status_code == 404
    assert rows(browser, "/studies?PatientName=Name3^X") == []
    status = browser.get(browser.root + "/status", timeout=30).json()
    assert sum(status["studies"].values()) == len(before) + 2 and status["jobs"] == []


def test_the_search_obeys_the_scope_and_the_one_patient(house: House) -> None:
    """Ten asked are ten allowed: those of the scope, and the patient's own."""
    browser = person(house)
    scoped = uids(rows(browser, "/studies/1.2.0/similar?limit=10"))
    assert scoped == [f"1.2.{number}" for number in range(2, 22, 2)]
    assert ask(browser).status_code == 303
    assert uids(rows(browser, "/studies/1.2.0/similar?limit=10")) == [FOREIGN, *scoped[:9]]
    assert set(uids(rows(browser, f"/studies/{FOREIGN}/similar?limit=10"))) == {"1.2.0", *scoped[:9]}
    sieved = uids(rows(browser, "/studies/1.2.0/similar?limit=3&StudyDate=20240301-20241231"))
    assert FOREIGN not in sieved and len(sieved) == 3, "other filters hold for the opened patient too"


def test_it_is_recorded_and_listed(
    house: House, settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue = house.web.catalogue
    browser = person(house)
    assert ask(browser).status_code == 303
    (event,) = catalogue.audit.events(event=AuditEvent.EMERGENCY_STARTED)
    assert (event.caller, event.role, event.study_uid) == ("meyer", Role.RADIOLOGIST, FOREIGN)
    assert list(event.patient_keys) == ["\\P1"]
    assert event.detail["reason"] == REASON and event.address
    assert catalogue.audit.events(patient_id="P1", event=AuditEvent.EMERGENCY_STARTED)
    assert ask(browser).status_code == 303, "what is open needs no second event"
    assert len(catalogue.audit.events(event=AuditEvent.EMERGENCY_STARTED)) == 1
    (figure,) = [m for m in ArchiveFigures(catalogue).collect() if m.name == "radir_emergency_accesses"]
    assert [(sample.labels, sample.value) for sample in figure.samples] == [({}, 1.0)]
    for name, value in to_environment(settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("radir_pacs.cli.emergencies.must_run", lambda settings: None)
    assert main(["emergencies", "list", "--json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)
    assert (listed["caller"], listed["reason"], listed["is_open"]) == ("meyer", REASON, True)
    assert main(["emergencies", "list"]) == 0 and "meyer" in capsys.readouterr().out
    assert main(["emergencies", "end", str(listed["number"])]) == 0
    assert main(["emergencies", "end", str(listed["number"])]) == 1
    forget(house.web)
    assert browser.see(f"/studies/{FOREIGN}").status_code == 404
    (stopped,) = catalogue.audit.events(event=AuditEvent.EMERGENCY_STOPPED)
    assert stopped.role is Role.COMMAND and stopped.patient_keys == ["\\P1"]


def test_administrators_see_it_and_end_it(house: House) -> None:
    browser, administrator = person(house), person(house, Role.ADMINISTRATOR, Scope(), "roth")
    assert ask(browser).status_code == 303
    assert "within the last hour: 1" in administrator.see("/admin").text
    page = administrator.see("/admin/emergencies")
    assert page.status_code == 200 and REASON in page.text and "P1" in page.text
    (one,) = house.web.catalogue.emergencies.all()
    path = f"/admin/emergencies/{one.number}/end"
    assert administrator.submit(path, "/admin/emergencies").status_code == 303
    forget(house.web)
    assert browser.see(f"/studies/{FOREIGN}").status_code == 404
    assert browser.see("/admin/emergencies").status_code in (302, 403)


def test_it_ends_by_itself_and_the_trail_says_so_once(house: House) -> None:
    catalogue, browser = house.web.catalogue, person(house)
    assert ask(browser).status_code == 303
    (one,) = catalogue.emergencies.all()
    assert one.ends_at - one.begun_at == timedelta(seconds=house.web.settings.emergency_access_s)
    assert catalogue.emergencies.end_due() == 0
    over(catalogue)
    forget(house.web)
    assert browser.see(f"/studies/{FOREIGN}").status_code == 404
    assert catalogue.emergencies.end_due() == 1 and catalogue.emergencies.end_due() == 0
    (event,) = catalogue.audit.events(event=AuditEvent.EMERGENCY_STOPPED)
    assert (event.caller, event.detail["why"], event.patient_keys) == ("meyer", "time", ["\\P1"])
    with pytest.raises(NotFound):
        catalogue.emergencies.end(one.number, by=TESTER)
    catalogue.emergencies.prune(86_400)
    assert len(catalogue.emergencies.all()) == 1
    catalogue.emergencies.prune(0)
    assert catalogue.emergencies.all() == ()


def over(catalogue: Catalogue) -> None:
    """Its time has passed."""
    with catalogue.emergencies._database.transaction() as connection:
        connection.execute("UPDATE emergency_access SET begun_at = now() - interval '2 h', ends_at = now()")


def test_who_opened_it_may_end_it_and_no_other_reader(house: House) -> None:
    browser, other = person(house), person(house, name="other")
    assert ask(browser).status_code == 303
    (one,) = house.web.catalogue.emergencies.all()
    assert other.see(f"/studies/{FOREIGN}").status_code == 404
    assert other.submit(f"/emergency/{one.number}/end", "/emergency").status_code == 404
    page = browser.see("/emergency")
    assert page.status_code == 200 and FOREIGN in page.text
    assert browser.submit(f"/emergency/{one.number}/end", "/emergency").status_code == 303
    assert browser.see(f"/studies/{FOREIGN}").status_code == 404


def test_a_withheld_patient(house: House) -> None:
    browser = person(house, scope=Scope())
    assert browser.get(browser.root + "/api/emergency", timeout=30).json() == {"may_ask": False}
    house.web.catalogue.withheld.add("P2", Withheld.FROM_ALL, by=TESTER)
    house.web.catalogue.withheld.add("P4", Withheld.FROM_ALL, by=TESTER)
    forget(house.web)
    assert browser.see("/studies/1.2.2").status_code == 404
    assert ask(browser, "1.2.2").status_code == 303
    assert browser.see("/studies/1.2.2").status_code == 200 and browser.see("/studies/1.2.4").status_code == 404
    found = uids(rows(browser, "/studies/1.2.0/similar?limit=4"))
    assert found == ["1.2.1", "1.2.2", "1.2.3", "1.2.5"]


def test_nobody_else_is_offered_it(house: House) -> None:
    web = house.web
    reader = house.token(Role.RADIOLOGIST, MINE)
    researcher = person(house, Role.RESEARCHER, name="research")
    administrator = person(house, Role.ADMINISTRATOR, Scope(), "roth")
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    body = f"study={FOREIGN}&reason={REASON}"
    tokens = {reader: 404, house.token(Role.RESEARCHER, MINE): 403, house.tokens[NORTH]: 403, house.administrator: 403}
    for token, status in tokens.items():
        for method, path in (("GET", "/emergency"), ("POST", "/emergency"), ("POST", "/emergency/1/end")):
            answer = requests.request(method, web.root + path, data=body, headers=headers | bearing(token), timeout=30)
            assert answer.status_code == status, (method, path)
    offered = requests.get(web.root + "/api/emergency", headers=bearing(reader), timeout=30)
    assert offered.json() == {"may_ask": False}
    token_session = Browser(web.root)
    assert token_session.submit("/sign-in", token=reader).status_code == 303
    assert token_session.see("/emergency").status_code == 404, "a token may be shared"
    for browser in (researcher, administrator):
        assert browser.see("/emergency").status_code == 403
    opened = requests.post(
        web.root + "/sidebar/context",
        json={"StudyInstanceUID": "1.2.0", "reader": "meyer"},
        headers=bearing(house.tokens[NORTH]),
        timeout=30,
    ).json()
    link = requests.Session()
    assert link.get(opened["url"], timeout=30).status_code == 200
    assert link.get(web.root + "/emergency", timeout=30).status_code == 403, "a link names nobody who signed in"
    assert web.catalogue.emergencies.all() == ()


def test_whoever_may_not_ask_is_told_so_and_raises_no_alert(house: House) -> None:
    """The sidebar asks for every study that it does not find, whoever reads with it."""
    web = house.web
    answers = []
    for token in (house.token(Role.RADIOLOGIST, MINE), house.token(Role.RESEARCHER, MINE), house.tokens[NORTH]):
        answers.append(requests.get(web.root + "/api/emergency", headers=bearing(token), timeout=30))
    for role, scope in ((Role.RESEARCHER, MINE), (Role.ADMINISTRATOR, Scope())):
        browser = person(house, role, scope, name=role)
        answers.append(browser.get(web.root + "/api/emergency", timeout=30))
    opened = requests.post(
        web.root + "/sidebar/context",
        json={"StudyInstanceUID": "1.2.0", "reader": "meyer"},
        headers=bearing(house.tokens[NORTH]),
        timeout=30,
    ).json()
    signed_in = person(house)
    for link in (requests.Session(), signed_in):
        assert link.get(opened["url"], timeout=30).status_code == 200
        answers.append(link.get(web.root + "/api/emergency", headers={"X-Radir-Link": "1"}, timeout=30))
    assert [(answer.status_code, answer.text.strip()) for answer in answers] == [(200, '{"may_ask":false}')] * 7
    assert web.catalogue.audit.events(event=AuditEvent.REFUSED) == ()
    assert requests.get(web.root + "/api/emergency", timeout=30).status_code == 401


def test_without_the_setting_nothing_is_open(house: House, serve: Callable[..., Web]) -> None:
    browser = person(house)
    assert ask(browser).status_code == 303
    without = serve()
    other = Browser(without.root)
    other.sign_in()
    assert other.see(f"/studies/{FOREIGN}").status_code == 404, "what is open ends with the setting"
    assert other.see("/emergency").status_code == 404
    assert "/emergency" not in other.see(f"/studies/{FOREIGN}").text


def test_a_reason_is_needed_and_a_study_that_is_nowhere_tells_nothing(house: House) -> None:
    browser = person(house)
    for wrong in ("", "x", "short", "a\x07" * 10, "x" * 500):
        assert ask(browser, reason=wrong).status_code == 400, wrong
    assert ask(browser, study="../x").status_code == 400
    assert ask(browser, study="1.2.999").status_code == 404
    lured = browser.post(
        browser.root + "/emergency",
        {"study": FOREIGN, "reason": REASON},
        headers={"Origin": "https://evil.example"},
        timeout=30,
    )
    assert lured.status_code == 403
    alone = browser.post(browser.root + "/emergency", {"study": FOREIGN, "reason": REASON}, timeout=30)
    assert alone.status_code == 403, "without the secret of the form"
    assert house.web.catalogue.audit.events(event=AuditEvent.EMERGENCY_STARTED) == ()
    assert ask(browser, "1.2.0").status_code == 303, "in scope as it is"
    assert house.web.catalogue.emergencies.all() == ()
