"""Notes on an image keep their code and their numbers in the catalogue, and no sentence."""

from __future__ import annotations

import pytest

from radir_pacs.image_notes import ImageNote, ImageNoteCode, image_note


@pytest.mark.parametrize("code", ImageNoteCode)
def test_what_was_written_is_read(code: ImageNoteCode) -> None:
    note = image_note(code, count=2, widest_mm=7.25)
    assert ImageNote.read(str(note)) == note
    assert str(note) == f'{{"code": "{code}", "count": 2, "widest_mm": 7.25}}'


@pytest.mark.parametrize(
    "text", ["the view is unknown", "", "{", "null", "17", "[]", '{"code": "none"}', '{"count": 2}', '{"code": []}']
)
def test_a_sentence_of_an_earlier_release_is_kept_as_it_is(text: str) -> None:
    assert ImageNote.read(text) == ImageNote(code=ImageNoteCode.EARLIER, values={"text": text})
