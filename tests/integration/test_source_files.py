"""Pictures whose files are not kept here come from the source PACS: from a real Orthanc, and from some that mislead."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import psycopg
import pydicom
import pytest
import requests
from PIL import Image
from pydicom.dataset import Dataset

from radir_pacs.access import erasure
from radir_pacs.callers import Role
from radir_pacs.catalogue import Away, Catalogue, StoredInstance
from radir_pacs.intake import source_files
from radir_pacs.intake.bounded_answer import AnswerBounds, bounded_get
from radir_pacs.intake.retention import load_retention
from radir_pacs.intake.sources import Pacs, load_sources
from radir_pacs.scopes import Scope
from radir_pacs.storage.fetched import Fetched
from radir_pacs.types import JobKind
from radir_workers.evict_files import BY_RULE, EvictFiles
from tests.catalogue_material import TESTER, claimed
from tests.certificates import Authority
from tests.conftest import free_port
from tests.dicom_files import radiograph, save
from tests.integration.conftest import Web, part10
from tests.integration.orthanc import running_orthanc
from tests.integration.test_pull_study import pacs as tls_pacs
from tests.integration.test_tokens import clear
from tests.integration.test_web_similar import archive, uid

ENCODED = '[[rule]]\nname = "encoded"\nuntil_encoded = true\n'
BOUNDS = AnswerBounds(most_bytes=1 << 20, least_bytes_s=0, deadline_s=30.0)
DICOM = "application/dicom; transfer-syntax=*"


class FakePacs:
    """Answers every GET with ``answer``: status, content type, body; keeps what was asked for."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answer: tuple[int, str, bytes] = (404, "text/plain", b"")
        self.asked: list[str] = []
        self.headers: dict[str, str] = {}
        self.slow = threading.Event()  # set: the answer does not come until it is cleared

    def gives(self, ds: Dataset) -> None:
        self.answer = (200, "application/dicom", part10(ds))


@pytest.fixture
def pacs() -> Iterator[FakePacs]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            fake.asked.append(self.path)
            fake.headers = dict(self.headers.items())
            while fake.slow.is_set() and not ended.wait(0.05):
                pass
            status, kind, body = fake.answer
            with suppress(OSError):
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                if status == 302:
                    self.send_header("Location", fake.url + "/elsewhere")
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            return

    ended = threading.Event()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        fake = FakePacs(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield fake
        ended.set()
        server.shutdown()
        thread.join()


def ended(web: Web, study: str, reason: Away = Away.RETENTION) -> str:
    """The file of a study of one picture goes; returns its hash."""
    with psycopg.connect(web.settings.database_url) as connection:
        connection.execute("UPDATE study SET state = 'INDEXED'")
        connection.execute("UPDATE job SET state = 'DONE'")
    [found] = web.catalogue.disk.evictable([study], reason)
    [sha256] = web.catalogue.disk.evict(found, reason)
    web.blobs.path(sha256).unlink()
    return sha256


def at(ds: Dataset, what: str = "") -> str:
    return f"/studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}/instances/{ds.SOPInstanceUID}{what}"


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def code(answer: requests.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


@contextmanager
def with_retention(web: Web, text: str) -> Iterator[EvictFiles]:
    path = web.settings.home / "retention.toml"
    path.write_text(text)
    load_retention.cache_clear()
    yield EvictFiles(web.catalogue, web.blobs, load_sources(web.settings), web.settings, load_retention(str(path)))


def test_a_hit_is_shown_from_orthanc_when_its_pixels_are_gone(
    serve: Callable[..., Web], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Send, encode, let the rule end the pixels: the case is found, its pictures come from the PACS or say why not."""
    monkeypatch.setattr(source_files, "LEFT_ALONE_S", 0.0)
    with running_orthanc(tmp_path / "orthanc") as orthanc:
        web = serve(pull_url=orthanc.url + "/dicom-web", source_timeout_s=5.0)
        images = archive(web)
        web.catalogue.studies.complete_now(uid(1))
        for number, image in enumerate(images):
            orthanc.store(save(image, tmp_path / f"{number}.dcm"))
        with psycopg.connect(web.settings.database_url) as connection:
            connection.execute("UPDATE study SET state = 'INDEXED'")
            connection.execute("UPDATE job SET state = 'DONE'")
        hit = images[1]
        before = {what: web.get(at(hit, what)).content for what in ("/rendered", "/thumbnail")}
        frame = web.get(at(hit, "/frames/1"), "application/octet-stream").content
        files = [web.catalogue.instances.of_study(uid(number))[0].content_sha256 for number in range(7)]
        for sha256 in files:
            os.utime(web.blobs.path(sha256), (0, 0))
        with with_retention(web, ENCODED) as evict:
            evict(claimed(web.catalogue, JobKind.EVICT, BY_RULE))
        assert not any(web.blobs.path(sha256).exists() for sha256 in files)

        for what, was in before.items():
            answer = web.get(at(hit, what), headers={"Cache-Control": "no-cache"})
            assert (answer.status_code, answer.content) == (200, was), what
        assert web.get(at(hit, "/frames/1"), "application/octet-stream").content == frame
        whole = web.get(at(hit), DICOM)
        assert whole.status_code == 200
        came = pydicom.dcmread(BytesIO(whole.content))
        assert (came.SOPInstanceUID, came.PixelData) == (hit.SOPInstanceUID, hit.PixelData)
        [alone] = web.client.retrieve_study(uid(1))
        assert alone.SOPInstanceUID == hit.SOPInstanceUID
        lines = [json.loads(line) for line in similar(web).text.splitlines()]
        cases = [line for line in lines if "thumbnail" in line]
        assert [case["study"] for case in cases][:2] == [uid(1), uid(2)]
        for case in cases:
            answer = requests.get(web.root + case["thumbnail"], timeout=30)
            assert answer.status_code == 200
            assert Image.open(BytesIO(answer.content)).format == "JPEG"
        assert not any(web.blobs.path(sha256).exists() for sha256 in files), "nothing is stored again"
        assert not [one for one in web.catalogue.overview().jobs if one.kind is JobKind.PULL]
        fetched = web.settings.home / "fetched"
        assert sorted(path.name for path in fetched.iterdir()) == sorted(files[1:])

        web.catalogue.studies.get(uid(2))
        places = {place.name: place.found for place in erasure.erase(uid(2), web.catalogue, web.settings, by=TESTER)}
        assert places["images from the source PACS"] == 0
        assert not (fetched / files[2]).exists()
        assert web.get(at(images[2], "/rendered")).status_code == 404

    for path in fetched.iterdir():
        path.unlink()
    answer = web.get(at(images[3], "/rendered"))
    assert code(answer) == (503, "picture_away")
    assert "source PACS" in answer.json()["error"]["message"]
    lines = [json.loads(line) for line in similar(web).text.splitlines()]
    assert next(line["study"] for line in lines if "thumbnail" in line) == uid(1), "the case is still listed"


def similar(web: Web) -> requests.Response:
    answer = requests.get(f"{web.root}/api/studies/{uid(0)}/similar", timeout=30)
    assert answer.status_code == 200, answer.text
    return answer


@pytest.fixture
def image() -> Dataset:
    return radiograph(PatientID="P1", IssuerOfPatientID="A")


@pytest.fixture
def web_of(serve: Callable[..., Web], pacs: FakePacs, image: Dataset) -> Web:
    """A service whose one study is in the PACS alone."""
    web = serve(pull_url=pacs.url, pull_authorization="Bearer of-the-pacs", source_timeout_s=2.0)
    web.store(image)
    ended(web, image.StudyInstanceUID)
    return web


def test_the_very_instance_is_asked_for_and_kept_for_a_while(web_of: Web, pacs: FakePacs, image: Dataset) -> None:
    pacs.gives(image)
    for _ in range(2):
        assert web_of.get(at(image, "/rendered")).status_code == 200
    assert pacs.asked == [at(image)]
    assert pacs.headers["Authorization"] == "Bearer of-the-pacs"
    assert web_of.get(f"/studies/{image.StudyInstanceUID}/thumbnail").status_code == 200
    assert web_of.get(at(image, "/metadata")).status_code == 200
    assert len(pacs.asked) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"SOPInstanceUID": "1.2.9"},
        {"StudyInstanceUID": "1.2.9"},
        {"SeriesInstanceUID": "1.2.9"},
        {"PatientID": "P2"},
        {"PatientID": ""},
        {"IssuerOfPatientID": "B"},
        {"Rows": 16},
    ],
)
def test_what_is_not_the_instance_is_not_shown(
    change: dict[str, object], web_of: Web, pacs: FakePacs, image: Dataset
) -> None:
    other = radiograph(
        **{
            "PatientID": "P1",
            "IssuerOfPatientID": "A",
            "SOPInstanceUID": image.SOPInstanceUID,
            "StudyInstanceUID": image.StudyInstanceUID,
            "SeriesInstanceUID": image.SeriesInstanceUID,
        }
        | change
    )
    pacs.gives(other)
    assert code(web_of.get(at(image, "/rendered"))) == (503, "picture_away")
    assert list((web_of.settings.home / "fetched").iterdir()) == []


def test_an_issuer_that_the_pacs_does_not_tell_is_no_other_patient(web_of: Web, pacs: FakePacs, image: Dataset) -> None:
    del image.IssuerOfPatientID
    pacs.gives(image)
    assert web_of.get(at(image, "/rendered")).status_code == 200


def test_the_environment_neither_leads_elsewhere_nor_signs_in_as_another(
    pacs: FakePacs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A proxy, or a .netrc of the user whom the service runs as."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    there = Pacs(url=pacs.url, authorization="Bearer of-the-pacs")
    with bounded_get(f"{pacs.url}/x", there.headers("*/*"), BOUNDS) as answer:
        assert answer.status == 404, "as the PACS itself answers"
    assert (pacs.asked, pacs.headers["Authorization"]) == (["/x"], "Bearer of-the-pacs")


def test_a_redirect_is_not_followed(web_of: Web, pacs: FakePacs, image: Dataset) -> None:
    pacs.answer = (302, "text/plain", b"")
    assert code(web_of.get(at(image, "/rendered"))) == (503, "picture_away")
    assert pacs.asked == [at(image)]


@pytest.mark.parametrize(
    "answer",
    [
        (200, "text/html", b"<p>sign in"),
        (200, "application/dicom", b"no DICOM at all"),
        (200, "application/dicom", b""),
        (204, "text/plain", b""),
        (404, "text/plain", b""),
        (401, "text/plain", b""),
        (200, "multipart/related; boundary=b", b"--b\r\nContent-Type: application/dicom\r\n\r\nbroken"),
    ],
)
def test_an_answer_that_is_none_is_said(
    answer: tuple[int, str, bytes], web_of: Web, pacs: FakePacs, image: Dataset
) -> None:
    pacs.answer = answer
    assert code(web_of.get(at(image, "/rendered"))) == (503, "picture_away")
    pacs.gives(image)
    assert web_of.get(at(image, "/rendered")).status_code == 200, "it is asked again"


def test_a_picture_that_is_too_large_is_not_taken(serve: Callable[..., Web], pacs: FakePacs, image: Dataset) -> None:
    web = serve(pull_url=pacs.url, max_instance_mib=1)
    web.store(image)
    ended(web, image.StudyInstanceUID)
    image.add_new(0x00091010, "OB", bytes(2 << 20))
    pacs.gives(image)
    assert code(web.get(at(image, "/rendered"))) == (503, "picture_away")
    assert list((web.settings.home / "fetched").iterdir()) == []


def test_no_picture_is_fetched_onto_a_disk_that_is_full(
    serve: Callable[..., Web], pacs: FakePacs, image: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    web = serve(pull_url=pacs.url)
    web.store(image)
    ended(web, image.StudyInstanceUID)
    pacs.gives(image)
    usage = shutil.disk_usage(web.settings.home)
    with monkeypatch.context() as full:
        free = web.settings.min_free_disk_mib << 20
        full.setattr(shutil, "disk_usage", lambda of: usage._replace(free=free))
        assert code(web.get(at(image, "/rendered"))) == (503, "picture_away")
    assert pacs.asked == []
    full_after = [True, False]  # it fills up while the picture comes
    monkeypatch.setattr(source_files, "_LOOK_BYTES", 1)
    monkeypatch.setattr(Fetched, "has_room", lambda self: full_after.pop(0))
    assert code(web.get(at(image, "/rendered"))) == (503, "picture_away")
    assert (pacs.asked, list((web.settings.home / "fetched").iterdir())) == ([at(image)], [])


def test_a_pacs_that_is_silent_holds_up_one_reader_and_not_the_next(
    web_of: Web, pacs: FakePacs, image: Dataset
) -> None:
    pacs.gives(image)
    pacs.slow.set()
    began = time.monotonic()
    assert code(web_of.get(at(image, "/rendered"))) == (503, "picture_away")
    assert time.monotonic() - began < 10
    for _ in range(5):
        assert code(web_of.get(at(image, "/rendered"))) == (503, "picture_away")
    assert len(pacs.asked) == 1, "it is left alone for a while"


def test_a_slow_pacs_leaves_threads_for_what_needs_no_pacs(
    serve: Callable[..., Web], pacs: FakePacs, image: Dataset
) -> None:
    web = serve(pull_url=pacs.url, source_timeout_s=60.0, web_threads=4)
    web.store(image)
    ended(web, image.StudyInstanceUID)
    pacs.gives(image)
    pacs.slow.set()
    answers: list[int] = []
    asking = [
        threading.Thread(target=lambda: answers.append(web.get(at(image, "/rendered")).status_code)) for _ in range(4)
    ]
    for one in asking:
        one.start()
    wait_for(lambda: len(pacs.asked) == 2)
    began = time.monotonic()
    assert web.get(at(image, "/metadata")).status_code == 200
    assert time.monotonic() - began < 20
    assert len(pacs.asked) == 2, "half of the threads"
    pacs.slow.clear()
    for one in asking:
        one.join()
    assert 2 <= answers.count(200) == len(answers) - answers.count(503)


def test_whoever_may_not_see_a_study_has_nothing_fetched(web_of: Web, pacs: FakePacs, image: Dataset) -> None:
    pacs.gives(image)
    clear(web_of)
    scope = Scope(sites=frozenset({"elsewhere"}))
    token = web_of.catalogue.access_tokens.create("other", Role.RADIOLOGIST, by=TESTER, scope=scope)
    headers = {"Authorization": f"Bearer {token}"}
    for what in ("/rendered", "/thumbnail", "/frames/1", ""):
        assert web_of.get(at(image, what), headers=headers).status_code == 404
    assert pacs.asked == []


def test_a_whole_study_is_not_fetched_picture_by_picture(serve: Callable[..., Web], pacs: FakePacs) -> None:
    web = serve(pull_url=pacs.url)
    uids = {"StudyInstanceUID": "2.25.5", "SeriesInstanceUID": "2.25.5.9"}
    web.store(*(radiograph(**uids, SOPInstanceUID=f"2.25.5.{number}") for number in (1, 2)))
    with psycopg.connect(web.settings.database_url) as connection:
        connection.execute("UPDATE study SET state = 'INDEXED'")
        connection.execute("UPDATE job SET state = 'DONE'")
    [found] = web.catalogue.disk.evictable(["2.25.5"], Away.RETENTION)
    for sha256 in web.catalogue.disk.evict(found, Away.RETENTION):
        web.blobs.path(sha256).unlink()
    answer = web.get("/studies/2.25.5", "multipart/related; type=application/dicom; transfer-syntax=*")
    assert code(answer) == (503, "picture_away")
    assert "rule of retention" in answer.json()["error"]["message"]
    assert pacs.asked == []
    assert not [one for one in web.catalogue.overview().jobs if one.kind is JobKind.PULL]


def test_what_made_room_is_shown_from_the_pacs_and_pulled_only_where_it_is_not_to_be_had(
    serve: Callable[..., Web], pacs: FakePacs, image: Dataset
) -> None:
    web = serve(pull_url=pacs.url)
    web.store(image)
    ended(web, image.StudyInstanceUID, Away.ROOM)
    pacs.gives(image)
    assert web.get(at(image, "/rendered")).status_code == 200
    assert not [one for one in web.catalogue.overview().jobs if one.kind is JobKind.PULL]
    Fetched(web.settings.home, 1 << 30).drop([web.catalogue.instances.get(image.SOPInstanceUID).content_sha256])
    pacs.answer = (500, "text/plain", b"")
    assert code(web.get(at(image, "/frames/1"), "application/octet-stream")) == (503, "picture_away")
    assert [one.count for one in web.catalogue.overview().jobs if one.kind is JobKind.PULL] == [1]


@pytest.mark.parametrize("form", ["", "/rendered", "/frames/1", "/frames/1/rendered", "/bulkdata/7FE00010"])
def test_what_makes_room_while_it_is_sent_is_sent_whole(
    web_of: Web, pacs: FakePacs, image: Dataset, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pacs.gives(image)
    asked = web_of.get(at(image, form))
    assert asked.status_code == 200
    folder = web_of.settings.home / "fetched"
    file_of = source_files.SourceFiles.file_of

    def then_trimmed(self: source_files.SourceFiles, instance: StoredInstance) -> Path | None:
        path = file_of(self, instance)
        assert Fetched(web_of.settings.home, 0).drop([instance.content_sha256]) == 1
        return path

    monkeypatch.setattr(source_files.SourceFiles, "file_of", then_trimmed)
    answer = web_of.get(at(image, form))
    assert (answer.status_code, len(answer.content)) == (200, len(asked.content))
    wait_for(lambda: not list(folder.iterdir()))


def test_what_is_erased_while_it_comes_does_not_stay(
    web_of: Web, pacs: FakePacs, image: Dataset, catalogue: Catalogue
) -> None:
    pacs.gives(image)
    pacs.slow.set()
    answers: list[int] = []
    asking = threading.Thread(target=lambda: answers.append(web_of.get(at(image, "/rendered")).status_code))
    asking.start()
    wait_for(lambda: bool(pacs.asked))
    erasure.erase(image.StudyInstanceUID, catalogue, web_of.settings, by=TESTER)
    pacs.slow.clear()
    asking.join()
    assert answers == [404]
    assert list((web_of.settings.home / "fetched").iterdir()) == []


def test_a_pacs_whose_certificate_no_authority_signed_is_not_believed(
    serve: Callable[..., Web], image: Dataset, tmp_path: Path
) -> None:
    """One that the authority of its own setting signed is."""
    authority = Authority(tmp_path, "hospital")
    identity = authority.issue("pacs")
    both = tmp_path / "both.pem"
    both.write_bytes(identity.certificate.read_bytes() + identity.key.read_bytes())
    with tls_pacs(lambda send: send(part10(image)), "application/dicom", certificate=both) as url:
        web = serve(pull_url=url)
        web.store(image)
        ended(web, image.StudyInstanceUID)
        assert code(web.get(at(image, "/rendered"))) == (503, "picture_away")
        sources = tmp_path / "sources.toml"
        sources.write_text(f'[[source]]\nsites = ["stow"]\nurl = "{url}"\nca = "{authority.file}"\n')
        web = serve(sources_file=str(sources))
        assert web.get(at(image, "/rendered")).status_code == 200


def test_a_pacs_nobody_listens_at(serve: Callable[..., Web], image: Dataset) -> None:
    web = serve(pull_url=f"http://127.0.0.1:{free_port()}")
    web.store(image)
    ended(web, image.StudyInstanceUID)
    assert code(web.get(at(image, "/thumbnail"))) == (503, "picture_away")
