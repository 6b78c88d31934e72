"""Recipes of images and compose files: linted, read by Compose itself, and of files and settings that exist."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped,unused-ignore]

from radir_pacs.cli import parser
from radir_pacs.config import Settings
from tests.services import IN_CI, ROOT

FOLDER = ROOT / "deploy" / "containers"
RECIPES = ("Dockerfile", "Dockerfile.orthanc")
COMPOSED = {
    "all in one": ["compose.yaml"],
    "with Orthanc": ["compose.yaml", "compose.orthanc.yaml"],
    "engines": ["compose.engines.yaml"],
}
SECRETS = ("ORTHANC_PASSWORD", "POSTGRES_PASSWORD", "RABBITMQ_PASSWORD", "RADIR_TOKEN")


def installed(program: str) -> str:
    """A program that a package of PyPI brings, beside this Python."""
    path = shutil.which(program, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if path is None:
        (pytest.fail if IN_CI else pytest.skip)(f"{program} is not installed")
    return path


def instructions(recipe: str) -> list[tuple[str, str]]:
    text = re.sub(r"\\\n", " ", (FOLDER / recipe).read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


def composed(names: list[str], environ: dict[str, str] | None = None) -> dict[str, Any]:
    files = [word for name in names for word in ("--file", name)]
    given = dict.fromkeys(SECRETS, "x" * 20) | {"RADIR_BLOB_STORE": "s3://bucket/blobs"} if environ is None else environ
    done = subprocess.run(
        [installed("docker-compose"), *files, "config", "--format", "json"],
        cwd=FOLDER,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **given},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    read: dict[str, Any] = json.loads(done.stdout)
    return read


@pytest.mark.parametrize("recipe", RECIPES)
def test_hadolint_finds_nothing(recipe: str) -> None:
    done = subprocess.run([installed("hadolint"), str(FOLDER / recipe)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and not done.stdout, done.stdout


@pytest.mark.parametrize("recipe", RECIPES)
def test_what_is_copied_exists_and_is_sent_to_the_build(recipe: str) -> None:
    sent = [line.lstrip("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for word, rest in instructions(recipe):
        if word == "COPY" and not rest.startswith("--from"):
            for source in rest.split()[:-1]:
                assert list(ROOT.glob(source)), source
                assert any(fnmatch.fnmatch(source, f"{one}*") or one.startswith(f"{source}/") for one in sent), source


@pytest.mark.parametrize("recipe", RECIPES)
def test_an_image_runs_as_nobody_and_says_how_it_is(recipe: str) -> None:
    words = [word for word, _ in instructions(recipe)]
    users = [rest for word, rest in instructions(recipe) if word == "USER"]
    assert users and users[-1] in ("10001:10001", "orthanc") and "HEALTHCHECK" in words
    assert not re.search(r"\b[\w-]+\.[a-z]{2,}/", (FOLDER / recipe).read_text().split("FROM", 1)[1]), "no host is named"


@pytest.mark.parametrize("names", COMPOSED.values(), ids=COMPOSED)
def test_compose_reads_the_files_and_every_container_of_ours_is_confined(names: list[str]) -> None:
    services = composed(names)["services"]
    for name, service in services.items():
        ports = [port.get("host_ip") for port in service.get("ports", ())]
        assert all(host == "127.0.0.1" for host in ports), "beyond loopback only where somebody says so"
        if not service["image"].startswith("radir"):
            assert not ports and service["healthcheck"], name
            continue
        assert service["read_only"] is True and service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"] and "/tmp" in service["tmpfs"]
        assert not [word for word in service.get("command") or () if word.startswith("-")], "as `radir doctor` in it"
        if service.get("command"):
            parser(service["command"][0]).parse_args(service["command"])
        settings = {key.removeprefix("RADIR_").lower() for key in service["environment"] if key.startswith("RADIR_")}
        assert settings - {"token", "api_tokens_file"} <= vars(Settings()).keys(), name


@pytest.mark.parametrize("names", COMPOSED.values(), ids=COMPOSED)
def test_the_tokens_are_where_the_web_service_is_and_nowhere_else(names: list[str]) -> None:
    """They administer: what takes in images, or decodes them, has no use for them."""
    web = {}
    for name, service in composed(names)["services"].items():
        environment = service["environment"]
        given = {key: environment.get(f"RADIR_{key.upper()}") for key in ("web_host", "api_tokens_file")}
        command = service.get("command") or ["up"]
        if service["image"].startswith("radir-pacs") and (command[0] == "up" or "web" in command):
            (secret,) = service["secrets"]
            web[name] = given == {"web_host": "0.0.0.0", "api_tokens_file": secret["target"]}
            ports = [port["target"] for port in service["ports"]]
            assert 8042 in ports, name
        else:
            assert not any(given.values()) and not service.get("secrets"), name
    assert list(web.values()) == [True], web


def test_the_engines_of_every_role_are_the_same() -> None:
    services = composed(COMPOSED["engines"])["services"].values()
    ours = [one["environment"] for one in services if one["image"].startswith("radir-pacs")]
    alone = ("RADIR_WEB_HOST", "RADIR_API_TOKENS_FILE")
    shared = [{key: value for key, value in one.items() if key not in alone} for one in ours]
    assert len(shared) == 4 and "RADIR_DATABASE_URL" in shared[0] and all(one == shared[0] for one in shared)


@pytest.mark.parametrize(
    "fails",
    [{}, {"unshare": "exit 1"}, {"jq": "exit 1"}, {"buildah": '[ "$5" != rm ]'}],
    ids=["it ends well", "unhealthy", "not started", "not removed"],
)
def test_the_tokens_of_a_try_are_read_by_nobody_else_and_go_at_its_end(fails: dict[str, str], tmp_path: Path) -> None:
    """The script itself, with programs in place of those that it calls; ``chown`` notes the mode of each file."""
    programs, tried = tmp_path / "programs", tmp_path / "tried"
    programs.mkdir()
    tried.mkdir()
    (tried / "api_tokens").write_text("of a try that was killed, and readable")
    does = dict.fromkeys(("buildah", "crun", "mmdebstrap", "jq", "unshare", "sleep", "seq"), "exit 0")
    does["chown"] = f'stat -c "%a %n" "${{@: -1}}" >>{tmp_path}/modes'
    for program, text in (does | fails).items():
        (programs / program).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (programs / program).chmod(0o755)
    done = subprocess.run(
        ["bash", "-c", 'umask 022; exec bash "$0"', str(FOLDER / "try")],
        env={"PATH": f"{programs}:{os.environ['PATH']}", "RADIR_TRY": str(tried)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode == 0) is (not fails), done.stderr
    assert f"600 {tried / 'api_tokens'}" in (tmp_path / "modes").read_text().splitlines()
    assert not (tried / "api_tokens").exists()
    assert "buildah" in fails or not list(tried.glob("home.*"))


def test_the_roles_of_the_engines_are_all_of_them() -> None:
    services = composed(COMPOSED["engines"])["services"].values()
    roles = {word for one in services for word in one.get("command") or () if one["image"].startswith("radir")}
    assert {"listener", "web", "indexer", "relay", "transfer", "worker"} <= roles


def test_passwords_must_be_given() -> None:
    with pytest.raises(AssertionError, match="POSTGRES_PASSWORD"):
        composed(COMPOSED["engines"], {})


def test_orthanc_in_its_container_is_configured_as_the_one_that_ships() -> None:
    ours = json.loads((FOLDER / "orthanc.json").read_text())
    shipped = json.loads((ROOT / "deploy" / "orthanc" / "orthanc.json").read_text())
    assert ours.keys() - shipped.keys() == {"AuthenticationEnabled", "RegisteredUsers"}
    assert ours["RegisteredUsers"] == {"radir": "${ORTHANC_PASSWORD}"} and ours["AuthenticationEnabled"] is True
    same = shipped.keys() - {"RemoteAccessAllowed", "DicomModalities", "DicomWeb", "RadIR"}
    assert {key: ours[key] for key in same} == {key: shipped[key] for key in same}
    image = yaml.safe_load((FOLDER / "compose.orthanc.yaml").read_text())["services"]["orthanc"]["image"]
    assert image == "radir-orthanc"
