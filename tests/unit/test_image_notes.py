"""Notes on an image keep their code and their numbers in the catalogue, and no sentence."""

from __future__ import annotations

import pytest

from radir_pacs.image_notes import ImageNote, ImageNoteCode, image_note
from radir_pacs.query.notices import worded
from radir_pacs.query.remarks import of_image
from radir_pacs.web.language import language


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


def test_a_note_becomes_a_notice_in_the_readers_language() -> None:
    notice = of_image(image_note(ImageNoteCode.TILTED, degrees=17.4))
    assert worded(notice) == "the gantry was tilted by 17 degrees"
    assert language("de").notice(notice) == "Hinweis zum Bild: die Gantry war um 17 Grad gekippt"
