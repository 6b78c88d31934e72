"""Regions as finding sites, coded in SNOMED CT wherever it has a code."""

from __future__ import annotations

from highdicom.sr.content import FindingSite

from radir_pacs.anatomy import PRIVATE_SCHEME, standard_code
from radir_pacs.delivery import codes
from radir_pacs.types import Region


def finding_sites(region: Region) -> list[FindingSite]:
    """The region with its laterality; a private code is followed by the standard one above it."""
    coded = [(region.code, region.laterality)]
    if region.code.scheme == PRIVATE_SCHEME:
        coded.append(standard_code(region.key))
    sites = []
    for code, side in coded:
        # "Middle lobe of right lung" already names its side.
        modifier = None if side is None or side.meaning.lower() in code.meaning.lower().split() else codes.concept(side)
        sites.append(FindingSite(anatomic_location=codes.concept(code), laterality=modifier))
    return sites
