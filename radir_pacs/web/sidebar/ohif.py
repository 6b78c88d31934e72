"""An unmodified OHIF below /ohif/, from the folder where ``radir viewer install`` put it, with our configuration.

OHIF is built to be served at the root of a host. We rewrite its start page; its program stays unmodified and loads its
chunks from the root, so they are served there too.
The extension with the sidebar is loaded by its URL at run time (``window.config.extensions``).
"""

from __future__ import annotations

import json
import re

from flask import Blueprint, Response, send_from_directory
from flask.blueprints import BlueprintSetupState
from werkzeug.exceptions import NotFound as NoSuchFile
from werkzeug.routing import BaseConverter

from radir_pacs.config import Settings
from radir_pacs.errors import NotFound
from radir_pacs.web.services import BASE, services

blueprint = Blueprint("ohif", __name__)

ROOT = "/ohif/"
_YEAR_S = 365 * 24 * 3600
_HASHED = re.compile(r"\.[0-9a-f]{16}\.|^[0-9a-f]{16}\.")  # a file whose name changes with its content
# OHIF draws in WebAssembly and in workers made from blobs, and sets styles by script; images come only from us.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' 'wasm-unsafe-eval' blob:;"
    " worker-src 'self' blob:; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:;"
    " connect-src 'self' data: blob:; font-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'"
)


def is_installed(settings: Settings) -> bool:
    return (settings.ohif_dist / "index.html").is_file()


def is_page(path: str) -> bool:
    """Whether a path is a page of OHIF's own router, opened by a person, and not a file of its program."""
    return path == ROOT[:-1] or (path.startswith(ROOT) and "." not in path.rpartition("/")[2])


class _ChunkName(BaseConverter):
    """Files that OHIF's program loads itself, from the root of the host."""

    part_isolating = False
    regex = r"[\w-]+\.bundle\.[0-9a-f]+\.js|\d+\.css|[0-9a-f]{16}\.\w+|(?:assets|ort|dicom-microscopy-viewer)/[\w./-]+"


def is_chunk(path: str) -> bool:
    """Whether a path at the root is part of OHIF's program."""
    return re.fullmatch(_ChunkName.regex, path[1:]) is not None


@blueprint.record_once
def _name_chunks(state: BlueprintSetupState) -> None:
    state.app.url_map.converters["ohif_chunk"] = _ChunkName


@blueprint.get(ROOT)
@blueprint.get(ROOT + "<path:name>")
@blueprint.get("/<ohif_chunk:name>")
def file(name: str = "index.html") -> Response:
    """A file of the dist folder; any other path is a page of OHIF's own router. Raises NotFound."""
    settings = services().settings
    if not is_installed(settings):
        raise NotFound("OHIF is not installed; run: radir viewer install")
    if name == "app-config.js":
        return _hardened(Response(_configuration(settings), content_type="text/javascript"))
    try:
        if name == "index.html":
            raise NoSuchFile
        response = send_from_directory(settings.ohif_dist, name, max_age=_YEAR_S if _HASHED.search(name) else None)
    except NoSuchFile:
        if "." in name.rpartition("/")[2] and name != "index.html":
            raise NotFound("there is no such file") from None
        response = Response(_start_page(settings), content_type="text/html; charset=utf-8")
    return _hardened(response)


def _hardened(response: Response) -> Response:
    response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
    response.headers["Cross-Origin-Embedder-Policy"] = "require-corp"  # lets OHIF share memory with its workers
    response.headers["Content-Security-Policy"] = _POLICY
    return response


def _start_page(settings: Settings) -> str:
    text = (settings.ohif_dist / "index.html").read_text("utf-8")
    text = re.sub(r'\b(href|src)="/(?!/)', rf'\1="{ROOT}', text)
    return re.sub(r'window\.PUBLIC_URL\s*=\s*"/"', f'window.PUBLIC_URL="{ROOT}"', text)


def _configuration(settings: Settings) -> str:
    """The configuration that OHIF reads before it starts: our data source and the extension with the sidebar."""
    source = {
        "friendlyName": "RadIR-PACS",
        "name": "radir",
        "wadoUriRoot": BASE,
        "qidoRoot": BASE,
        "wadoRoot": BASE,
        "qidoSupportsIncludeField": True,
        "imageRendering": "wadors",
        "thumbnailRendering": "wadors",
        "enableStudyLazyLoad": True,
        "supportsFuzzyMatching": True,
        "supportsWildcard": True,
        "singlepart": "bulkdata,video",
        "omitQuotationForMultipartRequest": True,
    }
    config = {
        "name": "radir",
        "routerBasename": ROOT.rstrip("/"),
        "extensions": ["/viewer/ohif-extension.js"],
        "modes": [],
        "customizationService": {},
        "showStudyList": True,
        "maxNumberOfWebWorkers": 2,
        "showWarningMessageForCrossOrigin": False,
        "showCPUFallbackMessage": False,
        "showLoadingIndicator": True,
        "strictZSpacingForVolumeViewport": True,
        "investigationalUseDialog": {"option": "never"},
        "defaultDataSourceName": "radir",
        "dataSources": [
            {
                "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
                "sourceName": "radir",
                "configuration": source,
            }
        ],
    }
    return f"window.config = {json.dumps(config, indent=2)};\n"
