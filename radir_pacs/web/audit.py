"""Records which studies a request opens, before it is answered: what cannot be recorded is not answered.

A viewer asks for a study piece by piece. The same caller at the same address opening the same study is recorded once
in `OPENED_AGAIN_S`. Similar cases are recorded by the search itself, which knows them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from flask import Flask, g, request

from radir_pacs.callers import AuditEvent, Caller
from radir_pacs.catalogue import Catalogue
from radir_pacs.errors import RadirError

from .services import services

OPENED_AGAIN_S = 600.0

_OPENS = frozenset(
    {
        "qido.series_of_study",
        "qido.instances_of_study",
        "qido.instances_of_series",
        "wado.retrieve",
        "wado.retrieve_instance",
        "wado.retrieve_frames",
        "metadata.metadata",
        "metadata.metadata_of_instance",
        "metadata.bulk_data",
        "rendered.rendered",
        "rendered.rendered_instance",
        "rendered.rendered_frame",
        "rendered.thumbnail",
        "rendered.thumbnail_instance",
        "sidebar.study",
        "sidebar.slices",
        "pages.study",
    }
)
_DELETES = frozenset({"admin.delete", "deletion.delete_part"})


def install(app: Flask, catalogue: Catalogue) -> None:
    """Record, before requests to ``app`` are answered, which studies they open or delete."""

    @app.before_request
    def record() -> None:
        endpoint, asked = request.endpoint, request.view_args or {}
        if endpoint in _DELETES:
            catalogue.audit.note(
                AuditEvent.DELETED, caller(), asked["study"], series=asked.get("series"), instance=asked.get("instance")
            )
        elif endpoint in _OPENS:
            study = str(asked["study"])
            if endpoint == "sidebar.slices":
                study = request.args.get("case") or study
            note_opened(study)


def caller() -> Caller:
    """Whoever sent the current request; `auth` has set it."""
    return cast(Caller, g.radir_caller)


def note_opened(study_uid: str) -> None:
    """Record that the current request opens a study, unless it was recorded a short time ago."""
    by, context = caller(), services()
    what = (by.name, by.role, by.address, study_uid)
    if not context.opened.is_new(*what):
        return
    try:
        context.catalogue.audit.note_studies(AuditEvent.OPENED, by, [study_uid])
    except RadirError:
        context.opened.forget(*what)
        raise


def note_listed(study_uids: Sequence[str]) -> None:
    """Record that the answer to a search names these studies."""
    if study_uids:
        services().catalogue.audit.note_studies(AuditEvent.LISTED, caller(), sorted(set(study_uids)))


def note_stored(study_uids: Sequence[str]) -> None:
    """Record that something was stored in these studies."""
    if study_uids:
        services().catalogue.audit.note_studies(AuditEvent.STORED, caller(), sorted(set(study_uids)))
