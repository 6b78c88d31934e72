"""What the routes share, made once by the application factory."""

from __future__ import annotations

from dataclasses import dataclass

from flask import current_app

from radir_pacs.access.bearers import Bearers
from radir_pacs.access.provider import Provider
from radir_pacs.access.sessions import Sessions
from radir_pacs.catalogue import Catalogue
from radir_pacs.config import Settings
from radir_pacs.intake.instances import Intake
from radir_pacs.intake.source_files import SourceFiles
from radir_pacs.monitoring import Exposition
from radir_pacs.query import Searcher
from radir_pacs.storage.blobs import BlobStore

from .lately import Lately
from .pixels import SharedDecoder
from .probe import Probe
from .proxies import public_url
from .recent import Recent
from .remembered import Remembered

BASE = "/dicom-web"


@dataclass(frozen=True, kw_only=True)
class Services:
    settings: Settings
    catalogue: Catalogue
    searcher: Searcher
    blobs: BlobStore
    intake: Intake
    source_files: SourceFiles
    decoder: SharedDecoder
    probes: tuple[Probe, ...]
    thumbnails: Recent
    bearers: Bearers
    sessions: Sessions
    provider: Provider | None  # at which people sign in, where one is set
    exposition: Exposition
    opened: Remembered  # studies, by caller
    overview: Lately  # what the pages of administrators show
    progress: Lately  # of models, by id

    @property
    def base_url(self) -> str:
        """The service root as the current client reaches it (PS3.18 8.2)."""
        return public_url(self.settings) + BASE


def services() -> Services:
    """The services of the application that answers the current request."""
    found: Services = current_app.extensions["radir"]
    return found
