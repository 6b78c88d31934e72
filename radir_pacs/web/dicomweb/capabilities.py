"""Retrieve Capabilities (PS3.18 8.9): OPTIONS on the service root answers a WADL made from the routes themselves."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from flask import Blueprint, Response, current_app

from radir_pacs.web.services import BASE, services

from .accept import DICOM, DICOM_JSON, OCTETS, choose, multipart
from .datasets import XML_PARTS
from .documents import HTML, PDF, PLAIN
from .drawing import JPEG, PNG
from .native_xml import MEDIA_TYPE as DICOM_XML

blueprint = Blueprint("capabilities", __name__)

WADL = "application/vnd.sun.wadl+xml"
_NAMESPACE = "http://wadl.dev.java.net/2009/02"
_QIDO = ("limit", "offset", "includefield", "fuzzymatching", "{attributeID}")
_SIMILAR = ("similarto", "anatomy", "finding", "samepatient", "withreport", "samescanner")
_RENDERED = ("viewport", "window", "quality")
_DATASETS = (DICOM_JSON, XML_PARTS)
_STORED = (DICOM, DICOM_JSON, DICOM_XML)

# Endpoint -> query parameters, media types of the response, media types of the request.
_DETAILS: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "similar.studies": ((*_QIDO, *_SIMILAR), (*_DATASETS, DICOM), ()),
    "similar.similar": ((*_QIDO, *_SIMILAR[1:]), (*_DATASETS, DICOM), ()),
    "similar.store_similar": ((*_QIDO, *_SIMILAR[1:]), (*_DATASETS, DICOM), ()),
    "stow.store": ((), (DICOM_JSON, DICOM_XML), (*map(multipart, _STORED), *_STORED)),
    "wado.retrieve": ((), ("multipart/related; type=" + DICOM,), ()),
    "wado.retrieve_instance": ((), ("multipart/related; type=" + DICOM, DICOM), ()),
    "wado.retrieve_frames": ((), ("multipart/related; type=" + OCTETS, OCTETS), ()),
    "rendered.rendered_instance": (_RENDERED, (PNG, JPEG, HTML, PLAIN, PDF), ()),
    "metadata.metadata": ((), _DATASETS, ()),
    "metadata.metadata_of_instance": ((), _DATASETS, ()),
    "metadata.bulk_data": ((), ("multipart/related; type=" + OCTETS, OCTETS), ()),
}


@blueprint.route("/", methods=["OPTIONS"], provide_automatic_options=False)
def describe() -> Response:
    """Describe the service as WADL (PS3.18 8.9)."""
    media_type, _ = choose((WADL, "application/xml"))
    return Response(_wadl(), content_type=media_type)


def _wadl() -> bytes:
    ET.register_namespace("", _NAMESPACE)
    application = ET.Element(f"{{{_NAMESPACE}}}application")
    resources = _child(application, "resources", base=services().base_url)
    by_path: dict[str, ET.Element] = {}
    for rule in sorted(current_app.url_map.iter_rules(), key=lambda rule: rule.rule):
        if not rule.rule.startswith(BASE + "/") or rule.endpoint == "capabilities.describe":
            continue
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule.removeprefix(BASE + "/"))
        resource = by_path.get(path)
        if resource is None:
            resource = by_path[path] = _child(resources, "resource", path=path)
            for name in re.findall(r"{(\w+)}", path):
                _child(resource, "param", name=name, style="template")
        for verb in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            _method(resource, verb, rule.endpoint)
    written: bytes = ET.tostring(application, encoding="utf-8", xml_declaration=True)
    return written


def _method(resource: ET.Element, verb: str, endpoint: str) -> None:
    blueprint_name = endpoint.partition(".")[0]
    defaults = {"qido": _QIDO, "rendered": _RENDERED}.get(blueprint_name, ())
    answers = {"qido": _DATASETS, "rendered": (PNG, JPEG)}.get(blueprint_name, (DICOM_JSON,))
    query, given, taken = _DETAILS.get(endpoint, (defaults, answers, ()))
    method = _child(resource, "method", name=verb, id=endpoint)
    asked = _child(method, "request")
    _child(asked, "param", name="Accept", style="header", default=given[0])
    for name in query:
        _child(asked, "param", name=name, style="query", repeating="true" if name == "includefield" else "false")
    for media_type in taken:
        _child(asked, "representation", mediaType=media_type)
    answered = _child(method, "response", status="200")
    for media_type in given:
        _child(answered, "representation", mediaType=media_type)


def _child(parent: ET.Element, element: str, /, **attributes: str) -> ET.Element:
    return ET.SubElement(parent, f"{{{_NAMESPACE}}}{element}", attributes)
