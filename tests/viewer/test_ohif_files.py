"""The files of OHIF: those of its package, as npm has it, and nothing beside them."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace

import pytest
import requests

from radir_pacs.cli.viewer import install
from radir_pacs.errors import RadirError
from tests.viewer.conftest import OHIF, Archive


def test_the_files_are_those_of_the_package(ohif: Archive) -> None:
    (program,) = OHIF.glob("app.bundle.*.js")
    (chunk, *_) = sorted(OHIF.glob("*.bundle.*.js"))
    style = sorted(OHIF.glob("[0-9]*.css"))[0]
    for path, url in ((program, f"ohif/{program.name}"), (chunk, chunk.name), (style, style.name)):
        served = requests.get(f"{ohif.web.root}/{url}", timeout=30)
        assert hashlib.sha256(served.content).digest() == hashlib.sha256(path.read_bytes()).digest(), path.name
        assert served.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        assert served.headers["Cross-Origin-Opener-Policy"] == "same-origin"


def test_nothing_beside_the_package_is_served(ohif: Archive) -> None:
    for path in ("/ohif/../../pyproject.toml", "/ohif/%2e%2e/%2e%2e/setup.py", "/assets/../../setup.py", "/ohif/x.js"):
        answer = requests.Session().send(
            replace_url(requests.Request("GET", ohif.web.root).prepare(), ohif.web.root + path), timeout=30
        )
        assert answer.status_code in (400, 404), path
        assert b"setuptools" not in answer.content


def replace_url(request: requests.PreparedRequest, url: str) -> requests.PreparedRequest:
    """``requests`` would tidy the path away."""
    request.url = url
    return request


def test_installing_again_changes_nothing(ohif: Archive) -> None:
    before = {path: path.stat().st_mtime_ns for path in OHIF.iterdir()}
    assert install(ohif.web.settings) is False
    assert {path: path.stat().st_mtime_ns for path in OHIF.iterdir()} == before


def test_without_npm_it_says_what_to_do(
    ohif: Archive, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    settings = replace(ohif.web.settings, ohif_folder=str(tmp_path_factory.mktemp("none") / "ohif"))
    with pytest.raises(RadirError, match="npm is not installed"):
        install(settings)


def test_without_ohif_the_address_says_how_to_get_it(
    serve: Callable[..., Archive], tmp_path_factory: pytest.TempPathFactory
) -> None:
    bare = serve(ohif_folder=str(tmp_path_factory.mktemp("none")))
    answer = requests.get(bare.web.root + "/ohif/", timeout=30)
    assert answer.status_code == 404
    assert "radir viewer install" in answer.json()["error"]["message"]
