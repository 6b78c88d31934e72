"""Is the table of regions sound? Used by the tests, and by whoever edits ``regions.csv``."""

from __future__ import annotations

from collections.abc import Iterable

from radir_pacs.anatomy.table import PRIVATE_SCHEME, ROOT
from radir_pacs.anatomy.wording import normalise
from radir_pacs.types import Region

MAX_CODE_VALUE_CHARS = 16  # Code Value is SH (PS3.5 6.2)
MAX_CODE_MEANING_CHARS = 64  # Code Meaning is LO


def faults(regions: Iterable[Region]) -> list[str]:
    """What is wrong, one sentence per fault: roots, orphans, cycles, shared synonyms, codes, kinds."""
    found: list[str] = []
    by_key = {region.key: region for region in regions}
    roots = [key for key, region in by_key.items() if region.parent is None]
    if roots != [ROOT]:
        found.append(f"the roots are {roots}, not [{ROOT!r}]")
    owner: dict[str, str] = {}
    for region in by_key.values():
        found += _position_faults(region, by_key)
        found += _code_faults(region)
        for wording in (region.name, *region.synonyms):
            normal = normalise(wording)
            if not normal:
                found.append(f"{region.key}: {wording!r} says nothing")
            elif owner.setdefault(normal, region.key) != region.key:
                found.append(f"{region.key}: {wording!r} also names {owner[normal]}")
    return found


def _position_faults(region: Region, by_key: dict[str, Region]) -> list[str]:
    if region.parent is None:
        return []
    if region.parent not in by_key:
        return [f"{region.key}: its parent {region.parent} does not exist"]
    found = []
    seen, above = {region.key}, by_key[region.parent]
    while above.parent is not None and above.parent in by_key and above.key not in seen:
        seen.add(above.key)
        above = by_key[above.parent]
    if above.key in seen:
        found.append(f"{region.key}: its ancestors run in a circle")
    if not region.kinds <= by_key[region.parent].kinds:
        found.append(f"{region.key}: shown where its parent is not")
    if not region.trained <= region.kinds:
        found.append(f"{region.key}: trained on images that do not show it")
    return found


def _code_faults(region: Region) -> list[str]:
    code, found = region.code, []
    if not 0 < len(code.value) <= MAX_CODE_VALUE_CHARS or not 0 < len(code.meaning) <= MAX_CODE_MEANING_CHARS:
        found.append(f"{region.key}: code value or meaning is too long or empty")
    if code.scheme == "SCT":
        if not code.value.isdigit():
            found.append(f"{region.key}: {code.value!r} is no SNOMED CT identifier")
    elif code.scheme != PRIVATE_SCHEME:
        found.append(f"{region.key}: coding scheme {code.scheme!r} is not declared by us")
    return found
