"""The words of the administrator's pages, ``strings/en.toml`` and its translations."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files


@cache
def words(tag: str) -> dict[str, str]:
    """Texts by key; {name} is filled in."""
    text = (files("radir_pacs.web.admin") / "strings" / f"{tag}.toml").read_text(encoding="utf-8")
    return dict(tomllib.loads(text))


class Speaker:
    """Says texts in one language."""

    def __init__(self, tag: str) -> None:
        self._words = words(tag)

    def __call__(self, key: str, **values: object) -> str:
        """A text, filled in. Raises KeyError for one that there is not."""
        return self._words[key].format(**values)

    def code(self, of: str, code: str) -> str:
        """The word for a code; the code itself where there is none, as for one of a later version."""
        return self._words.get(f"{of}_{code}", code)
