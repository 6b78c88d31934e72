"""Statements in words: what two studies share at a region, and where they contradict one another."""

from __future__ import annotations

from typing import NamedTuple

from radir_pacs.reports import Item

from ..data.statements import Said
from .exam import region_name

SEVERITIES = ("minimal", "mild", "moderate", "severe")  # by rank


class Agreement(NamedTuple):
    """In words: findings of both; findings of one that the other denies."""

    shared: tuple[str, ...]
    contradicting: tuple[str, ...]


def findings(said: Said, key: str) -> tuple[str, ...]:
    """What is affirmed at or below region ``key``."""
    return tuple(dict.fromkeys(_words(item) for item in said.get(key, ()) if item.present))


def agreement(query: Said, other: Said, key: str) -> Agreement:
    """Two findings are the same when concept and place agree; a normal region contradicts any finding there."""
    mine, theirs = ({(item.concept, item.region): item for item in said.get(key, ())} for said in (query, other))
    shared, contradicting = [], []
    for place in {**mine, **theirs}:
        one, two = mine.get(place), theirs.get(place)
        if one and two and one.present and two.present:
            shared.append(_words(one))
        elif one and two and one.present != two.present:
            contradicting.append(f"{_words(one if one.present else two)} {'here only' if two.present else 'not here'}")
    return Agreement(tuple(dict.fromkeys(shared)), tuple(dict.fromkeys(contradicting)))


def _words(item: Item) -> str:
    how = f"{SEVERITIES[item.severity]} " if 0 <= item.severity < len(SEVERITIES) else ""
    return f"{how}{item.concept.replace('_', ' ')}, {region_name(item.region)}"
