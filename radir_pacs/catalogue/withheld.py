"""Patients whose studies are withheld: from research, or from everybody but administrators."""

from __future__ import annotations

from radir_pacs.callers import AuditEvent, Caller
from radir_pacs.catalogue.access_rows import WithheldPatient
from radir_pacs.catalogue.audit import note
from radir_pacs.catalogue.database import Connection, run
from radir_pacs.catalogue.part import CataloguePart
from radir_pacs.errors import BadInput, NotFound
from radir_pacs.scopes import Withheld


class WithheldPatients(CataloguePart):
    def add(self, patient: str, degree: Withheld, *, by: Caller, reason: str = "") -> None:
        """Withhold a patient, whose studies may come later; ``patient``: an id, or issuer and id with a backslash.

        Triggers keep every study's degree; within a second no search returns it to those from whom it is withheld.
        Raises BadInput where the id alone may mean several people.
        """
        keys = self._keys(patient)
        with self._database.transaction() as connection:
            run(connection, "withhold", patient_keys=keys, degree=int(degree), reason=reason, by=by.name)
            note(connection, AuditEvent.WITHHELD, by, detail={"degree": degree.name}, patient_keys=keys)
        self._look_again(keys)

    def remove(self, patient: str, *, by: Caller) -> None:
        """The patient is withheld no more. Raises NotFound."""
        with self._database.transaction() as connection:
            gone = run(connection, "show_again", patient_keys=self._keys(patient)).fetchall()
            if not gone:
                raise NotFound("this patient is not withheld")
            keys = [row["patient_key"] for row in gone]
            note(connection, AuditEvent.SHOWN_AGAIN, by, patient_keys=keys)
        self._look_again(keys)

    def look_again(self, within_s: float | None = None) -> int:
        """Withhold studies whose first instance was being committed when their patient was; returns how many.

        ``within_s``: of patients who were withheld so lately; None: of all, who may be many.
        """
        return self._look_again(None, within_s)

    def _look_again(self, keys: list[str] | None, within_s: float | None = None) -> int:
        with self._database.transaction() as connection:
            return run(connection, "withhold_late", patient_keys=keys, within_s=within_s).rowcount

    def all(self) -> tuple[WithheldPatient, ...]:
        """Every withheld patient, the newest decision first."""
        with self._database.transaction() as connection:
            rows = run(connection, "withheld").fetchall()
        return tuple(WithheldPatient(**{**row, "degree": Withheld(row["degree"])}) for row in rows)

    def _keys(self, patient: str) -> list[str]:
        if "\\" in patient:
            return [patient]
        with self._database.transaction() as connection:
            return known_keys(connection, patient)


def known_keys(connection: Connection, patient_id: str) -> list[str]:
    """The key under which a patient's id is known here; one without issuer where it is not known yet.

    Raises BadInput where patients of several issuers have it: they may be different people.
    """
    found = [row["patient_key"] for row in run(connection, "known_keys_of_patient_id", patient_id=patient_id)]
    if len(found) > 1:
        named = " or ".join(repr(key) for key in found)
        raise BadInput(f"several patients have this id: name one with its issuer, {named}")
    return found or ["\\" + patient_id]
