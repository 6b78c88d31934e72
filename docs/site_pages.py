"""A hook of MkDocs: pages that stand beside docs/ join the site, and links to them lead there.

Links are written for whoever reads the files as they stand; the site has the same pages at the same places but for
README.md, which is its first page. A link to a file that is no page becomes the file's name.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "ARCHITECTURE.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "SECURITY.md": "SECURITY.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "viewer/README.md": "viewer/README.md",
    "orthanc_plugin/README.md": "orthanc_plugin/README.md",
}
_FROM = {page: file for file, page in PAGES.items()}
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def on_config(config: Any) -> Any:
    """A folder in the navigation stands for all of its pages, README.md first."""
    config.nav = _expanded(config.nav)
    return config


def _expanded(nav: Any) -> Any:
    if isinstance(nav, list):
        return [_expanded(one) for one in nav]
    if isinstance(nav, dict):
        return {title: _expanded(one) for title, one in nav.items()}
    if not nav.endswith("/"):
        return nav
    pages = sorted((ROOT / "docs" / nav).glob("*.md"), key=lambda page: (page.name != "README.md", page.name))
    return [f"{nav}{page.name}" for page in pages]


def on_files(files: Files, config: Any) -> Files:
    for file, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / file)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    return in_site(markdown, page.file.src_uri)


def in_site(markdown: str, page: str) -> str:
    """The text of a page with its links as the site has them. ``page``: its place in the site."""
    here = posixpath.dirname(_FROM.get(page, f"docs/{page}"))

    def link(found: re.Match[str]) -> str:
        mark, words, target = found.groups()
        path, _, anchor = target.partition("#")
        if not path or "://" in path or path.startswith("mailto:"):
            return found[0]
        file = posixpath.normpath(posixpath.join(here, path))
        if (ROOT / file).is_dir() and (ROOT / file / "README.md").is_file():
            file += "/README.md"
        place = PAGES.get(file) or (file.removeprefix("docs/") if file.startswith("docs/") else "")
        if not place:
            return words if (ROOT / file).exists() else found[0]
        shown = posixpath.relpath(place, posixpath.dirname(page) or ".")
        return f"{mark}[{words}]({shown}{'#' + anchor if anchor else ''})"

    return _LINK.sub(link, markdown)
