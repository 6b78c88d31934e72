"""Which role reaches which route. What is not listed is closed to everybody, so a new route needs an entry.

A session has the rights of its account's role. Those of a sidebar's token depend on its study: `context_rights`. Routes
that need neither: `auth`.
"""

from __future__ import annotations

from radir_pacs.callers import Role

_ADMINISTRATOR, _RADIOLOGIST, _SERVICE = Role.ADMINISTRATOR, Role.RADIOLOGIST, Role.SERVICE
_ALL = frozenset({_ADMINISTRATOR, _RADIOLOGIST, _SERVICE})
_ALSO_RESEARCH = _ALL | {Role.RESEARCHER}  # nothing there names a patient to a researcher
_READERS = frozenset({_ADMINISTRATOR, _RADIOLOGIST})  # people
_ADMINISTRATORS = frozenset({_ADMINISTRATOR})
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
    "rendered.rendered_instance": _ALSO_RESEARCH,
    "rendered.rendered_frame": _ALSO_RESEARCH,
    "rendered.thumbnail": _ALL,
    "rendered.thumbnail_instance": _ALSO_RESEARCH,
    "studies.state": _ALSO_RESEARCH,
    "handover.held": _ALL,
    "handover.job": _ALL,
    # asking for similar cases; also the search for studies
    "similar.studies": _ALSO_RESEARCH,
    "similar.similar": _ALSO_RESEARCH,
    "similar.store_similar": _ALL,
    "sidebar.study": _ALSO_RESEARCH,
    "sidebar.similar": _ALSO_RESEARCH,
    "sidebar.slices": _ALSO_RESEARCH,
    "judgements.judge": _READERS,
    "judgements.judged": _READERS,
    "judgements.report": _READERS,
    # names and pages, which tell nothing about a patient by themselves
    "capabilities.describe": _ALSO_RESEARCH,
    "sidebar.regions": _ALSO_RESEARCH,
    "sidebar.findings": _ALSO_RESEARCH,
    "sidebar.typed": _ALSO_RESEARCH,
    "viewer.sidebar": _ALSO_RESEARCH,
    "pages.developers": _ALL,
    "sign_in.out": _ALSO_RESEARCH,
    "sign_in.account": _ALSO_RESEARCH,
    "sign_in.change_password": _ALSO_RESEARCH,
    "studies.status": _ALL,
    "figures.metrics": _SYSTEMS,
    "static": _ALSO_RESEARCH,
    "ohif.file": _ALSO_RESEARCH,  # its pages; its programs are open
    # pages about studies
    "pages.start": _READERS,
    "pages.study": _READERS,
    "pages.similar": _READERS,
    # a patient out of scope, with a reason; administrators see every study as it is
    "emergency.offered": _ALSO_RESEARCH,  # says no to all others: the sidebar asks, and means no harm
    "emergency.ask": frozenset({_RADIOLOGIST}),
    "emergency.begin": frozenset({_RADIOLOGIST}),
    "emergency.end": frozenset({_RADIOLOGIST}),
    # changing the archive
    "stow.store": _SYSTEMS,
    "fhir.create": _SYSTEMS,
    "fhir.update": _SYSTEMS,
    "studies.complete": _SYSTEMS,
    "studies.pull": _SYSTEMS,
    "studies.delete": _SYSTEMS,
    "deletion.delete_part": _SYSTEMS,
    "viewer.context": _SYSTEMS,  # in a reader's name
    # the administrator's pages
    "admin_accounts.accounts": _ADMINISTRATORS,
    "admin_accounts.account": _ADMINISTRATORS,
    "admin_accounts.add": _ADMINISTRATORS,
    "admin_accounts.act": _ADMINISTRATORS,
    "admin_accounts.change": _ADMINISTRATORS,
    "admin_tokens.tokens": _ADMINISTRATORS,
    "admin_tokens.create": _ADMINISTRATORS,
    "admin_tokens.revoke": _ADMINISTRATORS,
    "admin_emergencies.emergencies": _ADMINISTRATORS,
    "admin_emergencies.end": _ADMINISTRATORS,
    "admin_overview.overview": _ADMINISTRATORS,
    "admin_overview.live": _ADMINISTRATORS,
    "admin_overview.ask_retry": _ADMINISTRATORS,
    "admin_overview.retry": _ADMINISTRATORS,
    "admin_studies.studies": _ADMINISTRATORS,
    "admin_studies.study": _ADMINISTRATORS,
    "admin_studies.retry": _ADMINISTRATORS,
    "admin_studies.complete": _ADMINISTRATORS,
    "admin_models.models": _ADMINISTRATORS,
    "admin_models.live": _ADMINISTRATORS,
    "admin_models.model": _ADMINISTRATORS,
    "admin_models.ask": _ADMINISTRATORS,
    "admin_models.act": _ADMINISTRATORS,
    "admin_models.ask_rollback": _ADMINISTRATORS,
    "admin_models.rollback": _ADMINISTRATORS,
    "admin_retraining.runs": _ADMINISTRATORS,
    "admin_retraining.try_plan": _ADMINISTRATORS,
    "admin_retraining.start": _ADMINISTRATORS,
    "admin_retraining.run": _ADMINISTRATORS,
    "admin_retraining.live": _ADMINISTRATORS,
    "admin_retraining.cancel": _ADMINISTRATORS,
    "admin_retraining.resume": _ADMINISTRATORS,
    "admin_retraining.evidence": _ADMINISTRATORS,
    "admin_quality.quality": _ADMINISTRATORS,
    "admin_feedback.feedback": _ADMINISTRATORS,
}


_OWN_ACCOUNT = frozenset({"sign_in.out", "sign_in.account", "sign_in.change_password", "static"})


def is_own_account(endpoint: str | None) -> bool:
    """Whether it is what somebody reaches who has to choose a password first."""
    return endpoint in _OWN_ACCOUNT


def may(role: Role, endpoint: str | None) -> bool:
    """Whether the role reaches the route; a path without one (None) is answered 404 to whoever bears a token."""
    return endpoint is None or role in RIGHTS.get(endpoint, frozenset())
