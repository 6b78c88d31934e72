"""Readers' thumbs, by region."""

from __future__ import annotations

from flask import Response

from radir_pacs.web.services import services

from . import view

blueprint = view.guarded("admin_feedback", __name__)


@blueprint.get("/feedback")
def feedback() -> Response:
    """How often readers found the cases at a region similar, or not; whether the last retraining learned from it."""
    catalogue = services().catalogue
    counts = catalogue.feedback.counts()
    run = next((run for run in catalogue.retraining.runs(limit=1) if "thumbs" in run.plan), None)
    return view.page(
        "feedback.html",
        counts=counts,
        up=sum(one.up for one in counts),
        down=sum(one.down for one in counts),
        run=run,
        thumbs=run.plan["thumbs"] if run is not None else {},
    )
