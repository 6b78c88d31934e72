"""The audit trail at its receivers: everything, in order, at least once, whatever they do."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from radir_pacs.audit_feed import AuditFeeds
from radir_pacs.audit_feed.feed import AuditFeed
from radir_pacs.audit_feed.fhir_feed import FhirReceiver
from radir_pacs.audit_feed.syslog import SyslogReceiver
from radir_pacs.callers import AuditEvent
from radir_pacs.catalogue import Catalogue
from radir_pacs.cli import main
from radir_pacs.config import Settings, to_environment
from radir_pacs.errors import BadInput, NotFound
from tests.audit_receivers import (
    READER,
    SOURCE,
    FhirServer,
    SyslogServer,
    closed_early,
    cut_after,
    failure,
    noted,
    number_in,
    waiting,
)
from tests.catalogue_material import TESTER
from tests.certificates import Authority
from tests.conftest import free_port
from tests.integration.listening import wait_for
from tests.services import need


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("audit-house"), "house")


@pytest.fixture
def server(house: Authority) -> Iterator[SyslogServer]:
    made = SyslogServer(house)
    yield made
    made.close()


@pytest.fixture
def feed(
    server: SyslogServer, house: Authority, catalogue: Catalogue, settings_of: Callable[..., Settings]
) -> AuditFeed:
    catalogue.audit_receivers.keep(["syslog"])
    settings = settings_of(audit_syslog=server.address, audit_ca=str(house.file))
    return AuditFeed(catalogue, SyslogReceiver(settings, SOURCE, deadline_s=5), "me", most=40)


@pytest.fixture
def settings_of(settings: Settings) -> Callable[..., Settings]:
    return lambda **changes: replace(settings, **changes)


def steps(feed: AuditFeed, catalogue: Catalogue, most: int = 100) -> None:
    """Until nothing waits."""
    for _ in range(most):
        feed.step()
        if not waiting(catalogue):
            return
    raise AssertionError("events still wait")


def test_everything_arrives_once_and_in_order(feed: AuditFeed, server: SyslogServer, catalogue: Catalogue) -> None:
    numbers = noted(catalogue, 100)
    steps(feed, catalogue)
    assert server.events == numbers
    assert server.connections == 3, "forty, forty, twenty"
    noted(catalogue, 5)
    steps(feed, catalogue)
    assert len(server.events) == 105 and server.events == sorted(set(server.events))


def test_what_is_not_sealed_waits(feed: AuditFeed, server: SyslogServer, catalogue: Catalogue) -> None:
    catalogue.audit.note(AuditEvent.STARTED, TESTER)
    feed.step()
    assert waiting(catalogue) == 1 and server.connections == 0


class Hour(threading.Event):
    """An hour of events that passes while the feed waits between its steps; what waits for it passes at once."""

    def __init__(self, catalogue: Catalogue) -> None:
        super().__init__()
        self._catalogue, self._noted = catalogue, 0
        self.passed_s, self.pauses = 0.0, [0.0]

    def wait(self, timeout: float | None = None) -> bool:
        """An event every ten seconds; True when the hour is over."""
        assert timeout is not None
        self.pauses.append(timeout)
        self.passed_s += timeout
        due = int(min(self.passed_s, 3600) / 10) - self._noted
        for _ in range(due):
            self._catalogue.audit.note(AuditEvent.OPENED, READER, f"2.25.{self._noted}")
            self._noted += 1
        self._catalogue.audit.seal()
        return self.passed_s >= 3600


def test_of_an_hour_without_its_receiver_nothing_is_lost_and_the_order_is_kept(
    house: Authority, catalogue: Catalogue, settings_of: Callable[..., Settings]
) -> None:
    port = free_port()
    catalogue.audit_receivers.keep(["syslog"])
    settings = settings_of(audit_syslog=f"localhost:{port}", audit_ca=str(house.file))
    noted(catalogue, 1)  # for which it is asked in vain from the beginning on
    hour = Hour(catalogue)
    feed = AuditFeed(catalogue, SyslogReceiver(settings, SOURCE), "me")
    thread = threading.Thread(target=feed.run, args=(hour,), daemon=True)
    thread.start()
    thread.join(60)
    assert hour.passed_s >= 3600 and not thread.is_alive()
    assert hour.pauses[1:6] == [1, 2, 4, 8, 16] and max(hour.pauses) == 60, "asked less and less often"
    numbers = noted(catalogue, 0)
    assert len(numbers) == waiting(catalogue) == 361 and failure(catalogue) == "PEER_UNREACHABLE"
    server = SyslogServer(house, port=port)
    try:
        after = AuditFeed(catalogue, SyslogReceiver(settings, SOURCE), "me")  # the relay was started anew meanwhile
        server.misbehave = [cut_after(200_000)]  # and the line breaks once while it catches up
        steps(after, catalogue)
        assert server.events == numbers and failure(catalogue) is None
        assert server.misbehave == [] and server.connections > 1, "the line was cut"
    finally:
        server.close()


@pytest.mark.parametrize("octets", [1, 700, 3000, 20_000])
def test_a_receiver_that_cuts_the_line_gets_it_again(
    feed: AuditFeed, server: SyslogServer, catalogue: Catalogue, octets: int
) -> None:
    numbers = noted(catalogue, 90)
    server.misbehave = [cut_after(octets)]
    feed.step()
    assert failure(catalogue) == "PEER_NO_ANSWER" and waiting(catalogue) == 90
    steps(feed, catalogue)
    assert server.events == numbers


def test_an_end_in_order_with_bytes_unread_is_no_receipt(
    feed: AuditFeed, server: SyslogServer, catalogue: Catalogue
) -> None:
    numbers = noted(catalogue, 40)
    server.misbehave = [closed_early]
    feed.step()
    assert waiting(catalogue) == 40
    steps(feed, catalogue)
    assert server.events == numbers


def test_a_receiver_that_hangs_is_given_up(
    server: SyslogServer, house: Authority, catalogue: Catalogue, settings_of: Callable[..., Settings]
) -> None:
    catalogue.audit_receivers.keep(["syslog"])
    settings = settings_of(audit_syslog=server.address, audit_ca=str(house.file))
    hasty = AuditFeed(catalogue, SyslogReceiver(settings, SOURCE, deadline_s=0.5), "me")
    numbers = noted(catalogue, 5)
    ended = threading.Event()

    def hang(line: ssl.SSLSocket) -> None:
        line.recv(65536)
        ended.wait(30)

    server.misbehave = [hang]
    hasty.step()
    ended.set()
    assert failure(catalogue) == "PEER_TOO_SLOW" and waiting(catalogue) == 5
    steps(AuditFeed(catalogue, SyslogReceiver(settings, SOURCE), "me"), catalogue)
    assert server.events == numbers


@pytest.mark.parametrize("fault", ["authority", "name"])
def test_a_receiver_with_a_wrong_certificate_gets_nothing(
    fault: str,
    house: Authority,
    catalogue: Catalogue,
    settings_of: Callable[..., Settings],
    tmp_path: Path,
) -> None:
    other = Authority(tmp_path, "other")
    server = SyslogServer(
        other if fault == "authority" else house, "localhost" if fault == "authority" else "elsewhere"
    )
    try:
        catalogue.audit_receivers.keep(["syslog"])
        settings = settings_of(audit_syslog=server.address, audit_ca=str(house.file))
        noted(catalogue, 3)
        AuditFeed(catalogue, SyslogReceiver(settings, SOURCE), "me").step()
        assert failure(catalogue) == "PEER_UNTRUSTED" and server.got == [] and waiting(catalogue) == 3
    finally:
        server.close()


def test_we_show_our_certificate_where_it_is_asked_for(
    house: Authority, catalogue: Catalogue, settings_of: Callable[..., Settings]
) -> None:
    server = SyslogServer(house, client_ca=house.file)
    try:
        catalogue.audit_receivers.keep(["syslog"])
        numbers = noted(catalogue, 3)
        without = settings_of(audit_syslog=server.address, audit_ca=str(house.file))
        AuditFeed(catalogue, SyslogReceiver(without, SOURCE, deadline_s=5), "me").step()
        assert waiting(catalogue) == 3 and failure(catalogue)
        own = house.issue("radir")
        settings = settings_of(
            audit_syslog=server.address,
            audit_ca=str(house.file),
            audit_certificate=str(own.certificate),
            audit_key=str(own.key),
        )
        steps(AuditFeed(catalogue, SyslogReceiver(settings, SOURCE), "me"), catalogue)
        assert server.events == numbers
        broken = settings_of(audit_syslog=server.address, audit_ca="/nowhere.pem")
        noted(catalogue, 1)
        AuditFeed(catalogue, SyslogReceiver(broken, SOURCE), "me").step()
        assert failure(catalogue) == "WRONG_SETTING"
    finally:
        server.close()


def test_two_relays_do_not_send_to_one_receiver_at_once(
    feed: AuditFeed, server: SyslogServer, catalogue: Catalogue
) -> None:
    noted(catalogue, 3)
    assert len(catalogue.audit_receivers.claim("syslog", "another", hold_s=60, most=10)) == 3
    feed.step()
    assert server.got == []
    (late,) = catalogue.audit_receivers.claim("syslog", "another", hold_s=0, most=1)
    steps(feed, catalogue)
    catalogue.audit_receivers.sent("syslog", "another", late)
    assert waiting(catalogue) == 0, "who lost its hold moves nothing back"


def test_nothing_that_was_not_sent_is_retired(
    feed: AuditFeed, server: SyslogServer, catalogue: Catalogue, tmp_path: Path
) -> None:
    noted(catalogue, 10)
    later = datetime.now(UTC) + timedelta(days=1)
    with (tmp_path / "trail.jsonl").open("wb") as file:
        with pytest.raises(BadInput, match="lacks these events"):
            catalogue.audit.retire(later, file, by=TESTER)
        steps(feed, catalogue)
        assert catalogue.audit.retire(later, file, by=TESTER) == 10
    assert catalogue.audit.verify().broken_at is None


def test_it_is_sent_again_on_demand(feed: AuditFeed, server: SyslogServer, catalogue: Catalogue) -> None:
    numbers = noted(catalogue, 30)
    steps(feed, catalogue)
    assert catalogue.audit_receivers.send_again(datetime.now(UTC) + timedelta(hours=1)) == ()
    assert catalogue.audit_receivers.send_again(datetime.now(UTC) - timedelta(hours=1)) == ("syslog",)
    steps(feed, catalogue)
    assert server.events == numbers * 2


def test_a_receiver_that_is_new_gets_what_follows_and_one_that_is_gone_holds_nothing_back(
    catalogue: Catalogue,
) -> None:
    noted(catalogue, 5)
    catalogue.audit_receivers.keep(["fhir"])
    assert waiting(catalogue, "fhir") == 0
    noted(catalogue, 2)
    catalogue.audit_receivers.keep(["fhir", "syslog"])
    assert (waiting(catalogue, "fhir"), waiting(catalogue)) == (2, 0)
    catalogue.audit_receivers.keep([])
    assert waiting(catalogue, "fhir") == 2, "a relay whose settings were not read loses nothing"
    for name in ("fhir", "syslog"):
        catalogue.audit_receivers.forget(name, TESTER)
    assert catalogue.audit_receivers.all() == ()
    with pytest.raises(NotFound):
        catalogue.audit_receivers.forget("fhir", TESTER)


# FHIR


@pytest.fixture
def fhir() -> Iterator[FhirServer]:
    made = FhirServer()
    yield made
    made.close()


@pytest.mark.parametrize(
    ("status", "code"), [(500, "PEER_BAD_ANSWER"), (422, "PEER_REFUSED"), (302, "PEER_BAD_ANSWER")]
)
def test_a_fhir_server_gets_each_event_in_order(
    fhir: FhirServer, catalogue: Catalogue, settings_of: Callable[..., Settings], status: int, code: str
) -> None:
    catalogue.audit_receivers.keep(["fhir"])
    settings = settings_of(audit_fhir=fhir.url, audit_fhir_authorization="Bearer secret")
    feed = AuditFeed(catalogue, FhirReceiver(settings, SOURCE), "me")
    numbers = noted(catalogue, 30)
    fhir.statuses = [201] * 10 + [status]
    feed.step()
    assert fhir.events == numbers[:10] and failure(catalogue) == code and waiting(catalogue, "fhir") == 20
    feed.step()
    assert fhir.events == numbers, "it went on where the server stopped"
    assert fhir.authorizations == {"Bearer secret"} and failure(catalogue) is None


def test_the_relay_sends_to_both_until_it_ends(
    fhir: FhirServer,
    server: SyslogServer,
    house: Authority,
    catalogue: Catalogue,
    settings_of: Callable[..., Settings],
) -> None:
    settings = settings_of(audit_fhir=fhir.url, audit_syslog=server.address, audit_ca=str(house.file))
    with AuditFeeds(catalogue, settings):
        numbers = noted(catalogue, 20)
        wait_for(lambda: fhir.events == numbers and server.events == numbers)
    noted(catalogue, 1)
    assert len(fhir.got) == len(server.got) == 20


def test_status_tells_how_far_it_is(
    catalogue: Catalogue,
    settings: Settings,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    catalogue.audit_receivers.keep(["syslog"])
    noted(catalogue, 4)
    for name, value in to_environment(settings).items():
        monkeypatch.setenv(name, value)
    main(["status", "--json"])
    (told,) = json.loads(capsys.readouterr().out)["audit_receivers"]
    assert (told["name"], told["waiting"], told["failed"]) == ("syslog", 4, None) and told["oldest_s"] > 0


# rsyslog


def test_rsyslog_takes_it_over_tls(
    house: Authority, catalogue: Catalogue, settings_of: Callable[..., Settings], tmp_path: Path
) -> None:
    """As hospitals run it: frames, header and message are what rsyslog makes of them."""
    program = shutil.which("rsyslogd", path="/usr/sbin") or need("rsyslogd")
    identity, port, out = house.issue("localhost"), free_port(), tmp_path / "out.log"
    config = tmp_path / "rsyslog.conf"
    config.write_text(f"""
global(workDirectory="{tmp_path}" maxMessageSize="64k" defaultNetstreamDriverCAFile="{house.file}"
  defaultNetstreamDriverCertFile="{identity.certificate}" defaultNetstreamDriverKeyFile="{identity.key}")
module(load="imtcp" streamDriver.name="ossl" streamDriver.mode="1" streamDriver.authMode="anon")
input(type="imtcp" port="{port}" address="127.0.0.1")
template(name="told" type="string" string="%syslogfacility-text% %syslogseverity-text% %app-name% %msgid% %msg%\\n")
action(type="omfile" file="{out}" template="told")
""")
    process = subprocess.Popen(
        [program, "-n", "-f", str(config), "-i", str(tmp_path / "pid")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        wait_for(lambda: listens(port) or process.poll() is not None, 20)
        assert process.poll() is None, process.stderr and process.stderr.read().decode()
        catalogue.audit_receivers.keep(["syslog"])
        settings = settings_of(audit_syslog=f"localhost:{port}", audit_ca=str(house.file))
        numbers = noted(catalogue, 300)
        steps(AuditFeed(catalogue, SyslogReceiver(settings, SOURCE), "me", most=100), catalogue, most=10)
        wait_for(lambda: out.exists() and len(out.read_bytes().splitlines()) == 300)
        lines = out.read_bytes().splitlines()
        assert all(line.startswith(b"authpriv notice RADIR DICOM+RFC3881 ") for line in lines)
        assert [number_in(b"\xef\xbb\xbf" + line[line.index(b"<AuditMessage") :]) for line in lines] == numbers
    finally:
        process.terminate()
        process.wait(10)


def listens(port: int) -> bool:
    with socket.socket() as plain:
        return plain.connect_ex(("127.0.0.1", port)) == 0
