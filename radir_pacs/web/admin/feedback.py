"""Readers' thumbs, by region."""

from __future__ import annotations

from flask import Response

from radir_pacs.web.services import services

from . import view

blueprint = view.guarded("admin_feedback", __name__)


@blueprint.get("/feedback")
def feedback() -> Response:
    """How often readers found the cases at a region similar, or not."""
    counts = services().catalogue.feedback.counts()
    return view.page(
        "feedback.html", counts=counts, up=sum(one.up for one in counts), down=sum(one.down for one in counts)
    )
