"""The mark of a page in a URL, so that pages neither repeat nor skip a case while the archive grows."""

from __future__ import annotations

import base64
import binascii
import json
import math
from urllib.parse import urlencode

from flask import request

from radir_pacs.access.sealed_text import seal, unseal
from radir_pacs.errors import BadInput
from radir_pacs.similar_cases import PageMark
from radir_pacs.web.services import services

PARAMETER = "page"
_CHARACTERS = 600
_MOST = 1 << 40  # of labels and cases
_NUMBERS = {"newest": int, "score": float, "label": int, "seen": int}


def text_of(mark: PageMark) -> str:
    """The mark as text for a URL, sealed: its labels count the encodings of every site."""
    values = [mark.model_id, ",".join(mark.regions), mark.newest, mark.score, mark.label, mark.seen]
    sealed = seal(json.dumps(values).encode(), services().settings)
    return base64.urlsafe_b64encode(sealed).decode().rstrip("=")


def read(text: str | None) -> PageMark | None:
    """The mark that a request names. Raises BadInput for a text that `text_of` did not make."""
    if text is None:
        return None
    try:
        if len(text) > _CHARACTERS:
            raise ValueError
        sealed = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
        model_id, regions, *numbers = json.loads(unseal(sealed, services().settings))
        values = {name: kind(number) for (name, kind), number in zip(_NUMBERS.items(), numbers, strict=True)}
        mark = PageMark(model_id=str(model_id), regions=tuple(str(regions).split(",")), **values)
        if not math.isfinite(mark.score) or not all(0 <= n < _MOST for n in (mark.newest, mark.label, mark.seen)):
            raise ValueError
        return mark
    except (ValueError, TypeError, OverflowError, binascii.Error, RecursionError):
        raise BadInput(f"{PARAMETER} is not what a page before gave as the next one") from None


def address_of(mark: PageMark) -> str:
    """The current request's URL, for the page behind it, relative to the current one."""
    given = [(name, value) for name, value in request.args.items(multi=True) if name not in (PARAMETER, "offset")]
    return f"?{urlencode([*given, (PARAMETER, text_of(mark))])}"
