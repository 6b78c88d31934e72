"""A study pulled by reference, from our own DICOMweb service in the role of the PACS and from some that misbehave."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests

from radir_pacs.callers import Role
from radir_pacs.catalogue import Catalogue
from radir_pacs.config import Settings
from radir_pacs.errors import LeaseLost, NotFound, PeerFailed, SettingError
from radir_pacs.intake import bounded_answer
from radir_pacs.intake.bounded_answer import AnswerBounds, Meter
from radir_pacs.intake.instances import Intake
from radir_pacs.intake.sources import Pacs, Sources
from radir_pacs.reasons import ReasonCode
from radir_pacs.scopes import Scope
from radir_pacs.storage.blobs import BlobStore
from radir_pacs.types import Job, JobKind, JobState, StudyState
from radir_workers.pull_study import PullStudy
from tests.catalogue_material import TESTER
from tests.conftest import free_port
from tests.dicom_files import radiograph
from tests.integration.conftest import Web, part10
from tests.integration.test_tokens import clear
from tests.services import need

MIB = 1 << 20
WIDE = AnswerBounds(most_bytes=64 * MIB, least_bytes_s=0, deadline_s=60)


class Here:
    """Our side: a blob folder of its own, beside the catalogue that the PACS does not use any more."""

    def __init__(self, catalogue: Catalogue, settings: Settings, home: Path) -> None:
        self.catalogue, self.blobs = catalogue, BlobStore(home / "blobs")
        self.intake = Intake(catalogue, self.blobs, settings)

    def job(self, study_uid: str) -> Job:
        claimed = self.catalogue.jobs.claim(self.catalogue.jobs.enqueue(JobKind.PULL, study_uid), "test")
        assert claimed is not None
        return claimed

    def fail_open_job(self, study_uid: str) -> None:
        """As the runner does when an attempt raises."""
        job = self.catalogue.jobs.get(self.catalogue.jobs.enqueue(JobKind.PULL, study_uid))
        assert job is not None
        self.catalogue.jobs.fail(job, "an attempt failed")

    def pull(self, url: str, study_uid: str, bounds: AnswerBounds = WIDE) -> Job:
        job, sources = self.job(study_uid), Sources(default=Pacs(url=url) if url else None)
        PullStudy(self.catalogue, self.blobs, self.intake, sources, bounds, most_instance_bytes=4 * MIB)(job)
        return job


@pytest.fixture
def here(catalogue: Catalogue, settings: Settings, tmp_path: Path) -> Here:
    return Here(catalogue, settings, tmp_path / "here")


def test_what_is_here_already_is_known_by_its_content_and_the_study_is_complete(here: Here, web: Web) -> None:
    ds = radiograph()
    web.store(ds)
    job = here.pull(web.base, ds.StudyInstanceUID)
    ended = here.catalogue.jobs.get(job.id)
    assert ended is not None and ended.state is JobState.DONE
    study = here.catalogue.studies.get(ds.StudyInstanceUID)
    assert (study.instance_count, study.state) == (1, StudyState.STABLE)
    assert here.catalogue.refusals.recent() == ()


def test_a_study_that_the_pacs_has_not_is_not_tried_again(here: Here, web: Web) -> None:
    with pytest.raises(NotFound):
        here.pull(web.base, "1.2.3")


def test_a_pacs_that_is_down_or_talks_nonsense_is_worth_another_attempt(here: Here, web: Web) -> None:
    with pytest.raises(PeerFailed, match="cannot be reached") as caught:
        here.pull(f"http://127.0.0.1:{free_port()}", "1.2.3")
    assert caught.value.reason_code is ReasonCode.PEER_UNREACHABLE
    with pytest.raises(PeerFailed, match="status 4") as caught:
        here.pull(web.base, "no-uid")
    assert caught.value.reason_code is ReasonCode.PEER_REFUSED


def test_without_a_pacs_nothing_can_be_pulled(here: Here, web: Web, serve: Callable[..., Web]) -> None:
    with pytest.raises(SettingError, match="pull_url"):
        here.pull("", "1.2.3")
    assert requests.post(web.base + "/studies/1.2.3/pull", timeout=30).status_code == 404
    other = serve(pull_url="http://127.0.0.1:9/dicom-web")
    answer = requests.post(other.base + "/studies/1.2.3/pull", timeout=30)
    assert answer.status_code == 202
    asked = here.catalogue.jobs.get(answer.json()["job"])
    assert asked is not None and (asked.kind, asked.key) == (JobKind.PULL, "1.2.3")
    for site, status in (("pull", 202), ("North", 404)):
        scope = Scope(sites=frozenset({site}))
        token = here.catalogue.access_tokens.create(site, Role.SERVICE, by=TESTER, scope=scope)
        headers = {"Authorization": f"Bearer {token}"}
        clear(other)
        assert requests.post(other.base + "/studies/1.2.4/pull", headers=headers, timeout=30).status_code == status


def test_a_study_is_pulled_from_the_pacs_of_its_site(here: Here, web: Web) -> None:
    """That of pull_url stands for a study that is not here yet."""
    ds, new = radiograph(), radiograph()
    web.store(ds)
    sites = here.catalogue.studies.get(ds.StudyInstanceUID).sites
    with (
        pacs(lambda send: send(part10(ds)), "application/dicom") as of_site,
        pacs(lambda send: send(part10(new)), "application/dicom") as of_others,
    ):
        sources = Sources(default=Pacs(url=of_others), by_site=((frozenset(sites), Pacs(url=of_site)),))
        pull = PullStudy(here.catalogue, here.blobs, here.intake, sources, WIDE, most_instance_bytes=4 * MIB)
        for uid in (ds.StudyInstanceUID, new.StudyInstanceUID):
            job = here.job(uid)
            pull(job)
            ended = here.catalogue.jobs.get(job.id)
            assert ended is not None and ended.state is JobState.DONE


def test_what_is_erased_meanwhile_does_not_come_back(here: Here) -> None:
    first, second = radiograph(StudyInstanceUID="1.2.1"), radiograph(StudyInstanceUID="1.2.1")

    def answer(send: Send) -> None:
        here.catalogue.erasures.erase("1.2.1", by=TESTER)  # and with it the job that is under way
        send(part10(second))

    with pacs(lambda send: send(part10(first)), "application/dicom") as url:
        here.pull(url, "1.2.1")
    with pacs(answer, "application/dicom") as url, pytest.raises(LeaseLost):
        here.pull(url, "1.2.1")
    assert list(here.catalogue.studies.uids()) == []


def test_a_pull_changes_no_site_that_is_known(here: Here, web: Web) -> None:
    first, second, new = (radiograph(StudyInstanceUID=study) for study in ("1.2.1", "1.2.1", "1.2.2"))
    web.store(first)
    with here.catalogue.studies._database.transaction() as connection:
        connection.execute("UPDATE study SET sites = '{North,South}'")
    for image, sites in ((second, ("North", "South")), (new, ("pull",))):
        with pacs(lambda send, image=image: send(part10(image)), "application/dicom") as url:  # type: ignore[misc]
            here.pull(url, image.StudyInstanceUID)
        assert here.catalogue.studies.get(image.StudyInstanceUID).sites == sites
    assert here.catalogue.studies.get("1.2.1").instance_count == 2


Send = Callable[[bytes], None]
MULTIPART = 'multipart/related; type="application/dicom"; boundary=b'
PART = b"--b\r\nContent-Type: application/dicom\r\n\r\n"


@contextmanager
def pacs(
    answer: Callable[[Send], None], kind: str = MULTIPART, length: int | None = None, certificate: Path | None = None
) -> Iterator[str]:
    """A PACS whose answer is what ``answer`` sends, until it ends or the other side has had enough; maybe by TLS."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            if length is not None:
                self.send_header("Content-Length", str(length))
            self.end_headers()
            with suppress(OSError):
                answer(self.send_at_once)

        def send_at_once(self, data: bytes) -> None:
            self.wfile.write(data)
            self.wfile.flush()

        def log_message(self, *arguments: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        if certificate is not None:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(certificate)
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http{'s' if certificate else ''}://127.0.0.1:{server.server_port}"
        server.shutdown()


def failing(here: Here, url: str, bounds: AnswerBounds) -> tuple[ReasonCode, float]:
    """How a pull ends, and after how many seconds."""
    began = time.monotonic()
    with pytest.raises(PeerFailed) as caught:
        here.pull(url, "1.2.3", bounds)
    assert here.catalogue.instances.sop_uids_of("1.2.3") == []
    assert not list(here.blobs.incoming_folder.iterdir()), "nothing half taken stays"
    return caught.value.reason_code, time.monotonic() - began


def endless(send: Send) -> None:
    send(PART)
    while True:
        send(bytes(MIB))


def endless_parts(send: Send) -> None:
    while True:
        send(PART + bytes(1000) + b"\r\n")


def trickle(send: Send) -> None:
    for byte in PART + bytes(10_000):
        send(bytes([byte]))
        time.sleep(0.05)


@pytest.mark.parametrize("answer", [endless, endless_parts], ids=["one instance", "many parts"])
def test_an_endless_answer_ends_at_the_bound_of_bytes(here: Here, answer: Callable[[Send], None]) -> None:
    with pacs(answer) as url:
        bounds = AnswerBounds(most_bytes=8 * MIB, least_bytes_s=0, deadline_s=60)
        assert failing(here, url, bounds)[0] is ReasonCode.PEER_TOO_LARGE


def test_a_byte_a_moment_ends_at_the_least_rate(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_answer, "RATE_WINDOW_S", 1.0)
    with pacs(trickle) as url:
        bounds = AnswerBounds(most_bytes=MIB, least_bytes_s=1024, deadline_s=60)
        reason, seconds = failing(here, url, bounds)
    assert reason is ReasonCode.PEER_TOO_SLOW and seconds < 20


def test_any_answer_ends_at_the_deadline(here: Here) -> None:
    with pacs(trickle) as url:
        bounds = AnswerBounds(most_bytes=MIB, least_bytes_s=0, deadline_s=1)
        reason, seconds = failing(here, url, bounds)
    assert reason is ReasonCode.PEER_TOO_SLOW and seconds < 20


def test_a_pacs_that_says_nothing_is_given_up(here: Here) -> None:
    """Its header arrives byte by byte, each byte in time."""
    with socket_server(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 10_000) as url:
        bounds = AnswerBounds(most_bytes=MIB, least_bytes_s=0, deadline_s=60, first_byte_s=1)
        reason, seconds = failing(here, url, bounds)
    assert reason is ReasonCode.PEER_NO_ANSWER and seconds < 20


@contextmanager
def socket_server(said: bytes) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with suppress(OSError):
                connection, _ = server.accept()
                with connection:
                    connection.recv(65536)
                    for byte in said:
                        connection.sendall(bytes([byte]))
                        time.sleep(0.05)

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize(
    ("answer", "kind", "length", "reason"),
    [
        (lambda send: send(PART + bytes(300)), MULTIPART, None, ReasonCode.PEER_BAD_ANSWER),
        (lambda send: send(PART + bytes(300)), MULTIPART, 5000, ReasonCode.PEER_NO_ANSWER),
        (lambda send: send(b"rubbish"), MULTIPART, None, ReasonCode.PEER_BAD_ANSWER),
        (lambda send: send(b"<html>"), "text/html", None, ReasonCode.PEER_BAD_ANSWER),
        (lambda send: send(b"{}"), "", None, ReasonCode.PEER_BAD_ANSWER),
        (lambda send: send(PART), "multipart/related", None, ReasonCode.PEER_BAD_ANSWER),
    ],
    ids=["breaks off", "shorter than said", "rubbish", "a page", "no type", "no boundary"],
)
def test_an_answer_that_is_none_is_tried_again(
    here: Here, answer: Callable[[Send], None], kind: str, length: int | None, reason: ReasonCode
) -> None:
    with pacs(answer, kind, length) as url:
        assert failing(here, url, WIDE)[0] is reason


def test_half_a_study_is_no_study(here: Here) -> None:
    """What came before the break is kept and found by the next attempt; the job does not succeed."""
    first, second = part10(radiograph(StudyInstanceUID="1.2.3")), part10(radiograph(StudyInstanceUID="1.2.3"))
    whole = PART + first + b"\r\n" + PART + second + b"\r\n--b--\r\n"
    with pacs(lambda send: send(whole[:-1000])) as url, pytest.raises(PeerFailed):
        here.pull(url, "1.2.3")
    assert len(here.catalogue.instances.sop_uids_of("1.2.3")) == 1
    assert here.catalogue.studies.get("1.2.3").state is StudyState.RECEIVING
    here.fail_open_job("1.2.3")
    with pacs(lambda send: send(whole)) as url:
        here.pull(url, "1.2.3")
    assert len(here.catalogue.instances.sop_uids_of("1.2.3")) == 2
    assert here.catalogue.studies.get("1.2.3").state is StudyState.STABLE


def test_what_is_refused_makes_the_pull_fail_and_stands_among_the_refusals(here: Here) -> None:
    good, other = part10(radiograph(StudyInstanceUID="1.2.3")), part10(radiograph(StudyInstanceUID="1.2.9"))
    large = good + bytes(5 * MIB)
    parts = [good, other, b"no DICOM", large]
    body = b"".join(PART + part + b"\r\n" for part in parts) + b"--b--\r\n"
    with pacs(lambda send: send(body)) as url:
        job = here.pull(url, "1.2.3")
    found = here.catalogue.jobs.progress(job.id)
    assert (found.state, found.reason_code) == (JobState.FAILED, ReasonCode.PEER_INCOMPLETE)
    assert found.message == "1 instance kept, 3 refused"
    assert len(here.catalogue.refusals.recent()) == 3
    assert here.catalogue.studies.get("1.2.3").state is StudyState.STABLE, "what came is encoded all the same"
    with pytest.raises(NotFound):
        here.catalogue.studies.get("1.2.9")


def test_one_instance_may_come_without_a_multipart_body(here: Here) -> None:
    ds = radiograph()
    with pacs(lambda send: send(part10(ds)), "application/dicom") as url:
        here.pull(url, ds.StudyInstanceUID)
    assert here.catalogue.instances.sop_uids_of(ds.StudyInstanceUID) == [ds.SOPInstanceUID]


def test_by_tls_it_is_the_same(here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate that is not trusted ends it; a byte a moment does, inside a TLS record too."""
    certificate = tmp_path / "certificate.pem"
    make = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=pacs"]
    make += [
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-keyout",
        str(certificate),
        "-out",
        str(tmp_path / "public.pem"),
    ]
    subprocess.run([need("openssl"), *make], check=True, capture_output=True)
    with certificate.open("a") as file:
        file.write((tmp_path / "public.pem").read_text())
    ds = radiograph()
    with pacs(lambda send: send(part10(ds)), "application/dicom", certificate=certificate) as url:
        with pytest.raises(PeerFailed) as caught:
            here.pull(url, ds.StudyInstanceUID)
        assert caught.value.reason_code is ReasonCode.PEER_UNREACHABLE
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "public.pem"))
        here.fail_open_job(ds.StudyInstanceUID)
        here.pull(url, ds.StudyInstanceUID)
    assert here.catalogue.instances.sop_uids_of(ds.StudyInstanceUID) == [ds.SOPInstanceUID]
    with pacs(trickle, certificate=certificate) as url:
        bounds = AnswerBounds(most_bytes=MIB, least_bytes_s=0, deadline_s=1)
        assert failing(here, url, bounds)[0] is ReasonCode.PEER_TOO_SLOW


def test_our_own_time_is_not_the_senders() -> None:
    """An instance that takes us a minute to store does not make the PACS count as slow."""
    now = [0.0]
    meter = Meter(AnswerBounds(most_bytes=MIB, least_bytes_s=1000, deadline_s=600), clock=lambda: now[0])
    meter.headers_came()
    for _ in range(3):
        meter.asks()
        now[0] += 1
        meter.came(2000)
        now[0] += 60
        assert meter.failure() is None
    meter.asks()
    now[0] += 14
    failure = meter.failure()
    assert failure is not None and failure.reason_code is ReasonCode.PEER_TOO_SLOW, "6 kB in 17 s of waiting"


def test_how_a_pull_goes_can_be_asked(here: Here, serve: Callable[..., Web]) -> None:
    web = serve(pull_url="http://127.0.0.1:9/dicom-web")
    asked = requests.post(web.base + "/studies/1.2.3/pull", timeout=30).json()
    url = web.root + asked["job_url"]
    assert requests.get(url, timeout=30).json()["state"] == "PENDING"
    job = here.catalogue.jobs.claim(asked["job"], "test")
    assert job is not None
    here.catalogue.jobs.fail(job, "the PACS took too long", retry=False, reason_code=ReasonCode.PEER_TOO_SLOW)
    told = requests.get(url, timeout=30).json()
    assert (told["state"], told["reason_code"], told["message"]) == (
        "FAILED",
        "PEER_TOO_SLOW",
        "the PACS took too long",
    )
    assert requests.get(url.replace("1.2.3", "1.2.4"), timeout=30).status_code == 404
    assert requests.get(web.root + "/api/studies/1.2.3/jobs/999", timeout=30).status_code == 404
    encode = here.catalogue.jobs.enqueue(JobKind.ENCODE, "1.2.3")
    assert requests.get(f"{web.root}/api/studies/1.2.3/jobs/{encode}", timeout=30).status_code == 404
    assert requests.get(web.root + "/api/studies/1.2.3/instances", timeout=30).json()["instances"] == []
