"""Deleting a series or an instance. The standard has no such transaction; clients ask for it as they do for a study."""

from __future__ import annotations

from flask import Blueprint

from radir_pacs.web.services import services

blueprint = Blueprint("deletion", __name__)


@blueprint.delete("/studies/<study>/series/<series>")
@blueprint.delete("/studies/<study>/series/<series>/instances/<instance>")
def delete_part(study: str, series: str, instance: str | None = None) -> tuple[str, int]:
    """A series or instance leaves every answer at once, its file follows; its study is encoded from what is left."""
    context = services()
    for sha256 in context.catalogue.studies.delete_part(study, series, instance):
        context.blobs.delete(sha256)
    return "", 204
