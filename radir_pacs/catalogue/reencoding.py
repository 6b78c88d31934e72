"""The archive encoded in the background: studies queued for a model a few at a time, and models cleared away.

The queue never holds more than a few hundred jobs of a model, however large the archive is. Where it stands is kept in
the model's row, so any process may be killed at any moment.
"""

from __future__ import annotations

from radir_pacs.catalogue.database import Connection, run
from radir_pacs.catalogue.jobs import failed_job_of
from radir_pacs.catalogue.part import CataloguePart
from radir_pacs.catalogue.rows import FailedJob
from radir_pacs.types import ImageKind, ModelState, Urgency

MOST_QUEUED = 256  # of a model
_LOOK = 20_000  # encodings looked at a time
_PRUNED = 2_000  # encodings cleared away in a transaction
_PRUNINGS = 4  # such transactions in one call: the relay has other work, and a model may have a million encodings


class Reencoding(CataloguePart):
    def feed(self) -> int:
        """Queue the next studies of the archive for the models that lack them; returns how many.

        ``reencode_per_minute`` bounds those for models that do not answer. Two processes may do this at once.
        """
        queued = 0
        with self._database.transaction() as connection:
            run(connection, "feeds_models")
            for row in run(connection, "models_to_feed").fetchall():
                open_jobs = run(connection, "open_reencodings", model_id=row["model_id"]).fetchone()
                assert open_jobs is not None
                serves = row["state"] == ModelState.SERVING
                room = MOST_QUEUED - int(open_jobs["n"])
                if not serves and (rate := self._settings.reencode_per_minute):
                    room = min(room, int(rate / 60 * min(row["since_s"], max(60.0, 60 / rate))))
                if room > 0:
                    queued += self._feed(connection, row, room, Urgency.ARCHIVE if serves else Urgency.BACKGROUND)
        return queued

    def _feed(self, connection: Connection, row: dict[str, object], room: int, urgency: Urgency) -> int:
        values = {name: row[name] for name in ("model_id", "kind", "fed_below")}
        asked = {"look": _LOOK, "room": room, "urgency": urgency, "max_attempts": self._settings.job_max_attempts}
        fed = run(connection, "feed_model", values | asked).fetchone()
        assert fed is not None
        run(connection, "model_fed", model_id=row["model_id"], fed_below=fed["fed_below"], queued=fed["queued"])
        return int(fed["queued"])

    def is_done(self, model_id: str) -> bool:
        """Whether no study is queued for the model, and none of the archive will be."""
        with self._database.transaction() as connection:
            row = run(connection, "open_reencodings", model_id=model_id).fetchone()
        return row is not None and not row["n"] and not row["more"]

    def again(self, model_id: str) -> bool:
        """Go through the archive once more for this model, failed studies too. False: it is being gone through."""
        with self._database.transaction() as connection:
            return run(connection, "feed_again", model_id=model_id).rowcount > 0

    def failed(self, study_uid: str) -> FailedJob | None:
        """Why the model that answers could not encode a study; None where it did, or will try."""
        with self._database.transaction() as connection:
            row = run(connection, "failed_under_serving", study_uid=study_uid).fetchone()
        return None if row is None else failed_job_of(row)

    def note_coverage(self, model_id: str, share: float) -> None:
        """What part of the studies the model that answers covers, for its answers to say."""
        with self._database.transaction() as connection:
            run(connection, "note_coverage", model_id=model_id, coverage=share)

    def to_prune(self) -> tuple[tuple[str, ImageKind], ...]:
        """Models whose time for a rollback is over, with something left of them."""
        with self._database.transaction() as connection:
            return tuple((row["model_id"], ImageKind(row["kind"])) for row in run(connection, "models_to_prune"))

    def prune(self, model_id: str, kind: ImageKind) -> bool:
        """Clear away some of what the catalogue holds of such a model, and say so in the history; False: there is more.

        May be killed anywhere. Its bundle is forgotten first, so nobody brings it forward meanwhile. One that was
        brought forward since ``to_prune`` is left alone.
        """
        with self._database.transaction() as connection:
            run(connection, "lock_models")
            if run(connection, "model_may_go", model_id=model_id).fetchone() is None:
                return True
            if run(connection, "model_has_bundle", model_id=model_id, sha256=None).rowcount:
                values = {"model_id": model_id, "kind": kind, "change": "PRUNED", "replaces": None, "evidence": ""}
                said = {
                    "who": "rule:time for a rollback is over",
                    "reason": "encodings, index and bundle cleared away",
                }
                run(connection, "add_model_event", values | said, coverage=None)
            run(connection, "prune_model_generations", model_id=model_id)
            run(connection, "prune_partitions", model_id=model_id)
        left = ["prune_encodings", "prune_tokens"]
        for _ in range(_PRUNINGS):
            with self._database.transaction() as connection:
                if run(connection, left[0], model_id=model_id, limit=_PRUNED).rowcount < _PRUNED:
                    del left[0]
            if not left:
                return True
        return False


def encode_under_others(connection: Connection, study_uid: str, kinds: list[str], max_attempts: int) -> None:
    """To be called in the transaction that saves a study's encodings: the other models that are kept follow."""
    values = {"study_uid": study_uid, "kinds": kinds, "max_attempts": max_attempts}
    run(connection, "encode_under_others", values, new=Urgency.NEW, beside=Urgency.BESIDE)
