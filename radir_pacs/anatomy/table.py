"""The table of regions, read once from ``regions.csv``.

A row: key, name, parent, code (SNOMED CT, or our private scheme where SNOMED CT has none in DICOM's lists), side,
the kinds of image that show it, its place among the trained regions of each kind, and its synonyms.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from radir_pacs.errors import UnknownRegion
from radir_pacs.types import LEFT, RIGHT, Code, ImageKind, Region

ROOT = "chest"
PRIVATE_SCHEME = "99RADIR"

_SIDES = {"": None, "L": LEFT, "R": RIGHT}
_TRAINED_COLUMNS = {ImageKind.CXR: "trained_cxr", ImageKind.CT: "trained_ct"}


@dataclass(frozen=True, kw_only=True)
class Table:
    """All regions in file order (parents before children), with the most frequent look-ups."""

    by_key: dict[str, Region]
    children: dict[str, tuple[Region, ...]]
    trained: dict[ImageKind, tuple[Region, ...]]


@cache
def table() -> Table:
    """The table as packaged."""
    text = (files("radir_pacs.anatomy") / "regions.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    by_key: dict[str, Region] = {}
    for row in rows:
        if row["key"] in by_key:
            raise ValueError(f"regions.csv: the key {row['key']!r} is there twice")
        by_key[row["key"]] = _region(row)
    children: dict[str, list[Region]] = {key: [] for key in by_key}
    for region in by_key.values():
        if region.parent is not None:
            children[region.parent].append(region)
    trained = {}
    for kind, column in _TRAINED_COLUMNS.items():
        ranked = sorted((int(row[column]), row["key"]) for row in rows if row[column])
        trained[kind] = tuple(by_key[key] for _, key in ranked)
    return Table(by_key=by_key, children={key: tuple(found) for key, found in children.items()}, trained=trained)


def _region(row: dict[str, str]) -> Region:
    return Region(
        key=row["key"],
        name=row["name"],
        parent=row["parent"] or None,
        code=Code(value=row["code"], scheme=row["scheme"], meaning=row["meaning"]),
        laterality=_SIDES[row["side"]],
        synonyms=tuple(part for part in row["synonyms"].split(";") if part),
        kinds=frozenset(ImageKind(kind) for kind in row["kinds"].split()),
        trained=frozenset(kind for kind, column in _TRAINED_COLUMNS.items() if row[column]),
    )


def regions(kind: ImageKind | None = None) -> tuple[Region, ...]:
    """All regions, or those that ``kind`` can show, parents before children."""
    return tuple(found for found in table().by_key.values() if kind is None or kind in found.kinds)


def region(key: str) -> Region:
    """The region under ``key``; UnknownRegion if there is none."""
    try:
        return table().by_key[key]
    except KeyError:
        raise UnknownRegion(key) from None


def children(key: str) -> tuple[Region, ...]:
    """The regions directly below ``key``; UnknownRegion if there is no such key."""
    return table().children[region(key).key]


def ancestors(key: str) -> tuple[Region, ...]:
    """The regions above ``key``, nearest first; empty for the root."""
    found = []
    parent = region(key).parent
    while parent is not None:
        found.append(region(parent))
        parent = found[-1].parent
    return tuple(found)


def descendants(key: str) -> tuple[Region, ...]:
    """All regions below ``key``, depth first."""
    found: list[Region] = []
    for child in children(key):
        found += [child, *descendants(child.key)]
    return tuple(found)


def trained(kind: ImageKind) -> tuple[Region, ...]:
    """The regions that the network is trained on for ``kind``, in the published order."""
    return table().trained[kind]


def standard_code(key: str) -> tuple[Code, Code | None]:
    """The SNOMED CT code and laterality of ``key``, or of its nearest ancestor that has one."""
    for found in (region(key), *ancestors(key)):
        if found.code.scheme != PRIVATE_SCHEME:
            return found.code, found.laterality
    raise ValueError(f"no standard code at or above {key!r}")
