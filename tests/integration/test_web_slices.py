"""The slices that the sidebar scrolls through, from head to feet."""

from __future__ import annotations

import pytest
import requests
from pydicom.dataset import Dataset

from tests.dicom_files import radiograph
from tests.integration.conftest import Web

STUDY, SERIES = "2.25.77", "2.25.77.1"


def ct_slice(number: int) -> Dataset:
    """Slices of 5 mm; the first is the lowest."""
    return radiograph(
        Modality="CT",
        StudyInstanceUID=STUDY,
        SeriesInstanceUID=SERIES,
        SOPInstanceUID=f"{SERIES}.{number + 1}",
        InstanceNumber=number + 1,
        ImagePositionPatient=[0, 0, 5 * number],
        ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
    )


def url_of_slices(web: Web) -> str:
    return f"{web.root}/api/studies/{STUDY}/similar/slices"


def test_slices_come_from_head_to_feet_however_they_arrived(web: Web) -> None:
    series = [ct_slice(number) for number in (3, 0, 4, 1, 2)]
    web.store(*series)
    asked = {"series": SERIES, "region": "liver"}
    answer = requests.get(url_of_slices(web), params=asked, timeout=30).json()
    high_first = sorted(series, key=lambda ds: -float(ds.ImagePositionPatient[2]))
    assert answer["instances"] == [ds.SOPInstanceUID for ds in high_first]
    url = f"{web.root}{answer['base']}/{answer['instances'][4]}/rendered?{answer['rendering']}"
    picture = requests.get(url, timeout=30)
    assert (picture.status_code, picture.headers["Content-Type"]) == (200, "image/jpeg")
    assert answer["rendering"].endswith("window=40,400,linear")
    whole = requests.get(url_of_slices(web), params={"series": SERIES, "region": "chest"}, timeout=30).json()
    assert "window" not in whole["rendering"], "the whole chest has no window of its own"
    web.store(ct_slice(5))  # a late one, the highest of all
    late = requests.get(url_of_slices(web), params=asked, timeout=30).json()
    assert late["instances"] == [f"{SERIES}.6", *answer["instances"]]


@pytest.mark.parametrize(
    "query", ["", "series=x", "series=1.2.3&case=../etc", "series=1.2.3&region=nowhere", "series=1.2.3&case=1.2%0A3"]
)
def test_what_is_no_uid_or_region_is_refused(web: Web, query: str) -> None:
    answer = requests.get(f"{web.root}/api/studies/1.2.9/similar/slices?{query}", timeout=30)
    assert answer.status_code == 400, answer.text


def test_a_study_that_is_not_here_is_not_found(web: Web) -> None:
    assert requests.get(f"{web.root}/api/studies/1.2.9/similar/slices?series=1.2.3", timeout=30).status_code == 404


def test_radiographs_are_no_slices(web: Web) -> None:
    for number in (1, 2):
        web.store(radiograph(StudyInstanceUID=STUDY, SeriesInstanceUID=SERIES, SOPInstanceUID=f"{SERIES}.{number}"))
    answer = requests.get(url_of_slices(web), params={"series": SERIES}, timeout=30)
    assert answer.json()["instances"] == []
