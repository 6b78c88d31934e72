"""How many images one pass of the network takes."""

from __future__ import annotations

LONGEST_PASS_S = 2.0  # a study that somebody waits for waits for the pass in hand first
_MEMORY_SHARE = 0.8  # of what is free: other sizes of batch leave holes between their blocks
_NEWEST = 0.5  # weight of the newest pass in what an image is thought to take
_HEALED = 100  # full passes after which a limit set by lack of memory is tried a quarter higher


class BatchSize:
    """As many as a pass of ``LONGEST_PASS_S`` takes and as fit into memory, ``most`` at most; one until it is known.

    A pass for which memory did not suffice sets the limit at half of it. What took the memory may come back, or be gone
    for good: after ``_HEALED`` full passes the limit rises by a quarter. Where that is too much, what held before is
    the limit again, and the next try comes after twice as many passes.
    """

    def __init__(self, most: int) -> None:
        self._asked = most
        self._most = most
        self._full = 0  # passes of the present limit or more, since it was set
        self._held = 0  # a smaller limit that held for long
        self._patience = _HEALED
        self._image_s = 0.0
        self._image_bytes = 0
        self._known = False

    def limit(self, free_bytes: int | None = None) -> int:
        """The images of the next pass; ``free_bytes`` of the device's memory, None where it does not say."""
        if not self._known:
            return 1
        limit = min(self._most, int(LONGEST_PASS_S / max(self._image_s, 1e-9)))
        if free_bytes is not None and self._image_bytes > 0:
            limit = min(limit, int(_MEMORY_SHARE * free_bytes / self._image_bytes))
        return max(1, limit)

    def passed(self, images: int, seconds: float, peak_bytes: int = 0) -> None:
        """A pass went well; it took ``peak_bytes`` of the device's memory at most, 0 where that is not known."""
        image_s = seconds / images
        self._image_s = _NEWEST * image_s + (1 - _NEWEST) * self._image_s if self._known else image_s
        self._image_bytes = max(self._image_bytes, peak_bytes // images)
        self._known = True
        self._full += images >= self._most
        if self._full >= self._patience and self._most < self._asked:
            self._held = self._most
            self._set(min(self._asked, self._most + max(1, self._most // 4)))

    def too_many(self, images: int) -> None:
        """Memory did not suffice for this many."""
        if images > self._held > 0:
            self._set(self._held)
            self._patience *= 2
        else:
            self._held = 0
            self._set(max(1, min(self._most, images // 2)))

    def _set(self, most: int) -> None:
        self._most, self._full = most, 0
