"""Which model answered when, from the history."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from radir_pacs.catalogue import ModelEvent
from radir_pacs.types import ImageKind, ModelChange


@dataclass(frozen=True, kw_only=True)
class Answered:
    """``model_id`` answered for a kind from one event until the next; ``until`` None: it still does."""

    kind: ImageKind
    model_id: str
    since: datetime
    until: datetime | None
    by: str


def answered(history: Iterable[ModelEvent], since: datetime, until: datetime) -> tuple[Answered, ...]:
    """Those of a history, oldest event first, that answered in [since, until)."""
    spans: dict[ImageKind, list[Answered]] = {}
    for event in history:
        if event.change not in (ModelChange.PROMOTED, ModelChange.ROLLED_BACK):
            continue
        of_kind = spans.setdefault(event.kind, [])
        if of_kind:
            last = of_kind[-1]
            of_kind[-1] = Answered(kind=last.kind, model_id=last.model_id, since=last.since, until=event.at, by=last.by)
        of_kind.append(Answered(kind=event.kind, model_id=event.model_id, since=event.at, until=None, by=event.who))
    return tuple(
        span
        for of_kind in spans.values()
        for span in of_kind
        if span.since < until and (span.until is None or span.until > since)
    )
