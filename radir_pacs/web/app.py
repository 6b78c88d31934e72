"""The application factory: every route, guard and handler of the web service."""

from __future__ import annotations

from collections.abc import Callable
from http.client import NO_CONTENT
from typing import Any

from flask import Flask, Response

from radir_pacs import metrics
from radir_pacs.access.bearers import Bearers
from radir_pacs.access.provider import Provider
from radir_pacs.access.sessions import Sessions
from radir_pacs.catalogue import Catalogue
from radir_pacs.config import Settings
from radir_pacs.intake.instances import Intake
from radir_pacs.intake.source_files import SourceFiles
from radir_pacs.intake.sources import load_sources
from radir_pacs.monitoring import ArchiveFigures, Exposition
from radir_pacs.query import Searcher
from radir_pacs.storage.blobs import BlobStore
from radir_pacs.storage.fetched import Fetched

from . import (
    access_log,
    audit,
    auth,
    content_coding,
    cross_origin,
    emergency,
    errors,
    fhir,
    figures,
    handover,
    health,
    json_bodies,
    language,
    paths,
    scope_guard,
    session,
    sign_in,
    studies,
    with_provider,
)
from .admin import accounts, emergencies, feedback, models, overview, quality, retraining, tokens
from .admin import studies as admin_studies
from .dicomweb import capabilities, deletion, metadata, parameters, qido, rendered, similar, stow, wado, wado_uri
from .lately import Lately
from .pages import routes as pages
from .pixels import SharedDecoder
from .probe import Probe
from .recent import Recent
from .remembered import Remembered
from .services import BASE, Services
from .sidebar import judgements, ohif, viewer
from .sidebar import routes as sidebar

_DICOMWEB = (qido, similar, stow, wado, metadata, rendered, deletion, capabilities)
_ADMIN = (overview, admin_studies, models, retraining, quality, feedback, accounts, tokens, emergencies)
_TAKES_INSTANCES = frozenset({"stow.store"})  # routes whose bodies may be large, or gzipped
_TAKES_DOCUMENTS = frozenset({"fhir.create", "fhir.update"})  # which have a bound of their own
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; img-src 'self'; style-src 'self'; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'",
    "Cache-Control": "private, no-cache",  # the client may keep it, and must revalidate it each time
}


class _App(Flask):
    """Flask asks of every route and guard, at each request, whether it is a coroutine: here none is."""

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        return func


def create_app(settings: Settings, catalogue: Catalogue, searcher: Searcher, blobs: BlobStore) -> Flask:
    """The WSGI application; ``app.extensions["radir"].decoder.close()`` ends its child process."""
    app = _App("radir_pacs.web")
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    app.config["MAX_CONTENT_LENGTH"] = settings.max_request_mib << 20
    intake = Intake(catalogue, blobs, settings)
    bearers = Bearers(catalogue.access_tokens, settings)
    app.extensions["radir"] = Services(
        settings=settings,
        catalogue=catalogue,
        searcher=searcher,
        blobs=blobs,
        intake=intake,
        source_files=SourceFiles(
            catalogue,
            load_sources(settings),
            Fetched(settings.home, settings.source_cache_mib << 20, settings.min_free_disk_mib << 20),
            settings,
        ),
        decoder=SharedDecoder(settings),
        probes=(Probe("database", catalogue.processes.all), Probe("store", lambda: health.try_store(intake, blobs))),
        thumbnails=Recent(),
        bearers=bearers,
        sessions=Sessions(catalogue.sign_ins, bearers, settings),
        provider=Provider(settings) if settings.oidc_issuer else None,
        exposition=Exposition(settings, metrics.shared_folder(), ArchiveFigures(catalogue)),
        opened=Remembered(audit.OPENED_AGAIN_S),
        overview=Lately(overview.LATELY_S),
        progress=Lately(models.LATELY_S),
    )
    access_log.install(app)
    errors.install(app)
    language.install(app)
    cross_origin.install(app, settings)
    auth.install(app, settings, catalogue, bearers)
    scope_guard.install(app)
    audit.install(app, catalogue)
    content_coding.install(app, inflated=_TAKES_INSTANCES)
    json_bodies.install(app, large=_TAKES_INSTANCES | _TAKES_DOCUMENTS)
    paths.install(app)
    app.before_request(parameters.check_size)
    app.jinja_env.globals["signed_in_name"] = session.name_if_known
    app.jinja_env.globals["emergency_is_offered"] = emergency.is_offered
    for module in _DICOMWEB:
        app.register_blueprint(module.blueprint, url_prefix=BASE)
    for module in (
        wado_uri,
        studies,
        fhir,
        figures,
        handover,
        health,
        pages,
        sidebar,
        judgements,
        viewer,
        emergency,
        ohif,
        sign_in,
        with_provider,
        *_ADMIN,
    ):
        app.register_blueprint(module.blueprint)

    @app.after_request
    def harden(response: Response) -> Response:
        given = {name.lower() for name, _ in response.headers}
        for name, value in _HEADERS.items():  # looked up once: each look-up of a header that is missing is an exception
            if name.lower() not in given:
                response.headers.add(name, value)
        if settings.web_tls_certificate and settings.web_hsts_s:
            response.headers["Strict-Transport-Security"] = f"max-age={settings.web_hsts_s:.0f}"  # RFC 6797
        if response.status_code == NO_CONTENT:  # werkzeug gives every answer a type, also one that has no content
            response.headers.pop("Content-Type", None)
        return response

    return app
