"""The systemd units: one per role, hardened, and read by systemd itself where it is installed."""

from __future__ import annotations

import configparser
import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from radir_pacs.cli import main
from radir_pacs.cli.install_service import TARGET, units
from radir_pacs.config import Settings
from radir_pacs.errors import BadInput
from tests.services import ROOT, need

ROLES = ["listener", "web", "relay", "indexer", "transfer", "worker"]
SOCKETS = {"radir-listener.socket", "radir-web.socket"}
HARDENED = {
    "NoNewPrivileges": "true",
    "ProtectSystem": "strict",
    "PrivateTmp": "true",
    "CapabilityBoundingSet": "",
    "Restart": "always",
    "RestartPreventExitStatus": "78",
}


def made(**changes: object) -> dict[str, str]:
    settings = Settings(home=Path("/var/lib/radir"), database_url="postgresql://db/radir", **changes)  # type: ignore[arg-type]
    return units(settings, roles=(), user="radir", program="/bin/true")


def test_each_role_has_a_unit_and_the_target_wants_them_all() -> None:
    found = made(monitor_port=9470)
    assert list(found) == [*(f"radir-{role}.service" for role in ROLES), TARGET]
    wanted = configparser.ConfigParser(interpolation=None)
    wanted.read_string(found[TARGET])
    assert wanted["Unit"]["Wants"].split() == list(found)[:-1]
    for number, role in enumerate(ROLES):
        unit = configparser.ConfigParser(interpolation=None)
        unit.optionxform = str  # type: ignore[assignment, method-assign]
        unit.read_string(found[f"radir-{role}.service"])
        service = unit["Service"]
        assert service["ExecStart"] == f"/bin/true serve {role}"
        assert HARDENED.items() <= dict(service).items()
        assert service["ReadWritePaths"] == "/var/lib/radir" and service["User"] == "radir"
        assert int(service["TimeoutStopSec"]) > Settings.drain_s + 5, "the supervisor ends its processes first"
        assert f"RADIR_MONITOR_PORT={9470 + number}" in service["Environment"]
        assert "postgresql://" not in found[f"radir-{role}.service"], "a secret stays in the settings file"
    assert "radir-hl7.service" in made(hl7_port=2575)


def test_systemd_opens_the_ports_of_those_who_listen() -> None:
    settings = Settings(
        home=Path("/var/lib/radir"),
        database_url="x",
        listener_port=104,
        listener_host="0.0.0.0",
        listener_tls_port=2762,
        listener_tls_certificate="/etc/radir/own.pem",
        web_host="::1",
    )
    found = units(settings, roles=(), user="radir", program="/bin/true", sockets=True)
    opened = {name: text for name, text in found.items() if name.endswith(".socket")}
    assert list(opened) == ["radir-listener.socket", "radir-web.socket"]
    assert "ListenStream=0.0.0.0:104\nListenStream=0.0.0.0:2762\n" in opened["radir-listener.socket"]
    assert "ListenStream=[::1]:8042\n" in opened["radir-web.socket"]
    for role in ROLES:
        needs = f"Requires=radir-{role}.socket\n" in found[f"radir-{role}.service"]
        assert needs is (f"radir-{role}.socket" in opened), role
    assert set(opened) < set(found[TARGET].split("Wants=")[1].splitlines()[0].split())
    embedded = replace(settings, database_url="")
    together = units(embedded, roles=(), user="radir", program="/bin/true", sockets=True)["radir-all.socket"]
    assert together.count("ListenStream=") == 3
    assert not [name for name in made(hl7_port=2575) if name.endswith(".socket")], "only when asked for"
    with pytest.raises(BadInput, match=r"web_port.*localhost"):
        units(replace(settings, web_host="localhost"), roles=(), user="radir", program="/bin/true", sockets=True)


def test_sockets_of_an_earlier_call_go_and_what_others_made_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A service that opens its ports by itself would find them taken."""
    others = tmp_path / "radir-all.socket"
    others.write_text("[Socket]\nListenStream=80\n")
    words = ["install-service", "--folder", str(tmp_path), "--program", "/usr/bin/radir", "--database-url"]
    assert main([*words, "postgresql://db/radir", "--sockets"]) == 0
    assert {path.name for path in tmp_path.glob("*.socket")} == {"radir-all.socket", *SOCKETS}
    assert main([*words, "postgresql://db/radir", "--", "web"]) == 0
    assert {path.name for path in tmp_path.glob("*.socket")} == {"radir-all.socket", *SOCKETS - {"radir-web.socket"}}
    said = capsys.readouterr().out
    assert f"removed: {tmp_path / 'radir-web.socket'}\n" in said
    assert f"no longer started with radir.target: {tmp_path / 'radir-worker.service'}\n" in said
    assert str(others) not in said


def test_a_port_of_root_wants_a_socket(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["install-service", "--print", "--listener-port", "104"]
    assert main(words) == 0 and "port 104 is root's" in capsys.readouterr().err
    assert main([*words, "--sockets"]) == 0 and not capsys.readouterr().err


def test_with_the_embedded_database_there_is_one_unit(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["install-service", "--home", str(tmp_path), "--program", "/bin/true", "--print"]) == 0
    said = capsys.readouterr().out
    assert "# radir-all.service" in said and "serve all" in said and not any(tmp_path.iterdir())
    assert main(["install-service", "web", "--home", str(tmp_path), "--program", "/bin/true", "--print"]) == 1


def test_what_a_unit_file_would_read_otherwise_is_refused() -> None:
    settings = Settings(home=Path("/var/lib/radir"), database_url="x")
    for wrong in ({"user": "a b"}, {"program": "/bin/true\nExecStartPre=/bin/false"}, {"config_file": "/etc/a b"}):
        with pytest.raises(BadInput):
            units(settings, **({"roles": (), "user": "radir", "program": "/bin/true"} | wrong))  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="'nobody' is none of"):
        units(settings, roles=["nobody"], user="radir", program="/bin/true")


def test_systemd_reads_the_units_and_finds_them_confined(tmp_path: Path) -> None:
    need("systemd-analyze")
    settings = Settings(home=Path("/var/lib/radir"), database_url="x", hl7_port=2575)
    written = units(settings, roles=(), user="root", program="/bin/true", sockets=True)
    for name, text in written.items():
        (tmp_path / name).write_text(text)
    paths = [str(tmp_path / name) for name in written]
    done = subprocess.run(["systemd-analyze", "verify", *paths], capture_output=True, text=True, timeout=60)
    assert not [line for line in done.stderr.splitlines() if "radir" in line], done.stderr
    services = [path for path in paths if path.endswith(".service")]
    command = ["systemd-analyze", "security", "--offline=true", "--json=short", "--threshold=30"]
    for path in services:
        done = subprocess.run([*command, path], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, "more exposed than 3.0 of 10: " + done.stdout[:2000]
        assert json.loads(done.stdout)


def test_the_try_on_a_machine_of_its_own_asks_for_what_there_is() -> None:
    """It takes ten minutes and root, so it is read here: by bash, and its units and settings by us."""
    script = ROOT / "deploy" / "systemd" / "try"
    assert subprocess.run(["bash", "-n", str(script)], timeout=60).returncode == 0
    text = script.read_text()
    assert f"roles=({' '.join(ROLES)})" in text
    named = set(re.findall(r"^(?:plain=')?(\w+) = ", text, re.MULTILINE))
    assert named and named <= vars(Settings()).keys()
