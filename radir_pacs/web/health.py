"""Probes: is the process alive, and can it answer? They need no token and tell nothing but that."""

from __future__ import annotations

import os

from flask import Blueprint, Response, jsonify

from radir_pacs.errors import NotReady

from .services import services

blueprint = Blueprint("health", __name__)


@blueprint.get("/health/live")
def live() -> Response:
    """The process runs."""
    return jsonify({"status": "live"})


@blueprint.get("/health/ready")
def ready() -> Response:
    """The catalogue answers and the blobs can be written. Raises StorageFailed or NotReady."""
    context = services()
    context.catalogue.processes()
    if not os.access(context.blobs.root, os.W_OK):
        raise NotReady("the blob folder cannot be written")
    return jsonify({"status": "ready"})
