"""What a plan would find in the archive now: for ``--dry-run``, and as the first step of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from radir_pacs.catalogue import Catalogue, StudyToTrain
from radir_pacs.config import Settings
from radir_pacs.encode import Bundle
from radir_pacs.encode.tokens import encoder_id

from .plan import Plan
from .preflight import Preflight, preflight
from .snapshot import counted, of_kind, taken

PAGE = 5_000


def surveyed(
    catalogue: Catalogue,
    settings: Settings,
    plan: Plan,
    champion: Bundle,
    key: bytes,
    say_read: Callable[[int], None] = lambda studies: None,
) -> Preflight:
    """Changes nothing. ``say_read`` is told now and then how many studies were read."""
    window = plan.data.since, plan.data.until
    studies = of_kind(_told(catalogue.retraining.studies(champion.model_id, *window), say_read), champion.kind)
    found = taken(studies, key, catalogue.retraining.once_held_out())
    missing = 0
    if plan.depth == "head":
        uids = [row.study_uid for row in found.rows]
        missing = len(uids) - len(with_tokens(catalogue, champion, uids))
    return preflight(plan, champion, counted(found.rows, found.patients), missing, settings.home)


def _told(studies: Iterable[StudyToTrain], say_read: Callable[[int], None]) -> Iterator[StudyToTrain]:
    for number, study in enumerate(studies, 1):
        yield study
        if number % PAGE == 0:
            say_read(number)


def with_tokens(catalogue: Catalogue, bundle: Bundle, study_uids: list[str]) -> set[str]:
    """Those whose tokens are kept under the bundle's encoder."""
    encoder = encoder_id(bundle)
    found: set[str] = set()
    if encoder is not None:
        for start in range(0, len(study_uids), PAGE):
            found |= catalogue.image_tokens.kept(encoder, study_uids[start : start + PAGE])
    return found
