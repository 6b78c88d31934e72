"""`radir serve`: roles by themselves, as a service manager meets them: started, probed, drained."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.sop_class import DigitalXRayImageStorageForPresentation  # type: ignore[attr-defined]

from radir_pacs.catalogue import Catalogue
from radir_pacs.cli import main
from radir_pacs.cli.roles import ALL, Role, processes_of, set_name
from radir_pacs.cli.state import is_held
from radir_pacs.cli.status import gather
from radir_pacs.config import Settings, to_environment
from radir_pacs.types import StudyState
from tests.conftest import free_port
from tests.dicom_files import radiograph
from tests.integration.listening import wait_for


@contextmanager
def served(settings: Settings, *roles: str, **changes: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The roles in processes of their own, and the address of their monitor."""
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RADIR_")}
    environment |= to_environment(settings) | {"RADIR_MONITOR_PORT": str(port), "RADIR_LOG_TO": "stderr"} | changes
    settings.home.mkdir(exist_ok=True)
    with (settings.home / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "radir_pacs.cli", "serve", *roles, "--machine", "one"],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process, f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)


def status_of(address: str) -> int:
    try:
        return requests.get(address, timeout=10).status_code
    except requests.ConnectionError:
        return 0


def associated(settings: Settings) -> Association:
    ae = AE()
    ae.acse_timeout = ae.connection_timeout = 10
    ae.add_requested_context(DigitalXRayImageStorageForPresentation)
    return ae.associate("127.0.0.1", settings.listener_port, ae_title=settings.ae_title)


def test_a_listener_and_a_relay_are_probed_counted_and_drained(settings: Settings, catalogue: Catalogue) -> None:
    first, second = radiograph(), radiograph()
    with served(settings, "listener", "relay") as (process, monitor):
        wait_for(lambda: status_of(f"{monitor}/health/ready") == 200, 60)
        assert status_of(f"{monitor}/health/live") == 200 and status_of(f"{monitor}/other") == 404
        shown = gather(settings)
        assert {p["name"]: p["state"] for p in shown["processes"]} == {"listener@one": "UP", "relay@one": "UP"}
        assert is_held(settings, "listener-relay@one") and not is_held(settings)

        association = associated(settings)
        assert association.send_c_store(first).Status == 0x0000
        figures = requests.get(f"{monitor}/metrics", timeout=10).text
        assert 'radir_instances_total{outcome="stored"} 1.0' in figures
        assert 'radir_associations_total{outcome="accepted"} 1.0' in figures
        assert 'radir_queue_oldest_seconds{queue="urgent"} 0.0' in figures
        assert 'radir_processes_up{role="listener"} 1.0' in figures
        assert str(first.PatientName) not in figures and first.StudyInstanceUID not in figures

        process.send_signal(signal.SIGTERM)
        wait_for(lambda: status_of(f"{monitor}/health/ready") == 503)
        rejected = associated(settings)
        assert rejected.is_rejected
        answer = rejected.acceptor.primitive
        assert answer is not None
        assert (answer.result, answer.result_source, answer.diagnostic) == (2, 3, 1), "PS3.8 table 9-21: congestion"
        assert association.send_c_store(second).Status == 0x0000, "what is open goes on"
        association.release()
        assert process.wait(30) == 0
    kept = [catalogue.studies.get(ds.StudyInstanceUID).state for ds in (first, second)]
    assert StudyState.QUARANTINED not in kept
    log = (settings.home / "serve.log").read_text()
    assert '"message": "study arrives"' in log and '"trace": "' in log, "children share our standard error"
    assert not (settings.home / "logs").exists()


def test_the_roles_have_the_secret_that_a_file_holds(settings: Settings, catalogue: Catalogue) -> None:
    """As in a container: the file is named to the supervisor, whose children inherit its environment."""
    settings.home.mkdir(exist_ok=True)
    secret = settings.home / "database_url"
    secret.write_text(f"{settings.database_url}\n")
    given = {"RADIR_DATABASE_URL": "", "RADIR_DATABASE_URL_FILE": str(secret)}
    with served(settings, "relay", **given) as (process, monitor):
        wait_for(lambda: status_of(f"{monitor}/health/ready") == 200, 60)
        assert [row.name for row in catalogue.processes.all()] == ["relay@one"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_an_association_that_never_ends_does_not_hold_up_the_end(settings: Settings, catalogue: Catalogue) -> None:
    with served(settings, "listener", RADIR_DRAIN_S="0.2") as (process, monitor):
        wait_for(lambda: status_of(f"{monitor}/health/ready") == 200, 60)
        association = associated(settings)
        assert association.is_established
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        wait_for(lambda: not association.is_established)


def test_a_role_alone_needs_a_database_that_others_reach(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "relay", "--home", str(tmp_path)]) == 78, "no restart will help"
    assert "database_url: needed" in capsys.readouterr().err
    (tmp_path / "radir.toml").write_text("database_url = 'postgresql://nowhere'")
    assert main(["serve", "relay", "--machine", "no name", "--home", str(tmp_path)]) == 78
    assert "--machine: 'no name'" in capsys.readouterr().err
    assert main(["serve", "hl7", "--home", str(tmp_path)]) == 78
    assert "hl7_port" in capsys.readouterr().err


def test_roles_have_names_of_their_own(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, worker_processes=2, hl7_port=2575)
    assert [name for name, _ in processes_of(settings, {Role.WORKER, Role.HL7}, "@b")] == [
        *("hl7@b", "worker@b", "worker-2@b")
    ]
    assert set_name({Role.WORKER, Role.LISTENER}) == "listener-worker" and set_name(ALL) == ""
    assert set_name({Role.WORKER}, "@gpu1") == "worker@gpu1" and set_name(ALL, "@gpu1") == ""
