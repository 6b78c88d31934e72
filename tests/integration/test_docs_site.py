"""The documentation site: built strictly, complete, and without a byte from elsewhere."""

from __future__ import annotations

import http.server
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.services import IN_CI, ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if find_spec("mkdocs") is None:
        if IN_CI:
            pytest.fail("mkdocs is not installed")
        pytest.skip("mkdocs is not installed")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


class Loads(HTMLParser):
    """What a browser fetches by itself for a page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.classes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.classes |= set(given.get("class", "").split())
        if tag in ("script", "img", "iframe", "source", "video", "audio", "embed"):
            self.addresses += [given.get("src", ""), given.get("srcset", "")]
        elif tag == "link" and given.get("rel") not in ("next", "prev", "canonical"):
            self.addresses.append(given.get("href", ""))


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 80
    for page in pages:
        found = Loads()
        found.feed(page.read_text("utf-8"))
        assert not [address for address in found.addresses if re.match(r"(\w+:)?//", address)], page
        assert "mermaid" not in found.classes, f"{page}: the theme would fetch a library to draw it"
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//|@import", style.read_text("utf-8")), style


@pytest.fixture
def served(site: Path) -> Iterator[str]:
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(site))
    handler.log_message = lambda *_: None  # type: ignore[attr-defined]
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_browser_asks_nobody_else_and_finds_a_word(browser: Browser, served: str) -> None:
    page = browser.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{served}/tutorial/first-hour.html")
    page.get_by_role("textbox", name="Search").fill("urgent")
    page.locator(".md-search-result__item").first.wait_for()
    page.goto(f"{served}/index.html")
    page.get_by_role("heading", name="What it promises").wait_for()
    page.close()
    assert len(asked) > 5 and not [url for url in asked if not url.startswith((served, "data:", "blob:"))]


def test_every_page_of_the_repository_is_in_the_site(site: Path) -> None:
    for page in [*(ROOT / "docs").rglob("*.md"), ROOT / "ARCHITECTURE.md", ROOT / "viewer" / "README.md"]:
        if "template" in page.name:
            continue
        name = page.relative_to(ROOT).as_posix().removeprefix("docs/")
        name = "adr/index.md" if name == "adr/README.md" else name
        name = "viewer/index.md" if name == "viewer/README.md" else name
        assert (site / name).with_suffix(".html").is_file(), name
