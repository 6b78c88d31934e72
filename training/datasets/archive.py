"""Our own catalogue as a report collection, with patients under pseudonyms."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterator
from pathlib import Path

from radir_pacs import durable
from radir_pacs.catalogue import Catalogue
from radir_pacs.errors import BadInput
from radir_pacs.reports.kind import kind_of
from radir_pacs.types import ImageKind

KEY_FILE = "pseudonym.key"  # in the home folder
_KEY_BYTES = 32


class Archive:
    """The reported studies of a catalogue, as `sources.archive` takes them.

    A patient's key is an HMAC-SHA256 of issuer and id under ``key``: without it nobody can test ids, and with the same
    key a patient stays in the same split in every build. A study without a patient id counts as a separate patient.
    ``left_out`` counts studies that are neither chest radiograph nor CT by their modalities, or both.
    """

    def __init__(self, catalogue: Catalogue, key: bytes) -> None:
        self._catalogue = catalogue
        self._key = key
        self.left_out = 0

    def reported_studies(self) -> Iterator[tuple[str, str, str, ImageKind]]:
        """(study UID, pseudonym of the patient, newest report, kind) of each, a page of the catalogue at a time."""
        for study in self._catalogue.reports.reported_studies():
            kind = kind_of(study.modalities)
            if kind is None:
                self.left_out += 1
                continue
            name = f"patient {study.patient_key}" if study.patient_key else f"study {study.study_uid}"
            pseudonym = hmac.new(self._key, name.encode(), hashlib.sha256).hexdigest()
            yield study.study_uid, pseudonym, study.body, kind


def pseudonym_key(home: Path) -> bytes:
    """The installation's key for pseudonyms, made at its first use; readable by its owner only.

    Raises BadInput when the file holds something else.
    """
    path = home / KEY_FILE
    home.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        durable.create(path, secrets.token_bytes(_KEY_BYTES), mode=0o600)  # or another build was first: its key is used
    key = path.read_bytes()
    if len(key) != _KEY_BYTES:
        raise BadInput(f"{path} is not a key for pseudonyms; without the file a new key is made and the splits change")
    return key
