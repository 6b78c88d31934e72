"""What the parts of the catalogue share: the database and the settings."""

from __future__ import annotations

from radir_pacs.catalogue.database import Database
from radir_pacs.config import Settings


class CataloguePart:
    """Base of the parts that `Catalogue` is made of. Each public method is one transaction."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings
