"""Probes: is the process alive, and can it answer? They need no token and tell nothing but that."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from radir_pacs.intake.instances import Intake
from radir_pacs.storage.blobs import BlobStore

from .services import services

blueprint = Blueprint("health", __name__)

_TRIED_BYTES = 4096
WITHIN_S = 1.5  # a probe that waits longer is as good as failed


@blueprint.get("/health/live")
def live() -> Response:
    """The process runs."""
    return jsonify({"status": "live"})


@blueprint.get("/health/ready")
def ready() -> Response:
    """The catalogue answers and an instance could be stored, each within a second and a half. Raises NotReady."""
    for probe in services().probes:
        probe.check(WITHIN_S)
    return jsonify({"status": "ready"})


def try_store(intake: Intake, blobs: BlobStore) -> None:
    """Write a little and throw it away: a full, broken or read-only disk is met here first. Raises StorageFailed."""
    intake.check_room()
    with blobs.incoming() as incoming:
        incoming.write(bytes(_TRIED_BYTES))
        _ = incoming.path  # flushes
