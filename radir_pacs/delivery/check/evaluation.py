"""Checks that an explanation in our report says what the ontology says and nothing more.

A code's meaning is free text as well: whoever writes a name there passes every public validator.
"""

from __future__ import annotations

from pydicom.dataset import Dataset

from radir_pacs.anatomy import PRIVATE_SCHEME
from radir_pacs.delivery import codes
from radir_pacs.delivery.explanation import evaluation, note_of

from . import content_tree as tree

_EXPLANATIONS = {tree.pair(name): name for name in (codes.SHARED_FINDING, codes.CONTRADICTING_FINDING)}
_OTHERS = {tree.pair(codes.FINDING), tree.pair(codes.FINDING_SITE)}  # coded items of a group that are not evaluations

_CODED = ("ConceptNameCodeSequence", "ConceptCodeSequence")

Said = tuple[object, ...]


def evaluation_faults(group: Dataset) -> list[str]:
    """What is wrong with the qualitative evaluations of a TID 1410 group, one sentence per fault."""
    found = []
    stated = []
    for item in tree.content(group):
        name = tree.code(item, "ConceptNameCodeSequence")
        if name in _EXPLANATIONS:
            found += _statement_faults(item)
            stated.append((name, tree.code(item, "ConceptCodeSequence")))
        elif item.get("ValueType") == "CODE" and name not in _OTHERS:
            found.append("a coded evaluation that no rule allows")
    if len(set(stated)) != len(stated):
        found.append("a finding is stated twice")
    return found


def _statement_faults(item: Dataset) -> list[str]:
    value, scheme = tree.code(item, "ConceptCodeSequence")
    note = note_of(value) if scheme == PRIVATE_SCHEME else None
    if note is None or item.get("ValueType") != "CODE":
        return ["an evaluation is no statement of our ontology"]
    name = _EXPLANATIONS[tree.code(item, "ConceptNameCodeSequence")]
    if _said(item) != _said(evaluation(name, note)[0]):
        return ["an evaluation says something else than its code"]
    return []


def _said(item: Dataset) -> Said:
    """Everything that a coded item and those below it say to a reader."""
    return (
        str(item.get("ValueType", "")),
        str(item.get("RelationshipType", "")),
        *((tree.code(item, keyword), tree.meaning(item, keyword)) for keyword in _CODED),
        *(_said(child) for child in tree.content(item)),
    )
