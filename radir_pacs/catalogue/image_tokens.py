"""Image tokens that are kept beside the encodings; they go with their study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from radir_pacs.catalogue.database import Connection, Row, run
from radir_pacs.catalogue.model_rows import KeptCount
from radir_pacs.catalogue.part import CataloguePart
from radir_pacs.image_notes import ImageNote
from radir_pacs.types import Encoding, ImageKind, ImageTokens, KeptTokens, SliceStack


class KeptImageTokens(CataloguePart):
    def keep(self, kept: Sequence[KeptTokens]) -> None:
        """Keep tokens of several studies in place of older ones of the same encoder; of a study that is gone, none."""
        with self._database.transaction() as connection:
            for one in kept:
                if run(connection, "lock_study", study_uid=one.study_uid).fetchone() is not None:
                    run(connection, "keep_tokens", _values(one))

    def of(self, encoder: str, study_uids: Sequence[str]) -> tuple[KeptTokens, ...]:
        """The tokens of these studies, by UID; missing where none are kept of a study as it is now."""
        with self._database.transaction() as connection:
            rows = run(connection, "kept_tokens", encoder=encoder, study_uids=list(study_uids)).fetchall()
        return tuple(map(_kept, rows))

    def of_encodings(self, encoder: str, ids: Sequence[int]) -> dict[int, KeptTokens]:
        """The tokens that these encodings were decoded from, by encoding id; missing where they are not kept."""
        with self._database.transaction() as connection:
            rows = run(connection, "kept_tokens_of_encodings", encoder=encoder, ids=list(ids)).fetchall()
        return {row["id"]: _kept(row) for row in rows}

    def kept(self, encoder: str, study_uids: Sequence[str]) -> set[str]:
        """Which of these studies have tokens, of the study as it is now."""
        with self._database.transaction() as connection:
            rows = run(connection, "studies_with_tokens", encoder=encoder, study_uids=list(study_uids)).fetchall()
        return {row["study_uid"] for row in rows}

    def counts(self) -> Mapping[str, KeptCount]:
        """Studies and bytes by encoder."""
        with self._database.transaction() as connection:
            rows = run(connection, "token_count").fetchall()
        return {row["encoder"]: KeptCount(studies=row["studies"], size_bytes=int(row["bytes"])) for row in rows}

    def forget_unused(self) -> int:
        """Drop the tokens of encoders of which no model answers any more; returns how many."""
        with self._database.transaction() as connection:
            return run(connection, "forget_tokens").rowcount


def keep_of(connection: Connection, encoding: Encoding, revision: int) -> None:
    """Keep the tokens that an encoding carries, in the transaction of the encoding."""
    if encoding.tokens is not None:
        kept = KeptTokens(
            study_uid=encoding.study_uid,
            series_uid=encoding.series_uid,
            sop_uid=encoding.sop_uid,
            revision=revision,
            tokens=encoding.tokens,
            slices=encoding.slices,
            warnings=encoding.warnings,
        )
        run(connection, "keep_tokens", _values(kept))


def _values(one: KeptTokens) -> dict[str, Any]:
    stack = one.slices
    return {
        "study_uid": one.study_uid,
        "encoder": one.tokens.encoder,
        "series_uid": one.series_uid,
        "sop_uid": one.sop_uid,
        "revision": one.revision,
        "kind": one.tokens.kind,
        "lateral": one.tokens.lateral,
        "count": len(one.tokens.values),
        "tokens": np.ascontiguousarray(one.tokens.values, "<f2").tobytes(),
        "warnings": list(map(str, one.warnings)),
        "slices": list(stack.images) if stack else None,
        "chest": [stack.dome, stack.apex, stack.step_mm] if stack else None,
    }


def _kept(row: Row) -> KeptTokens:
    values = np.frombuffer(row["tokens"], "<f2").reshape(row["count"], -1).astype(np.float16)
    stack = None
    if row["slices"] is not None:
        dome, apex, step_mm = row["chest"]
        stack = SliceStack(images=tuple(row["slices"]), dome=dome, apex=apex, step_mm=step_mm)
    return KeptTokens(
        study_uid=row["study_uid"],
        series_uid=row["series_uid"],
        sop_uid=row["sop_uid"],
        revision=row["revision"],
        tokens=ImageTokens(encoder=row["encoder"], kind=ImageKind(row["kind"]), lateral=row["lateral"], values=values),
        slices=stack,
        warnings=tuple(map(ImageNote.read, row["warnings"])),
    )
