"""The true findings of a synthetic hospital's studies, from its ``truth.json``."""

from __future__ import annotations

import json
from pathlib import Path

from radir_pacs.errors import BadInput
from radir_pacs.types import ImageKind

from ..phantoms import PhantomFinding
from ..phantoms.findings import side_of
from ..phantoms.statements import true_items
from .statements import Said

_ANYWHERE = (0.0, 0.0, 0.0)  # the place within a region, which statements do not have


def read_truth(folder: Path, kind: ImageKind) -> dict[str, Said]:
    """By Study Instance UID; empty where the folder has no such file. Raises BadInput for one that radir phantom did
    not write."""
    path = folder / "truth.json"
    if not path.is_file():
        return {}
    try:
        studies = json.loads(path.read_bytes())["studies"]
        return {
            str(study["study_uid"]): true_items([_finding(found) for found in study["findings"]], kind)
            for study in studies
            if study["kind"] == kind.value
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"truth.json is not what radir phantom writes ({type(error).__name__})") from None


def _finding(found: dict[str, object]) -> PhantomFinding:
    concept, region, severity = found["concept"], found["region"], found["severity"]
    if not isinstance(concept, str) or not isinstance(region, str) or not isinstance(severity, int):
        raise ValueError("a finding has a concept, a region and a severity")
    return PhantomFinding(concept=concept, region=region, side=side_of(region), severity=severity, at=_ANYWHERE)
