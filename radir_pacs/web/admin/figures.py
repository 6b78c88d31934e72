"""Numbers, times and sizes as a language writes them."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from .words import Speaker

_THIN = "\N{NARROW NO-BREAK SPACE}"
_NONE = "–"


class Figures:
    """Of one language; None is a dash everywhere."""

    def __init__(self, tag: str, say: Speaker) -> None:
        self._german, self._say = tag == "de", say

    def count(self, number: int | None) -> str:
        return _NONE if number is None else self._written(f"{number:,}")

    def decimal(self, number: float | None, digits: int = 3) -> str:
        return _NONE if number is None or math.isnan(number) else self._written(f"{number:,.{digits}f}")

    def signed(self, number: float | None, digits: int = 3) -> str:
        if number is None or math.isnan(number):
            return _NONE
        return self._written(f"{number:+,.{digits}f}").replace("-", "−")

    def share(self, number: float) -> str:
        """A hundred is said only of all."""
        shown = min(99.9, math.floor(1000 * number) / 10) if number < 1 else 100
        return self._written(f"{shown:.0f}" if shown in (0, 100) else f"{shown:.1f}") + _THIN + "%"

    def size(self, number: float) -> str:
        for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
            if number >= factor:
                return self._written(f"{number / factor:.1f}") + _THIN + unit
        return self._written(f"{number / 1e3:.0f}") + _THIN + "kB"

    def age(self, seconds: float | None) -> str:
        """How long: to a second below two minutes, then to a minute, an hour, a day."""
        if seconds is None:
            return _NONE
        for unit, factor in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
            if seconds >= 2 * factor:
                return self._say(f"age_{unit}", number=self.count(int(seconds // factor)))
        return self._say("age_seconds", number=int(seconds))

    def since(self, moment: datetime | None) -> str:
        return self.age(None if moment is None else max(0.0, (datetime.now(UTC) - moment).total_seconds()))

    def moment(self, moment: datetime | None, *, seconds: bool = False) -> str:
        """In UTC, which the pages say."""
        if moment is None:
            return _NONE
        return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M{':%S' if seconds else ''}}"

    def _written(self, text: str) -> str:
        return text.translate(str.maketrans(",.", ".,")) if self._german else text
