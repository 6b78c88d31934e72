"""The application factory: every route, guard and handler of the web service."""

from __future__ import annotations

from flask import Flask, Response

from radir_pacs.blobs import BlobStore
from radir_pacs.catalogue import Catalogue
from radir_pacs.config import Settings
from radir_pacs.intake import Intake
from radir_pacs.query import Searcher

from . import (
    access_log,
    admin,
    auth,
    capabilities,
    errors,
    health,
    judgements,
    language,
    ohif,
    pages,
    parameters,
    paths,
    qido,
    rendered,
    sidebar,
    similar,
    stow,
    viewer,
    wado,
)
from .pixels import SharedDecoder
from .probe import Probe
from .recent import Recent
from .services import BASE, Services

_DICOMWEB = (qido, similar, stow, wado, rendered, capabilities)
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; img-src 'self'; style-src 'self'; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'",
    "Cache-Control": "private, no-cache",  # may be kept by the caller, and is asked for again each time
}


def create_app(settings: Settings, catalogue: Catalogue, searcher: Searcher, blobs: BlobStore) -> Flask:
    """The WSGI application; ``app.extensions["radir"].decoder.close()`` ends its child process."""
    app = Flask("radir_pacs.web")
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    app.config["MAX_CONTENT_LENGTH"] = settings.max_request_mib << 20
    app.json.sort_keys = False  # type: ignore[attr-defined]  # the DICOM JSON model has an order of its own
    app.extensions["radir"] = Services(
        settings=settings,
        catalogue=catalogue,
        searcher=searcher,
        blobs=blobs,
        intake=Intake(catalogue, blobs, settings),
        decoder=SharedDecoder(settings),
        probe=Probe(catalogue.processes.all),
        thumbnails=Recent(),
    )
    access_log.install(app)
    errors.install(app)
    language.install(app)
    auth.install(app, settings, catalogue)
    paths.install(app)
    app.before_request(parameters.check_size)
    for module in _DICOMWEB:
        app.register_blueprint(module.blueprint, url_prefix=BASE)
    for module in (admin, health, pages, sidebar, judgements, viewer, ohif):
        app.register_blueprint(module.blueprint)

    @app.after_request
    def harden(response: Response) -> Response:
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    return app
