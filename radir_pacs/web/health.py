"""Probes: is the process alive, and can it answer? They need no token and tell nothing but that."""

from __future__ import annotations

import os

from flask import Blueprint, Response, jsonify

from radir_pacs.errors import NotReady

from .services import services

blueprint = Blueprint("health", __name__)

WITHIN_S = 1.5  # a probe that waits longer is as good as failed


@blueprint.get("/health/live")
def live() -> Response:
    """The process runs."""
    return jsonify({"status": "live"})


@blueprint.get("/health/ready")
def ready() -> Response:
    """The catalogue answers, within a second and a half, and the blobs can be written. Raises NotReady."""
    context = services()
    context.probe.check(WITHIN_S)
    if not os.access(context.blobs.root, os.W_OK):
        raise NotReady("the blob folder cannot be written")
    return jsonify({"status": "ready"})
