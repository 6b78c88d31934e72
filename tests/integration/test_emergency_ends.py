"""What ends an emergency access before its time: it does not come back, and the trail has its end once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from radir_pacs.access.bearers import Bearers
from radir_pacs.access.sessions import Sessions
from radir_pacs.callers import AuditEvent, Caller, Role
from radir_pacs.catalogue import AuditRow, Catalogue, SubjectOf
from radir_pacs.errors import StorageFailed
from tests.accounts_material import Browser, forget
from tests.catalogue_material import TESTER
from tests.integration.conftest import Web
from tests.integration.test_emergency import FOREIGN, REASON, ask, over, person
from tests.integration.test_scopes import House


@pytest.fixture
def house(serve: Callable[..., Web]) -> House:
    return House(serve(emergency_access=True))


def ended(catalogue: Catalogue) -> AuditRow:
    """The only event of an end, however late one looks."""
    assert catalogue.emergencies.end_due() == 0
    (event,) = catalogue.audit.events(event=AuditEvent.EMERGENCY_STOPPED)
    return event


def status_again(house: House, browser: Browser) -> int:
    """What the study answers to the person who signs in again."""
    forget(house.web)
    assert browser.sign_in().status_code == 303
    headers = {"Accept": "application/json"}
    return browser.get(f"{browser.root}/api/studies/{FOREIGN}", headers=headers, timeout=30).status_code


def disable(catalogue: Catalogue) -> None:
    catalogue.accounts.disable("meyer", by=TESTER)
    catalogue.accounts.enable("meyer", by=TESTER)


def demote(catalogue: Catalogue) -> None:
    held = catalogue.accounts.get("meyer").rights
    catalogue.accounts.set_rights("meyer", replace(held, role=Role.RESEARCHER), by=TESTER)
    catalogue.accounts.set_rights("meyer", held, by=TESTER)


@pytest.mark.parametrize("takes_away", [disable, demote])
def test_what_an_account_loses_does_not_come_back(house: House, takes_away: Callable[[Catalogue], None]) -> None:
    catalogue, browser = house.web.catalogue, person(house)
    assert ask(browser).status_code == 303
    takes_away(catalogue)
    assert status_again(house, browser) == 404
    event = ended(catalogue)
    assert (event.detail["why"], event.study_uid, event.patient_keys) == ("account", FOREIGN, ["\\P1"])
    assert (event.caller, event.role) == (TESTER.name, TESTER.role)
    disable(catalogue)
    assert ended(catalogue) == event
    over(catalogue)
    assert ended(catalogue) == event


def test_other_rights_of_the_same_role_end_nothing(house: House) -> None:
    catalogue, browser = house.web.catalogue, person(house)
    assert ask(browser).status_code == 303
    held = catalogue.accounts.get("meyer").rights
    catalogue.accounts.set_rights("meyer", replace(held, names=True), by=TESTER)
    catalogue.accounts.end_sessions("meyer", by=TESTER)
    assert status_again(house, browser) == 200
    assert catalogue.audit.events(event=AuditEvent.EMERGENCY_STOPPED) == ()


def test_a_removed_account_leaves_nothing_to_the_next_of_its_name(house: House) -> None:
    catalogue, browser = house.web.catalogue, person(house)
    assert ask(browser).status_code == 303
    (one,) = catalogue.emergencies.open_of("meyer")
    catalogue.accounts.remove("meyer", by=TESTER)
    assert ended(catalogue).detail["why"] == "account"
    other = person(house)
    assert other.see(f"/studies/{FOREIGN}").status_code == 404
    assert catalogue.emergencies.open_of("meyer") == ()
    assert other.submit(f"/emergency/{one.number}/end", "/emergency").status_code == 404


def test_whom_the_provider_names_no_more_reaches_nothing(house: House) -> None:
    catalogue, browser = house.web.catalogue, person(house)
    assert ask(browser).status_code == 303
    with catalogue.emergencies._database.transaction() as connection:
        connection.execute("UPDATE account SET issuer = 'https://p', subject = '1', password_hash = NULL")
    assert catalogue.accounts.end_sessions_of(SubjectOf(issuer="https://p", subject="1")) == "meyer"
    event = ended(catalogue)
    assert (event.caller, event.detail["why"]) == ("meyer", "account")


def test_erasure_takes_it_along(house: House) -> None:
    catalogue, browser = house.web.catalogue, person(house)
    assert ask(browser).status_code == 303 and ask(browser, "1.2.3").status_code == 303
    catalogue.erasures.erase("P1", by=TESTER)
    assert [one.study_uid for one in catalogue.emergencies.all()] == ["1.2.3"]
    assert catalogue.erasures.left("P1", [FOREIGN])["accesses in an emergency"] == 0
    event = ended(catalogue)
    assert (event.detail["why"], event.patient_keys, event.caller) == ("erased", ["\\P1"], TESTER.name)
    assert status_again(house, browser) == 404


def test_erasure_of_what_has_ended_tells_no_second_end(house: House) -> None:
    catalogue, browser = house.web.catalogue, person(house)
    assert ask(browser).status_code == 303
    over(catalogue)
    assert catalogue.emergencies.end_due() == 1
    catalogue.erasures.erase("P1", by=TESTER)
    assert catalogue.emergencies.all() == () and ended(catalogue).detail["why"] == "time"


def test_it_ends_on_time_while_the_database_is_away(house: House) -> None:
    """Rights of a session are believed for a minute then; what was opened for less is not."""
    catalogue, settings, now_s = house.web.catalogue, house.web.settings, 0.0
    person(house)
    for study, valid_s in ((FOREIGN, 30), ("1.2.3", 600)):
        by = Caller(name="meyer", role=Role.RADIOLOGIST)
        catalogue.emergencies.begin(study, REASON, valid_s=valid_s, most=20, by=by)
    bearers = Bearers(catalogue.access_tokens, settings)
    sessions = Sessions(catalogue.sign_ins, bearers, settings, clock_s=lambda: now_s)
    found = catalogue.accounts.to_sign_in("meyer")
    assert found is not None
    session = sessions.begin(found.id, found.password_hash, address="")

    def opened() -> frozenset[str]:
        held = sessions.of(session)
        assert held is not None
        return held.caller.scope.opened

    assert opened() == {FOREIGN, "1.2.3"}

    class Away:
        def session(self, _: str) -> None:
            raise StorageFailed("away")

    sessions._sign_ins = Away()  # type: ignore[assignment]
    now_s = 29.0
    assert opened() == {FOREIGN, "1.2.3"}
    now_s = 31.0
    assert opened() == frozenset(), "which of them ended is not known: none is open"
