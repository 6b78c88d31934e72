"""Anonymous references: a name for a case that says nothing about a patient and stays the same within one installation.

It is a keyed hash of the Study Instance UID. Only the holder of the installation's key can find the
study again; each such look-up stands in the audit trail.
"""

from __future__ import annotations

import hashlib
import re

from radir_pacs.access.keys import installation_key
from radir_pacs.callers import AuditEvent, Caller
from radir_pacs.catalogue import Catalogue
from radir_pacs.config import Settings
from radir_pacs.errors import BadInput

_REFERENCE = re.compile(r"\bSC-[0-9A-F]{5}-[0-9A-F]{5}\b")


def reference(study_uid: str, settings: Settings) -> str:
    """The reference of a study."""
    return _hashed(study_uid, key_of_references(settings))


def pseudonym(patient_key: str, settings: Settings) -> str:
    """The same for a patient (issuer and id): two studies of one patient bear one pseudonym."""
    return "P" + _hashed("patient " + patient_key, key_of_references(settings))[2:]


def reference_in(text: str) -> str | None:
    """The reference in what somebody pasted, perhaps with the region and score that were copied with it."""
    found = _REFERENCE.search(text.upper())
    return found[0] if found else None


def resolve(text: str, catalogue: Catalogue, settings: Settings, *, by: Caller) -> tuple[str, ...]:
    """The studies that the reference in ``text`` means: none if it was deleted or is out of scope, very rarely two.

    The look-up is recorded before anybody learns the answer. Raises BadInput when there is no reference in ``text``.
    """
    wanted = reference_in(text)
    if wanted is None:
        raise BadInput("this is not a reference of the form SC-12345-6789A")
    key = key_of_references(settings)
    found = tuple(uid for uid in catalogue.studies.uids() if _hashed(uid, key) == wanted)
    if by.scope.restricts:  # also where nothing was found: no time tells that it is out of scope
        found = tuple(sorted(catalogue.studies.in_scope(found, by.scope)))
    for uid in found or (None,):
        catalogue.audit.note(AuditEvent.RESOLVED, by, uid, reference=wanted)
    return found


def _hashed(study_uid: str, key: bytes) -> str:
    digest = hashlib.blake2b(study_uid.encode(), key=key, digest_size=5).hexdigest().upper()
    return f"SC-{digest[:5]}-{digest[5:]}"


def key_of_references(settings: Settings) -> bytes:
    return installation_key(settings.home / "reference.key", "no reference of before is found again")
