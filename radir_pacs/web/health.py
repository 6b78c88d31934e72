"""Health probes: is the process alive, and can it do its work? They need no token and reveal nothing else."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from radir_pacs.intake.instances import Intake
from radir_pacs.storage.blobs import BlobStore

from .services import services

blueprint = Blueprint("health", __name__)

_TRIED_BYTES = 4096
WITHIN_S = 1.5  # a probe that takes longer counts as failed


@blueprint.get("/health/live")
def live() -> Response:
    """The process is running."""
    return jsonify({"status": "live"})


@blueprint.get("/health/ready")
def ready() -> Response:
    """The catalogue answers and an instance can be stored, each within a second and a half. Raises NotReady."""
    for probe in services().probes:
        probe.check(WITHIN_S)
    return jsonify({"status": "ready"})


def try_store(intake: Intake, blobs: BlobStore) -> None:
    """Write a few bytes and discard them, which fails on a full, broken or read-only disk. Raises StorageFailed."""
    intake.check_room()
    with blobs.incoming() as incoming:
        incoming.write(bytes(_TRIED_BYTES))
        _ = incoming.path  # flushes
