"""Records which studies a request opens, before it is answered: what cannot be recorded is not answered.

A viewer asks for a study piece by piece, and for a list again and again. The same caller at the same address opening
or listing the same study is recorded once in `OPENED_AGAIN_S`. Similar cases are recorded by the search itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from flask import Flask, g, request

from radir_pacs.callers import AuditEvent, Caller
from radir_pacs.catalogue import Catalogue

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
        "admin_studies.study",
        "admin_studies.retry",
        "admin_studies.complete",
    }
)
_DELETES = frozenset({"studies.delete", "deletion.delete_part"})


def install(app: Flask, catalogue: Catalogue) -> None:
    """Record, before requests to ``app`` are answered, which studies they open or delete."""

    @app.before_request
    def record() -> None:
        if request.method == "OPTIONS":
            return
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


def is_known() -> bool:
    """Whether somebody sent the current request; what is open to everybody needs nobody."""
    return "radir_caller" in g


def note_opened(study_uid: str) -> None:
    """Record that the current request opens a study, unless it was recorded a short time ago."""
    _note_once(AuditEvent.OPENED, [study_uid])


def note_listed(study_uids: Sequence[str]) -> None:
    """Record that the answer to a search names these studies, unless it was recorded a short time ago."""
    _note_once(AuditEvent.LISTED, study_uids)


def note_stored(study_uids: Sequence[str]) -> None:
    """Record that something was stored in these studies."""
    if study_uids:
        services().catalogue.audit.note_studies(AuditEvent.STORED, caller(), sorted(set(study_uids)))


def _note_once(event: AuditEvent, study_uids: Sequence[str]) -> None:
    """A study that is not here is not remembered: it may come, and be opened then."""
    by, context = caller(), services()
    new = [uid for uid in sorted(set(study_uids)) if (event, by.name, by.role, by.address, uid) not in context.opened]
    if new and context.catalogue.audit.note_studies(event, by, new) == len(new):
        for uid in new:
            context.opened.add((event, by.name, by.role, by.address, uid))
