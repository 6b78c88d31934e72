"""Why a pair of a data set is relevant, or not: which findings matched, which contradicted."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from radir_pacs import anatomy
from radir_pacs.errors import BadInput
from radir_pacs.reports import Statements, explain
from radir_pacs.similar_cases import FindingNote

from ..data.retrieval_set import RetrievalSet


@dataclass(frozen=True, kw_only=True)
class ExplainedPair:
    """``score`` in [0, 1] as in the matrix. Notes use the second image's words."""

    region: str
    paths: tuple[str, str]
    score: float
    shared: tuple[FindingNote, ...]
    contradicting: tuple[FindingNote, ...]
    mined: bool

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def as_text(self) -> str:
        lines = [f"{self.paths[0]}", f"{self.paths[1]}", f"relevance under {self.region}: {self.score:.2f}"]
        if not self.mined:
            lines.append("no findings are kept in this data set, so it cannot be explained")
        for title, notes in (("matched", self.shared), ("contradicted", self.contradicting)):
            lines += [f"{title}: {_note(note)}" for note in notes]
        return "\n".join(lines)


def explain_pair(dataset: RetrievalSet, region: str | None, first: int, second: int) -> ExplainedPair:
    """Rows ``first`` and ``second`` of a region's list. Raises BadInput, UnknownRegion."""
    key = anatomy.ROOT if region is None else anatomy.look_up(region).key
    paths = dataset.paths(region)
    if not 0 <= first < len(paths) or not 0 <= second < len(paths):
        raise BadInput(f"the list has rows 0 to {len(paths) - 1}")
    findings = dataset.findings()
    ours, theirs = (findings.get(paths[row], ()) for row in (first, second))
    shared, contradicting = explain(Statements.of(ours), Statements.of(theirs), key)
    return ExplainedPair(
        region=anatomy.region(key).name,
        paths=(paths[first], paths[second]),
        score=int(dataset.table(region)[first, second]) / 100,
        shared=shared,
        contradicting=contradicting,
        mined=bool(findings),
    )


def _note(note: FindingNote) -> str:
    severity = f"{note.severity} " if note.severity else ""
    return f"{note.polarity} {severity}{note.concept.replace('_', ' ')}, {anatomy.region(note.region).name}"
