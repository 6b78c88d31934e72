"""Deleting a series or an instance. PS3.18 defines no such transaction, but clients expect it."""

from __future__ import annotations

from flask import Blueprint

from radir_pacs.web.services import services

blueprint = Blueprint("deletion", __name__)


@blueprint.delete("/studies/<study>/series/<series>")
@blueprint.delete("/studies/<study>/series/<series>/instances/<instance>")
def delete_part(study: str, series: str, instance: str | None = None) -> tuple[str, int]:
    """Delete a series or an instance: it leaves every answer at once, and its study is encoded again without it."""
    context = services()
    for sha256 in context.catalogue.studies.delete_part(study, series, instance):
        context.blobs.delete(sha256)
    return "", 204
