"""Paths as clients write them: UIDs are checked before any route runs, and doubled slashes count as one.

A valid UID is safe in a path, a URL, a header and a log line. Doubled slashes come from clients that join a service
root ending in a slash with a path that begins with one; a redirect would lose the body of a POST.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from flask import Flask

from radir_pacs.dicom.uids import is_valid_uid
from radir_pacs.errors import BadInput

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_UID_PARTS = ("study", "series", "instance")
_SLASHES = re.compile("/{2,}")


def job_url(study: str, number: int) -> str:
    """Where to ask how a job of a study is going."""
    return f"/api/studies/{study}/jobs/{number}"


def install(app: Flask) -> None:
    inner = app.wsgi_app

    def single_slashes(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ["PATH_INFO"] = _SLASHES.sub("/", environ.get("PATH_INFO", ""))
        return inner(environ, start_response)

    app.wsgi_app = single_slashes  # type: ignore[method-assign]

    @app.url_value_preprocessor
    def check(endpoint: str | None, values: dict[str, Any] | None) -> None:
        for name in _UID_PARTS:
            if values and name in values and not is_valid_uid(values[name]):
                raise BadInput(f"the {name} in the path is not a UID (PS3.5 9.1)")
