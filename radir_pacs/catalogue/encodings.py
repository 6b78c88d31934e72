"""Models, region vectors, and how searching processes learn of them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from radir_pacs.catalogue.bulk import Beside, ranges
from radir_pacs.catalogue.cases import ids_of
from radir_pacs.catalogue.database import Connection, Database, Row, run
from radir_pacs.catalogue.image_tokens import keep_of
from radir_pacs.catalogue.index_rows import Changes, EncodingOwner
from radir_pacs.catalogue.jobs import finish, hold
from radir_pacs.catalogue.part import CataloguePart
from radir_pacs.catalogue.reencoding import encode_under_others
from radir_pacs.catalogue.studies import study_of
from radir_pacs.config import Settings
from radir_pacs.errors import NotFound
from radir_pacs.image_notes import ImageNote
from radir_pacs.types import F32, I64, Encoding, ImageKind, Job, SliceStack, StudyState

EVERYTHING = "0"  # the reading before all others
_ENCODED = (StudyState.ENCODED, StudyState.INDEXED)
_RANGE_OF_IDS = 262_144  # 2 MB
# Vectors are read half a megabyte at a time. More leaves the processor's cache on its way through server, socket and
# client, and takes twice the time; a connection keeps room for as much as it ever received at once.
_AT_ONCE_BYTES = 512 << 10
_FEWEST_IDS = 256  # at a time


class Encodings(CataloguePart):
    def __init__(self, database: Database, settings: Settings) -> None:
        super().__init__(database, settings)
        self._halving = threading.Lock()

    def save_several(
        self, study_uid: str, encodings: Sequence[Encoding], revision: int, job: Job | None = None
    ) -> bool:
        """The study is ENCODED with exactly these encodings, and ``job`` ends, in one transaction.

        False, with the job ended and nothing saved, when new images came after ``revision``: the study was re-opened
        and its next encode job supersedes this result. Other models that are kept encode the study after this: one that
        was promoted meanwhile at once. Raises LeaseLost, NotFound (study or model).
        """
        with self._database.transaction() as connection:
            study = run(connection, "lock_study", study_uid=study_uid).fetchone()
            if job is not None:
                hold(connection, job)
            if study is None:
                raise NotFound(f"there is no study {study_uid}")
            current: bool = study["revision"] == revision
            if current:
                kinds = _replace(connection, study_uid, encodings, revision)
                values = {
                    "study_uid": study_uid,
                    "state": StudyState.ENCODED,
                    "reason": None,
                    "reason_code": None,
                    "revision": revision,
                }
                run(connection, "set_study_state", values)
                encode_under_others(connection, study_uid, kinds, self._settings.job_max_attempts)
            if job is not None:
                finish(connection, job, None if current else "superseded")
        return current

    def save_beside(self, encoding: Encoding, revision: int, job: Job) -> bool:
        """The encoding of a study under one model beside those that it has, and ``job`` ends, in one transaction.

        False, with the job ended and nothing saved, when the study has moved on from ``revision``. Raises LeaseLost,
        NotFound (study or model).
        """
        study_uid = encoding.study_uid
        with self._database.transaction() as connection:
            study = run(connection, "lock_study", study_uid=study_uid).fetchone()
            hold(connection, job)
            if study is None:
                raise NotFound(f"there is no study {study_uid}")
            current: bool = study["revision"] == revision and study["state"] in _ENCODED
            if current:
                run(connection, "drop_encoding", study_uid=study_uid, model_id=encoding.model_id)
                _add(connection, study_uid, encoding, revision)
            finish(connection, job, None if current else "superseded")
        return current

    def save(self, encoding: Encoding, revision: int, job: Job | None = None) -> bool:
        """`save_several` for a study with one."""
        return self.save_several(encoding.study_uid, [encoding], revision, job)

    def get(self, study_uid: str, model_id: str) -> Encoding | None:
        """The encoding of a study under a model."""
        with self._database.transaction() as connection:
            row = run(connection, "encoding_of", study_uid=study_uid, model_id=model_id).fetchone()
        return None if row is None else encoding_of(row)

    def slices(self, study_uid: str, series_uid: str) -> SliceStack | None:
        """Where the chest lies in a CT series that was encoded; None for other series."""
        with self._database.transaction() as connection:
            row = run(connection, "slices_of_series", study_uid=study_uid, series_uid=series_uid).fetchone()
        return _stack(row) if row is not None else None

    def is_compared(self, study_uid: str, series_uid: str, sop_uid: str) -> bool:
        """Whether a model compares this instance: the radiograph of a study, or a slice of its CT series."""
        values = {"study_uid": study_uid, "series_uid": series_uid, "sop_uid": sop_uid}
        with self._database.transaction() as connection:
            return run(connection, "is_compared", values).fetchone() is not None

    def models_of_study(self, study_uid: str) -> tuple[tuple[str, ImageKind], ...]:
        """The models that answer under which a study is encoded."""
        with self._database.transaction() as connection:
            rows = run(connection, "encodings_of_study", study_uid=study_uid).fetchall()
        return tuple((row["model_id"], ImageKind(row["kind"])) for row in rows)

    def changes(self, model_id: str, region: str, since: str = EVERYTHING) -> Changes:
        """What a partition has to take in since an earlier reading's ``xid``. Raises NotFound.

        A highest id would miss rows whose transaction commits late; the snapshot's xmin misses none and repeats some.
        """
        place = {"model_id": model_id, "region": region}
        with self._database.transaction() as connection:
            model = run(connection, "model", model_id=model_id).fetchone()
            if model is None:
                raise NotFound(f"there is no model {model_id}")
            snapshot = run(connection, "snapshot_xmin").fetchone()
            assert snapshot is not None
            gone = ids_of(run(connection, "encodings_gone_since", place, since=since))
            found = _packed(connection, place, since, gone, snapshot["xmin"], model["dim"], self._beside)
            return replace(found, horizon=snapshot["horizon"])

    @contextlib.contextmanager
    def _beside(self) -> Iterator[Connection | None]:
        """A second connection for one thread at a time: several that each wait for another one would hold them all.

        Its statements see what was committed before they began, as each of the first connection does by itself.
        """
        if not self._halving.acquire(blocking=False):
            yield None
            return
        try:
            with self._database.spare() as connection:
                yield connection
        finally:
            self._halving.release()

    def labels_until(self, model_id: str, region: str, until: str) -> I64:
        """Ids of the encodings with a region that were committed before a snapshot's ``xid``, ascending."""
        place = {"region": region, "until": until}
        with (
            self._database.transaction() as connection,
            ranges(
                connection, "labels_in_range", place, model_id=model_id, since=EVERYTHING, width=_RANGE_OF_IDS
            ) as rows,
        ):
            found = np.frombuffer(b"".join(row["ids"] or b"" for row in rows), ">i8")
        return np.sort(found.astype(np.int64))

    def vectors_of(self, model_id: str, region: str, ids: I64) -> tuple[I64, F32]:
        """Ids, ascending, and their vectors of a region (float32 [n, dim]); those that are gone are missing."""
        if not len(ids):
            return np.empty(0, np.int64), np.empty((0, 0), np.float32)
        (row,) = self._database.ask("vectors_of", {"model_id": model_id, "region": region, "ids": ids.tolist()})
        labels = np.frombuffer(row["ids"] or b"", ">i8").astype(np.int64)
        vectors = np.frombuffer(row["vectors"] or b"", "<f4").astype(np.float32, copy=False)
        order = np.argsort(labels)
        return labels[order], vectors.reshape(len(labels), -1 if len(labels) else 0)[order]


def encoding_of(row: Row) -> Encoding:
    """An encoding from its row."""
    vectors = np.frombuffer(row["vectors"], "<f4").reshape(len(row["regions"]), -1).astype(np.float32)
    texts = {name: row[name] for name in ("study_uid", "series_uid", "sop_uid", "model_id")}
    return Encoding(
        **texts,
        regions=tuple(row["regions"]),
        warnings=tuple(map(ImageNote.read, row["warnings"])),
        vectors=vectors,
        slices=_stack(row),
    )


def owner_of(row: Row) -> EncodingOwner:
    """Whose encoding it is, from a row of ``encoding_owners``."""
    return EncodingOwner(study=study_of(row), series_uid=row["series_uid"], sop_uid=row["sop_uid"], slices=_stack(row))


def changes_of(added: Sequence[Row], gone: I64, xid: str, horizon: str, dim: int) -> Changes:
    """The news of a partition, from rows of ``encodings_since``."""
    vectors = np.frombuffer(b"".join(row["vector"] for row in added), "<f4").astype(np.float32, copy=False)
    ids = np.fromiter((row["id"] for row in added), np.int64)
    return Changes(ids=ids, vectors=vectors.reshape(len(added), dim), gone=gone, xid=xid, horizon=horizon)


def _packed(
    connection: Connection, place: dict[str, str], since: str, gone: I64, xid: str, dim: int, beside: Beside
) -> Changes:
    """The vectors of a partition; they stand in memory once, and once more only to be sorted."""
    ids, vectors = bytearray(), bytearray()
    values = {"region": place["region"], "size": dim * 4}
    model_id = place["model_id"]
    width = max(_FEWEST_IDS, _AT_ONCE_BYTES // (dim * 4))
    with ranges(
        connection, "vectors_in_range", values, model_id=model_id, since=since, width=width, beside=beside
    ) as rows:
        for row in rows:
            ids += row["ids"] or b""
            vectors += row["vectors"] or b""
    labels = np.frombuffer(ids, ">i8").astype(np.int64)
    found = np.frombuffer(vectors, "<f4").reshape(len(labels), dim)
    if np.any(labels[1:] <= labels[:-1]):
        order = np.argsort(labels)
        labels, found = labels[order], found[order]
    return Changes(ids=labels, vectors=found, gone=gone, xid=xid)


def _replace(connection: Connection, study_uid: str, encodings: Sequence[Encoding], revision: int) -> list[str]:
    """Returns the kinds of image that are encoded."""
    kinds = [_model_of(connection, encoding)["kind"] for encoding in encodings]
    names = {"study_uid": study_uid, "model_ids": [encoding.model_id for encoding in encodings]}
    run(connection, "drop_encodings", names, kinds=kinds, revision=revision)
    for encoding in encodings:
        _add(connection, study_uid, encoding, revision)
    return kinds


def _model_of(connection: Connection, encoding: Encoding) -> Row:
    model = run(connection, "model", model_id=encoding.model_id).fetchone()
    if model is None:
        raise NotFound(f"there is no model {encoding.model_id}")
    return model


def _add(connection: Connection, study_uid: str, encoding: Encoding, revision: int) -> None:
    model = _model_of(connection, encoding)
    if encoding.study_uid != study_uid or encoding.vectors.shape[1] != model["dim"]:
        raise ValueError("the encoding is of another study or vector length")
    stack = encoding.slices
    values = {
        "study_uid": study_uid,
        "series_uid": encoding.series_uid,
        "sop_uid": encoding.sop_uid,
        "model_id": encoding.model_id,
        "revision": revision,
        "regions": list(encoding.regions),
        "vectors": np.ascontiguousarray(encoding.vectors, "<f4").tobytes(),
        "warnings": list(map(str, encoding.warnings)),
        "slices": list(stack.images) if stack else None,
        "chest": [stack.dome, stack.apex, stack.step_mm] if stack else None,
    }
    run(connection, "add_encoding", values)
    run(connection, "note_partitions", values)
    keep_of(connection, encoding, revision)


def _stack(row: Row) -> SliceStack | None:
    if row["slices"] is None:
        return None
    dome, apex, step_mm = row["chest"]
    return SliceStack(images=tuple(row["slices"]), dome=dome, apex=apex, step_mm=step_mm)
