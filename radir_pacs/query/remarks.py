"""What a reader must know of an answer besides its cases: about the query's image, and about the model."""

from __future__ import annotations

from radir_pacs.catalogue import Answering
from radir_pacs.image_notes import ImageNote
from radir_pacs.similar_cases import Notice, NoticeCode


def remarks(answering: Answering) -> tuple[Notice, ...]:
    """Those on the study's encoding and on the model that made it."""
    notes = map(of_image, answering.encoding.warnings)
    return (*notes, *_partly(answering), *_intended_use(answering))


def of_image(note: ImageNote) -> Notice:
    return Notice(code=NoticeCode.IMAGE, values={**note.values, "note": note.code})


def _partly(answering: Answering) -> list[Notice]:
    """After a rollback, or a promotion below full coverage: studies that the model has yet to encode are not found."""
    if answering.coverage >= 1:
        return []
    percent = int(100 * answering.coverage)
    values: dict[str, str | int] = {"model": answering.encoding.model_id, "percent": percent}
    return [Notice(code=NoticeCode.PARTLY_ENCODED, values=values)]


def _intended_use(answering: Answering) -> list[Notice]:
    """The intended use that the model's maker states: whoever reads an answer should know it."""
    if not answering.intended_use:
        return []
    values: dict[str, str | int] = {"model": answering.encoding.model_id, "text": answering.intended_use}
    return [Notice(code=NoticeCode.INTENDED_USE, values=values)]
