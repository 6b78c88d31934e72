"""Which role reaches which route. What is not listed is closed to everybody, so a new route needs an entry.

The rights of a sidebar's token depend on its study: `context_rights`. Routes that need no token: `auth`.
"""

from __future__ import annotations

from radir_pacs.callers import Role

_ADMINISTRATOR, _RADIOLOGIST, _SERVICE = Role.ADMINISTRATOR, Role.RADIOLOGIST, Role.SERVICE
_ALL = frozenset({_ADMINISTRATOR, _RADIOLOGIST, _SERVICE})
_READERS = frozenset({_ADMINISTRATOR, _RADIOLOGIST})  # people
_SYSTEMS = frozenset({_ADMINISTRATOR, _SERVICE})  # whatever changes the archive

RIGHTS: dict[str, frozenset[Role]] = {
    # reading studies
    "qido.all_series": _ALL,
    "qido.all_instances": _ALL,
    "qido.series_of_study": _ALL,
    "qido.instances_of_study": _ALL,
    "qido.instances_of_series": _ALL,
    "wado.retrieve": _ALL,
    "wado.retrieve_instance": _ALL,
    "wado.retrieve_frames": _ALL,
    "wado_uri.retrieve": _ALL,
    "metadata.metadata": _ALL,
    "metadata.metadata_of_instance": _ALL,
    "metadata.bulk_data": _ALL,
    "rendered.rendered": _ALL,
    "rendered.rendered_instance": _ALL,
    "rendered.rendered_frame": _ALL,
    "rendered.thumbnail": _ALL,
    "rendered.thumbnail_instance": _ALL,
    "admin.state": _ALL,
    "handover.held": _ALL,
    "handover.job": _ALL,
    # asking for similar cases; also the search for studies
    "similar.studies": _ALL,
    "similar.similar": _ALL,
    "similar.store_similar": _ALL,
    "sidebar.study": _ALL,
    "sidebar.similar": _ALL,
    "sidebar.slices": _ALL,
    "judgements.judge": _READERS,
    "judgements.judged": _READERS,
    "judgements.report": _READERS,
    # names and pages, which tell nothing about a patient by themselves
    "capabilities.describe": _ALL,
    "sidebar.regions": _ALL,
    "sidebar.findings": _ALL,
    "sidebar.typed": _ALL,
    "viewer.sidebar": _ALL,
    "pages.developers": _ALL,
    "pages.sign_in": _ALL,
    "admin.status": _ALL,
    "figures.metrics": _SYSTEMS,
    "static": _ALL,
    "ohif.file": _ALL,  # its pages; its programs are open
    # pages about studies
    "pages.start": _READERS,
    "pages.study": _READERS,
    "pages.similar": _READERS,
    # changing the archive
    "stow.store": _SYSTEMS,
    "fhir.create": _SYSTEMS,
    "fhir.update": _SYSTEMS,
    "admin.complete": _SYSTEMS,
    "admin.pull": _SYSTEMS,
    "admin.delete": _SYSTEMS,
    "deletion.delete_part": _SYSTEMS,
    "viewer.context": _SYSTEMS,  # in a reader's name
}


def may(role: Role, endpoint: str | None) -> bool:
    """Whether the role reaches the route; a path without one (None) is answered 404 to whoever bears a token."""
    return endpoint is None or role in RIGHTS.get(endpoint, frozenset())
