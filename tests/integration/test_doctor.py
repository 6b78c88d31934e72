"""`radir doctor` on installations that are well, and on some that are not."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest import mock

import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from psycopg.conninfo import make_conninfo

from radir_pacs.backup.sealing import make_key
from radir_pacs.callers import Role
from radir_pacs.catalogue import Catalogue, Peer
from radir_pacs.cli import main
from radir_pacs.cli.diagnosis import Check, Level, doors, services
from radir_pacs.cli.diagnosis import machine as machine_checks
from radir_pacs.config import Settings, to_environment
from radir_pacs.delivery.destination import Destination
from radir_pacs.reasons import ReasonCode
from tests.catalogue_material import TESTER
from tests.conftest import free_port
from tests.integration.conftest import Web


def found(check: Check, settings: Settings) -> dict[str, Level]:
    return {finding.code: finding.level for finding in check(settings)}


def certificate(path: Path, days: int) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hl7.test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=400))
        .not_valid_after(now + timedelta(days=days, hours=1))
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    path.with_suffix(".key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return str(path)


def test_a_database_before_the_first_start_is_in_order(settings: Settings, database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    told = {one.code: one for one in services.database(settings)}
    assert told["SCHEMA"].level is Level.OK and "the first start makes" in told["SCHEMA"].what


def test_a_user_without_rights_in_the_database_is_told_so(settings: Settings, catalogue: Catalogue) -> None:
    assert settings.database_url
    user = f"guest_{free_port()}"
    with psycopg.connect(settings.database_url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {user} LOGIN".encode())
        try:
            guest = replace(settings, database_url=make_conninfo(settings.database_url, user=user))
            told = {one.code: one for one in services.database(guest)}
            assert told["DATABASE"].level is Level.ERROR and "its user may not do that" in told["DATABASE"].what
        finally:
            connection.execute(f"DROP ROLE {user}".encode())


def test_an_installation_that_is_well_has_no_error(
    settings: Settings, catalogue: Catalogue, capsys: pytest.CaptureFixture[str]
) -> None:
    catalogue.processes.say_alive("listener@one", 1, "UP", "")
    with mock.patch.dict(os.environ, to_environment(settings), clear=True):
        assert main(["doctor", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["errors"] == 0
    codes = {one["code"]: one["level"] for one in said["findings"]}
    expected = {
        "CODECS",
        "DEVICE",
        "DISK",
        "PORT_LISTENER",
        "PORT_WEB",
        "DATABASE",
        "CLOCK",
        "SCHEMA",
        "INDEX",
        "BROKER",
    }
    assert {code for code, level in codes.items() if level == "ok"} >= expected | {"PROCESSES"}
    assert all(one["advice"] for one in said["findings"] if one["level"] != "ok")


def test_an_error_is_the_exit_status(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    with mock.patch.dict(os.environ, to_environment(replace(settings, min_free_disk_mib=1 << 40)), clear=True):
        assert main(["doctor"]) == 1
    assert "DISK_FULL" in capsys.readouterr().out


def test_nothing_is_started_where_nothing_runs(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    assert found(services.database, settings) == {"NOT_RUNNING": Level.WARNING}
    assert not settings.home.exists()


def test_a_database_that_is_away_or_older(settings: Settings, database_url: str) -> None:
    away = replace(settings, database_url=f"postgresql://127.0.0.1:{free_port()}/radir")
    assert found(services.database, away) == {"DATABASE": Level.ERROR}
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("DELETE FROM schema_version WHERE version = (SELECT max(version) FROM schema_version)")
    assert found(services.database, settings)["SCHEMA"] is Level.WARNING
    with psycopg.connect(database_url, autocommit=True) as connection:
        (count,) = connection.execute("SELECT count(*) FROM schema_version WHERE version = 9999").fetchone() or (1,)
        connection.execute("INSERT INTO schema_version (version) VALUES (9999)")
    assert count == 0 and found(services.database, settings)["SCHEMA"] is Level.ERROR


def test_a_silent_process_and_a_generation_that_is_elsewhere(settings: Settings, catalogue: Catalogue) -> None:
    with mock.patch.object(services, "known_processes", lambda *_: [{"name": "worker@b", "state": "DOWN"}]):
        assert found(lambda _: services.processes(catalogue), settings) == {"PROCESS_SILENT": Level.WARNING}
    served = mock.Mock(published="00000001-aaaaaaaaaaaa", model_id="m", region="chest", engine="local")
    with mock.patch.object(catalogue.generations, "served", lambda: (served,)):
        assert found(lambda _: services.index(catalogue, settings), settings) == {"INDEX_MISSING": Level.WARNING}


@pytest.mark.parametrize(("ahead_s", "level"), [(0.3, Level.OK), (-5.0, Level.WARNING), (3600.0, Level.ERROR)])
def test_clocks_that_differ(ahead_s: float, level: Level) -> None:
    assert services.clock(ahead_s).level is level


@pytest.mark.parametrize(("days", "level"), [(200, Level.OK), (10, Level.WARNING), (-2, Level.ERROR)])
def test_certificates_that_expire(tmp_path: Path, days: int, level: Level) -> None:
    settings = Settings(home=tmp_path, hl7_tls_certificate=certificate(tmp_path / "hl7.pem", days))
    without_key = {"HL7_TLS_CERTIFICATE": level, "HL7_TLS_KEY": Level.ERROR}
    assert found(machine_checks.certificates, settings) == without_key


def test_a_key_fits_its_certificate(tmp_path: Path) -> None:
    own, other = certificate(tmp_path / "own.pem", 200), certificate(tmp_path / "other.pem", 200)
    settings = Settings(home=tmp_path, listener_tls_certificate=own)
    for named, level in ((own, Level.OK), (other, Level.ERROR)):
        key = replace(settings, listener_tls_key=str(Path(named).with_suffix(".key")))
        expected = {"LISTENER_TLS_CERTIFICATE": Level.OK, "LISTENER_TLS_KEY": level}
        assert found(machine_checks.certificates, key) == expected


def test_a_certificate_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "hl7.pem").write_text("none")
    settings = Settings(home=tmp_path, hl7_tls_certificate=str(tmp_path / "hl7.pem"))
    assert found(machine_checks.certificates, settings) == {"HL7_TLS_CERTIFICATE": Level.ERROR}


def test_a_port_that_another_program_has(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        settings = Settings(home=tmp_path, web_port=port, listener_port=free_port())
        assert found(machine_checks.ports, settings) == {"PORT_LISTENER": Level.OK, "PORT_WEB": Level.ERROR}
        settings = replace(
            settings, monitor_port=port, listener_plain=False, listener_tls_port=port, listener_tls_certificate="x"
        )
        assert found(machine_checks.ports, settings) == dict.fromkeys(
            ("PORT_LISTENER_TLS", "PORT_WEB", "PORT_MONITOR"), Level.ERROR
        )


def test_peers_are_asked_by_echo(settings: Settings, listen: Callable[..., Destination]) -> None:
    there = replace(settings, return_destination=str(listen()))
    assert found(services.peers, there) == {"PEER": Level.OK}
    nobody = replace(settings, commitment_destinations=(f"NOBODY@127.0.0.1:{free_port()}",))
    assert found(services.peers, nobody) == {"PEER": Level.ERROR}
    with Catalogue.open(settings) as catalogue:
        for port, level in (
            (Destination.parse(str(there.return_destination)).port, Level.OK),
            (free_port(), Level.ERROR),
        ):
            peer = Peer(ae_title="PEER", host="127.0.0.1", port=port)
            with mock.patch.object(catalogue.peers, "all", lambda peer=peer: (peer,)):
                assert found(lambda _: services.peers_of_table(catalogue, settings), settings) == {"PEER": level}


def test_a_peer_that_does_not_admit_us_is_not_told_to_be_started(
    settings: Settings, catalogue: Catalogue, listen: Callable[..., Destination]
) -> None:
    catalogue.peers.add(Peer(ae_title="CT1"), by=TESTER)
    there = listen()
    with mock.patch.object(catalogue.peers, "all", lambda: (Peer(ae_title="PEER", host=there.host, port=there.port),)):
        (told,) = services.peers_of_table(catalogue, settings)
    assert told.level is Level.ERROR and "does not admit the calling AE title RADIR" in told.what
    assert "radir peers add" in told.advice and "start the peer" not in told.advice


def test_rules_that_no_worker_could_read(settings: Settings) -> None:
    assert found(services.rules, settings) == {"RULES": Level.OK}
    assert found(services.rules, replace(settings, rules_file="/no/such.toml")) == {"RULES": Level.ERROR}


def test_a_key_of_backups_that_is_gone(settings: Settings, tmp_path: Path) -> None:
    assert found(services.backup_key, settings) == {}
    keyed = replace(settings, backup_key=str(tmp_path / "key"))
    assert found(services.backup_key, keyed) == {"BACKUP_KEY": Level.ERROR}
    make_key(tmp_path / "key")
    assert found(services.backup_key, keyed) == {"BACKUP_KEY": Level.OK}


def test_brokers(settings: Settings) -> None:
    assert found(services.broker, settings) == {"BROKER": Level.OK}
    for url in ("kafka://x", f"amqp://127.0.0.1:{free_port()}//"):
        assert found(services.broker, replace(settings, broker_url=url)) == {"BROKER": Level.ERROR}


def test_what_is_open_is_named(settings: Settings, catalogue: Catalogue) -> None:
    settings.home.mkdir(exist_ok=True)
    settings.home.chmod(0o755)
    assert found(doors.home_folder, settings) == {"HOME_OPEN": Level.WARNING}
    settings.home.chmod(0o700)
    assert found(doors.home_folder, settings) == {"HOME": Level.OK}
    both = replace(settings, listener_host="0.0.0.0", listener_tls_port=2762, listener_tls_certificate="radir.pem")
    assert found(doors.plain_dicom, both) == {"DICOM_PLAIN": Level.WARNING}
    assert found(doors.plain_dicom, replace(both, listener_plain=False)) == {} == found(doors.plain_dicom, settings)
    assert found(lambda _: doors.tokens(catalogue, settings), settings) == {"NO_TOKENS": Level.WARNING}
    catalogue.access_tokens.create("Dr. Meyer", Role.ADMINISTRATOR, by=TESTER)
    assert found(lambda _: doors.tokens(catalogue, settings), settings) == {"TOKENS": Level.OK}


def test_tokens_of_the_service_alone_are_no_alarm(
    settings: Settings, catalogue: Catalogue, serve: Callable[..., Web]
) -> None:
    """They stand in the variables of the service, as systemd or a container gives them, not in this shell's."""
    (silent,) = doors.tokens(catalogue, settings)
    assert silent.level is Level.WARNING and settings.web_url in silent.what and "does not answer" in silent.what
    guarded = serve(api_tokens=("of-the-service-alone",)).settings
    here = replace(settings, web_port=guarded.web_port)
    assert found(lambda _: doors.tokens(catalogue, here), here) == {"TOKENS": Level.OK}
    open_to_all = serve().settings
    (told,) = doors.tokens(catalogue, replace(settings, web_port=open_to_all.web_port))
    assert told.code == "NO_TOKENS" and "does not answer" not in told.what


def test_a_receiver_of_the_trail_that_is_away_is_named(settings: Settings, catalogue: Catalogue) -> None:
    named = replace(settings, audit_syslog="audit.example:6514")
    away = mock.Mock(waiting=1, oldest_s=7.0, failed=ReasonCode.PEER_UNREACHABLE)
    away.name = "syslog"
    with mock.patch.object(catalogue.audit_receivers, "all", lambda: (away,)):
        (told,) = services.audit_receivers(catalogue, named)
    assert told.what == "syslog at audit.example:6514: 1 event waits, the oldest for 7 s: PEER_UNREACHABLE"
    assert told.advice == "nobody answers there: start it, or correct audit_syslog"


def test_patients_open_in_an_emergency_are_counted(settings: Settings, catalogue: Catalogue) -> None:
    assert found(lambda _: doors.emergencies(catalogue, settings), settings) == {}
    allowed = replace(settings, emergency_access=True)
    assert found(lambda _: doors.emergencies(catalogue, allowed), allowed) == {"EMERGENCY_ACCESS": Level.OK}
    with mock.patch.object(catalogue.emergencies, "all", lambda: (mock.Mock(is_open=True), mock.Mock(is_open=False))):
        (told,) = doors.emergencies(catalogue, allowed)
    assert (told.code, told.level) == ("EMERGENCY_OPEN", Level.WARNING) and told.what.startswith("1 ")


def test_status_shows_a_receiver_that_is_well(
    settings: Settings, catalogue: Catalogue, capsys: pytest.CaptureFixture[str]
) -> None:
    catalogue.audit_receivers.keep(["syslog"])
    catalogue.processes.say_alive("relay@one", 1, "UP", "")
    with mock.patch.dict(os.environ, to_environment(settings), clear=True):
        main(["status"])
    assert "syslog: 0 events to send" in capsys.readouterr().out
