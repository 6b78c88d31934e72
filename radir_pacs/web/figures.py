"""The figures of this machine, for Prometheus: what all its processes count, and what the archive holds."""

from __future__ import annotations

from flask import Blueprint, Response

from radir_pacs.errors import RoleMayNot
from radir_pacs.monitoring import CONTENT_TYPE

from . import audit
from .services import services

blueprint = Blueprint("figures", __name__)


@blueprint.get("/metrics")
def metrics() -> Response:
    """What the processes of this machine count and what the archive holds, in Prometheus' format."""
    if not audit.caller().reads_figures:
        raise RoleMayNot("the figures are those of the whole archive: this token sees a part of it")
    return Response(services().exposition.text(), content_type=CONTENT_TYPE)
