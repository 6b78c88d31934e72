# Runs inside Orthanc and is therefore offered under the AGPL v3 or later; see README.md beside this file.
"""Which of RadIR's routes are available below /radir, so that a viewer in Orthanc needs only one origin.

A list of what is allowed, by path, method and media type; anything else does not exist here.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit

from radir_service import JSON, Wanted

PREFIX = "/radir"
_UID = "[0-9][0-9.]{0,63}"
_FILE = r"(?:[\w-][\w.-]*/)*[\w-][\w.-]*"
_STUDY = f"/api/studies/{_UID}"
_IMAGE = f"/dicom-web/studies/{_UID}/series/{_UID}/instances/{_UID}"
_SCRIPT, _STYLE = "text/javascript", "text/css"
_LINES = "application/x-ndjson"
_PROGRAM = Wanted(None, most_bytes=32 << 20)  # a file of OHIF's, of whatever kind
# The headers of an answer that are passed on to the browser.
RELAYED = (
    "warning",
    "cache-control",
    "content-security-policy",
    "cross-origin-opener-policy",
    "cross-origin-embedder-policy",
    "cross-origin-resource-policy",
    "x-content-type-options",
    "referrer-policy",
)


class Route(NamedTuple):
    """``pattern`` matches the whole path, as Orthanc does."""

    pattern: str
    wanted: Wanted
    method: str = "GET"

    def path_of(self, uri: str) -> str:
        """The path at the service for a path at Orthanc."""
        return uri[len(PREFIX) :] if uri.startswith(PREFIX + "/") else uri


ROUTES = (
    Route(PREFIX + r"/viewer/(?:[\w-]+/)?[\w-]+\.(?:js|css)", Wanted((_SCRIPT, _STYLE))),
    Route(PREFIX + "/api/(?:regions|findings|typed)", Wanted()),
    Route(PREFIX + _STUDY, Wanted()),
    Route(PREFIX + _STUDY + "/similar", Wanted((_LINES, *JSON))),
    Route(PREFIX + _STUDY + "/similar/slices", Wanted()),
    Route(PREFIX + _STUDY + "/feedback", Wanted(), "POST"),
    Route(PREFIX + _STUDY + r"/feedback/[\w-]{1,64}", Wanted()),
    Route(PREFIX + _IMAGE + r"/(?:thumbnail|(?:frames/\d{1,9}/)?rendered)", Wanted(("image/jpeg",))),
    # OHIF, where RadIR has it. Its program loads its own parts from the root of the host, wherever it is itself.
    Route(PREFIX + f"/ohif/(?:{_FILE})?", _PROGRAM),
    Route(r"/[\w-]+\.bundle\.[0-9a-f]+\.js", _PROGRAM),
    Route(r"/(?:\d+\.css|[0-9a-f]{16}\.\w+)", _PROGRAM),
    Route(f"/(?:assets|ort|dicom-microscopy-viewer)/{_FILE}", _PROGRAM),
)


def at_home(body: bytes, dicom_web: str) -> bytes:
    """OHIF's start page and configuration for their place here: images from Orthanc, the rest below /radir."""
    for old, new in (
        (b'"/ohif', f'"{PREFIX}/ohif'.encode()),
        (b'"/viewer/', f'"{PREFIX}/viewer/'.encode()),
        (b'"/dicom-web"', f'"{dicom_web}"'.encode()),
    ):
        body = body.replace(old, new)
    return body


def is_start(path: str) -> bool:
    """Whether ``path`` is OHIF's start page, at any address of its router, or its configuration."""
    return path.startswith("/ohif/") and ("." not in path.rpartition("/")[2] or path.endswith(("config.js", ".html")))


def is_cross_site(headers: dict[str, str]) -> bool:
    """Whether a page of another site, open in the same browser, sent this; it must not trigger anything."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None:
        return site not in ("same-origin", "none")
    return origin is not None and urlsplit(origin).netloc != headers.get("host")
