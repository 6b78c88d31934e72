"""From which PACS a study came, as a site writes it down; addresses and credentials come from nowhere else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from radir_pacs.config import Settings
from radir_pacs.errors import SettingError
from radir_pacs.intake.sources import Sources, load_sources
from tests.certificates import Authority


def sources(settings: Settings, tmp_path: Path, text: str, **changes: str) -> Sources:
    path = tmp_path / "sources.toml"
    path.write_text(text)
    return load_sources(replace(settings, sources_file=str(path), **changes))  # type: ignore[arg-type]


def test_each_site_has_its_pacs_and_pull_url_stands_for_the_others(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "north.header").write_text("Basic bm9ydGg=\n")
    authority = Authority(tmp_path, "ca").file
    text = f"""
        [[source]]
        sites = ["North", "Annex"]
        url = "https://pacs.north.example/dicom-web/"
        authorization_file = "{tmp_path / "north.header"}"
        ca = "{authority}"
        [[source]]
        sites = ["South"]
        url = "http://127.0.0.1:8042/dicom-web"
    """
    found = sources(settings, tmp_path, text, pull_url="https://pacs.example")
    north = found.of(["Annex"])
    assert north is not None
    assert (north.url, north.ca) == ("https://pacs.north.example/dicom-web", str(authority))
    assert north.headers("x")["Authorization"] == "Basic bm9ydGg="
    assert "bm9ydGg" not in repr(north), "it would stand in a log"
    both, other = found.of(["East", "South"]), found.of(["East"])
    assert both is not None and both.url == "http://127.0.0.1:8042/dicom-web"
    assert other is not None and other.url == "https://pacs.example"
    assert sources(settings, tmp_path, text).of(["East"]) is None


def test_without_any_there_is_none(settings: Settings) -> None:
    found = load_sources(settings)
    assert not found
    assert found.of(["North"]) is None


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ('url = "https://pacs"', "sites must be a list"),
        ('sites = ["North"]', "url does not begin"),
        ('sites = ["North"]\nurl = "http://pacs.example"', "url does not begin with https"),
        ('sites = ["North"]\nurl = "file:///etc/passwd"', "url does not begin"),
        ('sites = ["North"]\nurl = "https://pacs?a=b"', "has a query"),
        ('sites = ["North"]\nurl = "https://u:p@pacs"', "no user or password"),
        ('sites = ["North"]\nurl = "https://pacs"\npassword = "x"', "password is not known"),
        ('sites = ["North"]\nurl = "https://u:12/p@pacs"', "no user or password"),
        ('sites = ["North"]\nurl = "https://pacs"\nauthorization_file = "/nowhere"', "cannot be read"),
        ('sites = ["A\\\\B"]\nurl = "https://pacs"', "not a label"),
        ('sites = ["A"]\nurl = "https://a"\n[[source]]\nsites = ["A"]\nurl = "https://b"', "two sources"),
    ],
)
def test_a_wrong_source_is_named(said: str, why: str, settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=why):
        sources(settings, tmp_path, "[[source]]\n" + said)


def test_a_header_of_two_lines_is_refused(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "header").write_text("Basic x\r\nHost: elsewhere")
    said = f'[[source]]\nsites = ["A"]\nurl = "https://pacs"\nauthorization_file = "{tmp_path / "header"}"'
    with pytest.raises(SettingError, match="holds no header"):
        sources(settings, tmp_path, said)
