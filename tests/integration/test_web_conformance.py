"""The restated conformance cases, and every call of dicomweb-client, against our service and beside Orthanc's."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any

import pydicom
import pytest
import requests
from dicomweb_client import DICOMwebClient
from pydicom.dataset import Dataset

from tests.dicom_files import radiograph
from tests.integration.conftest import Web
from tests.integration.dicomweb_cases import CASES, Check, Service, written
from tests.integration.orthanc import running_orthanc

STUDY, SERIES, INSTANCE = "1.2.77.1", "1.2.77.1.1", "1.2.77.1.1.1"
FRAMES = (STUDY, "1.2.77.1.2", "1.2.77.1.2.1")
ELE, RLE = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.5"
Call = Callable[[DICOMwebClient], Any]


@pytest.fixture(scope="module")
def service(shared_web: Web) -> Service:
    found = Service(root=shared_web.base, wado=shared_web.root + "/wado")
    found.store_material()
    return found


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running_orthanc(tmp_path_factory.mktemp("orthanc"), OverwriteInstances=True) as running:
        found = Service(root=running.url + "/dicom-web", wado=running.url + "/wado")
        found.store_material()
        yield found


@pytest.mark.parametrize("check", CASES.values(), ids=CASES.keys())
def test_case(service: Service, check: Check) -> None:
    check(service)


def _bulk(client: DICOMwebClient, **options: Any) -> list[bytes]:
    (header,) = client.retrieve_series_metadata(STUDY, SERIES)
    return list(client.retrieve_bulkdata(header["7FE00010"]["BulkDataURI"], **options))


def _file(**changes: Any) -> Dataset:
    return pydicom.dcmread(BytesIO(written(radiograph(**changes))))


def _stored(client: DICOMwebClient, **options: Any) -> bool:
    answer = client.store_instances([_file(StudyInstanceUID="1.2.77.5")], **options)
    with contextlib.suppress(requests.HTTPError):  # Orthanc deletes nothing by DICOMweb
        client.delete_study("1.2.77.5")
    return len(answer.ReferencedSOPSequence) == 1


def _deleted(client: DICOMwebClient, level: str) -> bool:
    ds = _file(StudyInstanceUID="1.2.77.6", SeriesInstanceUID="1.2.77.6.1")
    client.store_instances([ds])
    uids = ("1.2.77.6", "1.2.77.6.1", ds.SOPInstanceUID)
    getattr(client, f"delete_{level}")(*uids[: {"study": 1, "series": 2, "instance": 3}[level]])
    return client.search_for_studies(search_filters={"StudyInstanceUID": "1.2.77.6"}) == []


PNG, JPEG, OCTETS, DICOM = ("image/png",), ("image/jpeg",), "application/octet-stream", "application/dicom"
ALL = ((DICOM, "*"),)
CALLS: dict[str, Call] = {
    "studies": lambda c: len(c.search_for_studies()) >= 3,
    "studies, limit": lambda c: len(c.search_for_studies(limit=2)) == 2,
    "studies, offset": lambda c: len(c.search_for_studies(limit=1, offset=1)) == 1,
    "studies, all pages": lambda c: len(c.search_for_studies(limit=1, get_remaining=True)) >= 3,
    "studies, fuzzy": lambda c: c.search_for_studies(fuzzymatching=True, search_filters={"PatientName": "Müller"}),
    "studies, fields": lambda c: c.search_for_studies(fields=["PatientAge"]),
    "studies, filter": lambda c: len(c.search_for_studies(search_filters={"StudyInstanceUID": STUDY})) == 1,
    "studies, no match": lambda c: c.search_for_studies(search_filters={"PatientID": "nobody"}) == [],
    "series": lambda c: len(c.search_for_series()) >= 4,
    "series of a study": lambda c: len(c.search_for_series(STUDY)) == 2,
    "series, filter": lambda c: len(c.search_for_series(STUDY, search_filters={"Modality": "CT"})) == 1,
    "series, all pages": lambda c: len(c.search_for_series(STUDY, limit=1, get_remaining=True)) == 2,
    "series, fields": lambda c: c.search_for_series(STUDY, fields=["BodyPartExamined"]),
    "instances": lambda c: len(c.search_for_instances()) >= 4,
    "instances of a study": lambda c: len(c.search_for_instances(STUDY)) == 2,
    "instances of a series": lambda c: len(c.search_for_instances(STUDY, SERIES)) == 1,
    "instances, all pages": lambda c: len(c.search_for_instances(STUDY, limit=1, get_remaining=True)) == 2,
    "instances, fields": lambda c: "00180091" in c.search_for_instances(STUDY, SERIES, fields=["EchoTrainLength"])[0],
    "instances, filter": lambda c: c.search_for_instances(search_filters={"SOPInstanceUID": INSTANCE}),
    "study metadata": lambda c: len(c.retrieve_study_metadata(STUDY)) == 2,
    "series metadata": lambda c: len(c.retrieve_series_metadata(STUDY, SERIES)) == 1,
    "instance metadata": lambda c: c.retrieve_instance_metadata(STUDY, SERIES, INSTANCE)["0020000D"],
    "metadata as a data set": lambda c: Dataset.from_json(
        c.retrieve_instance_metadata(STUDY, SERIES, INSTANCE), lambda uri: uri.encode()
    ),
    "study": lambda c: len(c.retrieve_study(STUDY)) == 2,
    "study, as stored": lambda c: len(c.retrieve_study(STUDY, media_types=ALL)) == 2,
    "study, one at a time": lambda c: len(list(c.iter_study(STUDY))) == 2,
    "series's instances": lambda c: len(c.retrieve_series(STUDY, SERIES)) == 1,
    "series, as stored": lambda c: c.retrieve_series("1.2.77.2", "1.2.77.2.1", media_types=ALL),
    "series, one at a time": lambda c: len(list(c.iter_series(STUDY, SERIES))) == 1,
    "instance": lambda c: c.retrieve_instance(STUDY, SERIES, INSTANCE).SOPInstanceUID == INSTANCE,
    "instance, as stored": lambda c: c.retrieve_instance("1.2.77.2", "1.2.77.2.1", "1.2.77.2.1.1", media_types=ALL),
    "instance, by syntax": lambda c: c.retrieve_instance(STUDY, SERIES, INSTANCE, media_types=((DICOM, ELE),)),
    "frame": lambda c: len(c.retrieve_instance_frames(*FRAMES, [2])) == 1,
    "frames": lambda c: len(c.retrieve_instance_frames(*FRAMES, [1, 3])) == 2,
    "frames, octets": lambda c: len(c.retrieve_instance_frames(*FRAMES, [1], media_types=((OCTETS, ELE),))[0]) == 2048,
    "frames, one at a time": lambda c: len(list(c.iter_instance_frames(*FRAMES, [1, 2, 3]))) == 3,
    "frames, RLE": lambda c: c.retrieve_instance_frames(
        "1.2.77.2", "1.2.77.2.1", "1.2.77.2.1.1", [1], media_types=(("image/x-dicom-rle", RLE),)
    ),
    "rendered series": lambda c: c.retrieve_series_rendered(STUDY, SERIES, media_types=PNG),
    "rendered instance, PNG": lambda c: c.retrieve_instance_rendered(STUDY, SERIES, INSTANCE, media_types=PNG),
    "rendered instance, JPEG": lambda c: c.retrieve_instance_rendered(STUDY, SERIES, INSTANCE, media_types=JPEG),
    "rendered instance, small": lambda c: c.retrieve_instance_rendered(
        STUDY, SERIES, INSTANCE, media_types=PNG, params={"viewport": "16,16"}
    ),
    "rendered frame": lambda c: c.retrieve_instance_frames_rendered(*FRAMES, [1], media_types=JPEG),
    "rendered frame, window": lambda c: c.retrieve_instance_frames_rendered(
        *FRAMES, [1], media_types=PNG, params={"window": "512,1024,linear"}
    ),
    "bulk data": lambda c: len(_bulk(c)[0]) == 2048,
    "bulk data, octets": lambda c: len(_bulk(c, media_types=(OCTETS,))[0]) == 2048,
    "bulk data, one at a time": lambda c: list(
        c.iter_bulkdata(c.retrieve_instance_metadata(STUDY, SERIES, INSTANCE)["7FE00010"]["BulkDataURI"])
    ),
    "store": lambda c: _stored(c),
    "store into a study": lambda c: _stored(c, study_instance_uid="1.2.77.5"),
    "delete an instance": lambda c: _deleted(c, "instance"),
    "delete a series": lambda c: _deleted(c, "series"),
    "delete a study": lambda c: _deleted(c, "study"),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_call_of_dicomweb_client(service: Service, call: Call) -> None:
    assert call(DICOMwebClient(url=service.root))


def test_we_do_what_orthanc_does(service: Service, orthanc: Service) -> None:
    """Orthanc is what most clients were tried with: whatever it passes we pass. The table is printed with -s."""

    def passes(check: Callable[..., Any], *given: Any) -> bool:
        try:
            return check(*given) is not False
        except Exception:  # whatever goes wrong in a case or in the client's code is a case not passed
            return False

    theirs_by_client = DICOMwebClient(url=orthanc.root)
    theirs_by_client.set_http_retry_params(retry=False)  # it names bulk data at a port where nobody listens
    for name, kind, ours, theirs in (
        ("cases", CASES, service, orthanc),
        ("calls", CALLS, DICOMwebClient(url=service.root), theirs_by_client),
    ):
        checks: dict[str, Callable[..., Any]] = dict(kind)
        found = {each: (passes(check, ours), passes(check, theirs)) for each, check in checks.items()}
        passed = [sum(which) for which in zip(*found.values(), strict=True)]
        print(f"\n{name}: ours {passed[0]}, Orthanc {passed[1]}, of {len(found)}")
        print("not by Orthanc: " + ", ".join(each for each, (_, b) in found.items() if not b))
        assert [each for each, (a, b) in found.items() if b and not a] == []
