"""What an opened patient reaches: the study asked for, and others where they are surely of the same person."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from radir_pacs.callers import Caller, Role
from radir_pacs.dicom.header import read_header
from radir_pacs.errors import BadInput
from radir_pacs.scopes import Scope
from radir_pacs.types import Encoding
from tests.accounts_material import Browser, forget
from tests.catalogue_material import TESTER
from tests.dicom_files import radiograph
from tests.integration.conftest import Web, part10
from tests.integration.test_emergency import FOREIGN, REASON, ask, person, rows
from tests.integration.test_scopes import SOUTH, House, uids
from tests.integration.test_tokens import clear
from tests.integration.test_web_similar import MODEL, REGIONS, at_angle

WEST = "West"


@pytest.fixture
def house(serve: Callable[..., Web]) -> House:
    made = House(serve(emergency_access=True))
    made.tokens[WEST] = made.web.catalogue.access_tokens.create(
        "PACS West", Role.SERVICE, by=TESTER, scope=Scope(sites=frozenset({WEST}))
    )
    clear(made.web)
    return made


def add(house: House, number: int, site: str, patient: str | list[str], issuer: str = "") -> str:
    """A study that is alike to all others; returns its UID."""
    image = radiograph(
        StudyInstanceUID=f"1.2.{number}",
        Modality="DX",
        PatientID=patient,
        StudyDate="20240101",
        **({"IssuerOfPatientID": issuer} if issuer else {}),
    )
    assert house.store(image, house.tokens[site]).status_code == 200
    kept = Encoding(
        study_uid=image.StudyInstanceUID,
        series_uid=image.SeriesInstanceUID,
        sop_uid=image.SOPInstanceUID,
        model_id=MODEL,
        regions=REGIONS,
        vectors=np.stack([at_angle(1)] * len(REGIONS)),
    )
    assert house.web.catalogue.encodings.save(kept, 1)
    house.images.append(image)
    return f"1.2.{number}"


def reached(browser: Browser, studies: list[str]) -> set[str]:
    """Which of these studies are open; every way in says the same."""
    page = {uid for uid in studies if browser.see(f"/studies/{uid}").status_code == 200}
    search = set(uids(rows(browser, "/studies?limit=100"))) & set(studies)
    similar = set(uids(rows(browser, "/studies/1.2.0/similar?limit=50"))) & set(studies)
    wado = {
        uid
        for uid in studies
        if browser.get(f"{browser.root}/dicom-web/studies/{uid}/metadata", timeout=30).status_code == 200
    }
    assert page == search == similar == wado
    return page


def counted(browser: Browser) -> int:
    return sum(browser.get(browser.root + "/status", timeout=30).json()["studies"].values())


def test_an_id_without_issuer_is_of_one_site(house: House) -> None:
    own, foreign = add(house, 501, SOUTH, "P1"), add(house, 502, WEST, "P1")
    named = add(house, 503, WEST, "P1", "Issuer of West")
    browser = person(house)
    before = counted(browser)
    assert ask(browser).status_code == 303
    assert reached(browser, [FOREIGN, own, foreign, named]) == {FOREIGN, own}
    assert counted(browser) == before + 2
    with house.web.catalogue.withheld._database.transaction() as connection:
        connection.execute("UPDATE study SET sites = %s WHERE study_uid = %s", [[SOUTH, WEST], FOREIGN])
    forget(house.web)
    assert reached(browser, [FOREIGN, own, foreign]) == {FOREIGN}, "whose id it is, is not sure any more"


PLACEHOLDERS = ("UNKNOWN", "unbekannt", "ANONYMOUS", "0000", "999-99-9999", "xxx", "---", "?")


@pytest.mark.parametrize("issuer", ["", "Trust"])
def test_a_placeholder_opens_one_study_only(house: House, issuer: str) -> None:
    """A site gives one id to many of its own patients: the study that was asked for, and no other one."""
    studies = [
        (add(house, 600 + 2 * at, SOUTH, id_, issuer), add(house, 601 + 2 * at, SOUTH, id_, issuer))
        for at, id_ in enumerate(PLACEHOLDERS)
    ]
    browser = person(house)
    for asked, other in studies:
        assert ask(browser, asked).status_code == 303
        assert browser.see(f"/studies/{asked}").status_code == 200
        assert browser.see(f"/studies/{other}").status_code == 404
    asked, same = add(house, 650, SOUTH, "4711", issuer), add(house, 651, SOUTH, "4711", issuer)
    assert ask(browser, asked).status_code == 303
    assert reached(browser, [asked, same, *(uid for pair in studies for uid in pair)]) == {
        asked,
        same,
        *(uid for uid, _ in studies),
    }


def test_studies_of_two_birth_dates_are_of_two_people(house: House) -> None:
    asked, same, other = (add(house, number, SOUTH, "4711") for number in (660, 661, 662))
    with house.web.catalogue.withheld._database.transaction() as connection:
        for study, born in ((asked, "1950-01-01"), (other, "1951-01-01")):
            connection.execute("UPDATE study SET patient_birth_date = %s WHERE study_uid = %s", [born, study])
    browser = person(house)
    assert ask(browser, asked).status_code == 303
    assert reached(browser, [asked, same, other]) == {asked, same}, "one of them does not tell"


def test_an_id_with_its_issuer_is_the_same_everywhere(house: House) -> None:
    asked, same, other = (
        add(house, number, site, patient, "Trust")
        for number, site, patient in ((510, SOUTH, "X1"), (511, WEST, "X1"), (512, WEST, "Y1"))
    )
    browser = person(house)
    assert ask(browser, asked).status_code == 303
    assert reached(browser, [asked, same, other, FOREIGN]) == {asked, same}


def test_a_study_of_two_patients_opens_neither_of_them(house: House) -> None:
    local = add(house, 520, SOUTH, ["P1", "P3"])
    both, one, two = (
        add(house, number, SOUTH, patient, "Trust")
        for number, patient in ((521, ["X1", "Y1"]), (522, "X1"), (523, "Y1"))
    )
    browser = person(house)
    assert ask(browser, local).status_code == 303 and ask(browser, both).status_code == 303
    everything = [local, both, one, two, "1.2.1", "1.2.3"]
    assert reached(browser, everything) == {local, both}
    assert ask(browser, one).status_code == 303
    assert reached(browser, everything) == {local, both, one}
    add_link(house, "Trust\\Y1", "Trust\\X1")
    forget(house.web)
    assert reached(browser, everything) == {local, both, one, two}, "one person by now, as the hospital says"


def add_link(house: House, prior: str, key: str) -> None:
    """The hospital says that one became the other; their studies follow."""
    with house.web.catalogue.withheld._database.transaction() as connection:
        connection.execute("INSERT INTO patient_link (prior_key, key) VALUES (%s, %s)", [prior, key])
        connection.execute("UPDATE study SET patient_keys = keys_of_patient(patient_keys)")


def test_a_merged_patient_is_one_patient(house: House) -> None:
    asked, merged, other = (
        add(house, number, SOUTH, patient, "Trust") for number, patient in ((530, "X1"), (531, "Y1"), (532, "Z1"))
    )
    add_link(house, "Trust\\Y1", "Trust\\X1")
    browser = person(house)
    assert ask(browser, asked).status_code == 303
    assert reached(browser, [asked, merged, other]) == {asked, merged}
    add_link(house, "Trust\\Z1", "Trust\\X1")
    forget(house.web)
    assert reached(browser, [asked, merged, other]) == {asked, merged}, "what was merged since was not asked for"


def test_a_correction_opens_nobody_else(house: House, tmp_path: Path) -> None:
    asked, same, other = (
        add(house, number, SOUTH, patient, "Trust") for number, patient in ((540, "X1"), (541, "X1"), (542, "Z1"))
    )
    browser = person(house)
    assert ask(browser, asked).status_code == 303
    assert reached(browser, [asked, same, other]) == {asked, same}
    correct(house, house.images[-3], "Trust\\Z1", tmp_path / "image.dcm")
    forget(house.web)
    assert house.web.catalogue.studies.get(asked).patient_keys == ("Trust\\Z1",)
    assert reached(browser, [asked, same, other]) == {asked}


def correct(house: House, image: Any, key: str, path: Path) -> None:
    """The image is of another patient."""
    path.write_bytes(part10(image))
    before = read_header(path)
    after = replace(before, patient_key=key, patient_keys=(key,), patient_id=key.partition("\\")[2])
    house.web.catalogue.corrections.apply(
        after,
        before,
        changed=["PatientID"],
        replaces_sha256=house.web.catalogue.instances.get(before.sop_uid).content_sha256,
        content_sha256="e" * 64,
        size_bytes=1,
        source="TEST",
        site=SOUTH,
        reopens=False,
    )


def test_nobody_pages_through_the_archive(house: House) -> None:
    """What was ended counts as what is open: at most 20 begin within the time of one."""
    browser, catalogue = person(house, name="meyer"), house.web.catalogue
    by = Caller(name="meyer", role=Role.RADIOLOGIST)
    for _ in range(20):
        one = catalogue.emergencies.begin(FOREIGN, REASON, valid_s=3600, most=20, by=by)
        catalogue.emergencies.end(one.number, by=by)
    answer = ask(browser, "1.2.3")
    assert answer.status_code == 400 and "20" in answer.text
    assert ask(person(house, name="other"), "1.2.3").status_code == 303, "each account has its own"
    with catalogue.emergencies._database.transaction() as connection:
        connection.execute(
            "UPDATE emergency_access SET begun_at = now() - interval '61 min' WHERE id = %s", [one.number]
        )
    assert ask(browser, "1.2.3").status_code == 303
    assert ask(browser, "1.2.5").status_code == 400


def test_many_at_once_are_no_more(house: House) -> None:
    person(house)
    by = Caller(name="meyer", role=Role.RADIOLOGIST)
    ready = threading.Barrier(6)

    def begin(number: int) -> bool:
        ready.wait(30)
        try:
            house.web.catalogue.emergencies.begin(f"1.2.{number}", REASON, valid_s=3600, most=2, by=by)
        except BadInput:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(begin, (1, 3, 5, 7, 9, 11))) == 2
    assert len(house.web.catalogue.emergencies.all()) == 2
