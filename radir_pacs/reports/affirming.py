"""A finding at a place as a condition on reports that were mined before."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache

from radir_pacs import anatomy
from radir_pacs.errors import BadInput
from radir_pacs.reports.explain import counts_as
from radir_pacs.reports.findings import Certainty, FindingKind, Polarity
from radir_pacs.reports.lexicon import load


@lru_cache(maxsize=512)
def affirming_path(concept: str, region: str) -> str:
    """A path (SQL/JSON, ISO 9075-2) that exists in stored findings where they say that ``concept`` is there.

    That is: the concept, a kind of it, or a slightly broader one that counts as alike; at ``region`` (a key) or below
    it; now, not as history or a question. Raises BadInput for a concept that the lexicon does not know.
    """
    ancestors = load().ancestors
    if concept not in ancestors:
        raise BadInput(f"there is no finding {concept[:40]!r}")
    kinds = sorted(key for key, above in ancestors.items() if concept in above or counts_as(concept, key))
    places = [region, *(below.key for below in anatomy.descendants(region))]
    conditions = [
        _is_one_of("@.concept", kinds),
        _is_one_of("@.polarity", [Polarity.PRESENT]),
        f"@.kind != {json.dumps(FindingKind.MEASUREMENT)}",
        *(f"@.certainty != {json.dumps(state)}" for state in (Certainty.HISTORICAL, Certainty.HYPOTHETICAL)),
        f"exists (@.regions[*] ? {_is_one_of('@', places)})",
    ]
    return f"$[*] ? ({' && '.join(conditions)})"


def _is_one_of(value: str, wanted: Iterable[str]) -> str:
    return f"({' || '.join(f'{value} == {json.dumps(text)}' for text in wanted)})"
