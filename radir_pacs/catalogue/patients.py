"""Patients that merge, and what they are called: studies follow at once, and a merge can be undone.

An instance keeps the ids it came with. A study belongs to the patients of its instances and to all that these became
(``keys_of_patient`` in schema.sql), so that "the same patient" is known by any of them; the patient
details it shows are those of the last patient in the merge chain. Images that come under an old id follow by a trigger.
"""

from __future__ import annotations

from typing import Any

from radir_pacs.catalogue.database import Connection, run
from radir_pacs.catalogue.incoming import Demographics, PatientMerge, PatientUpdate
from radir_pacs.catalogue.names import folded
from radir_pacs.catalogue.part import CataloguePart


class Patients(CataloguePart):
    def merge(self, merge: PatientMerge) -> None:
        """Let studies follow a merge, or undo it. What was said before changes nothing."""
        with self._database.transaction() as connection:
            apply_merge(connection, merge)

    def update(self, update: PatientUpdate) -> None:
        """Let studies show what their patient is called now."""
        with self._database.transaction() as connection:
            apply_update(connection, update)


def apply_merge(connection: Connection, merge: PatientMerge) -> None:
    """`Patients.merge` inside a transaction."""
    for prior_key, key in merge.pairs:
        if prior_key == key:
            continue
        names = {"prior_key": prior_key, "key": key}
        run(connection, "lock_studies_of_patients", keys=[prior_key, key])
        if merge.undone:
            _undo(connection, names)
            _undo(connection, {"prior_key": key, "key": prior_key})
            continue
        _undo(connection, {"prior_key": key, "key": prior_key})  # the other way round, as was said before
        link = run(connection, "link_patients", names).fetchone()
        if link is not None:
            run(connection, "note_moves", names, link_id=link["id"])
            run(connection, "move_studies", names | _shown(merge.says), id=key.partition("\\")[2])


def apply_update(connection: Connection, update: PatientUpdate) -> None:
    """`Patients.update` inside a transaction."""
    keys = list(update.keys)
    run(connection, "lock_studies_of_patients", keys=keys)
    run(connection, "rename_patient", _shown(update.says), keys=keys)


def _undo(connection: Connection, names: dict[str, str]) -> None:
    link = run(connection, "unlink_patients", names).fetchone()
    if link is None:
        return
    run(connection, "move_back", link_id=link["id"])
    run(connection, "keys_as_sent", prior_key=names["prior_key"])
    run(connection, "forget_moves", link_id=link["id"])


def _shown(says: Demographics) -> dict[str, Any]:
    return {
        "patient_name": says.name,
        "patient_name_folded": None if says.name is None else folded(says.name),
        "patient_sex": says.sex,
        "patient_birth_date": says.birth_date,
    }
