"""The web service: DICOMweb, the similar-case query, its pages and probes."""

from radir_pacs.web.app import create_app

__all__ = ["create_app"]
