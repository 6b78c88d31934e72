"""Who opened which patient out of scope, and why; an administrator may end one."""

from __future__ import annotations

from flask import Response, url_for

from radir_pacs.web import audit
from radir_pacs.web.services import services

from . import view

blueprint = view.guarded("admin_emergencies", __name__)


@blueprint.get("/emergencies")
def emergencies() -> Response:
    """Those of the last month, the newest first."""
    context = services()
    return view.page(
        "emergencies.html",
        emergencies=context.catalogue.emergencies.all(),
        is_allowed=context.settings.emergency_access,
        minutes=round(context.settings.emergency_access_s / 60),
    )


@blueprint.post("/emergencies/<int:number>/end")
def end(number: int) -> Response:
    """End one before its time. Raises NotFound."""
    services().catalogue.emergencies.end(number, by=audit.caller())
    return view.after(url_for("admin_emergencies.emergencies"))
