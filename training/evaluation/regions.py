"""The regions of a comparison: a rule that uses the data and no model.

In the order of the published list (``anatomy.trained``), then of the others by most queries, a region is taken when

- at least LEAST_QUERIES queries find the region abnormal and have a match: with fewer, the 95 % interval of a recall
  is wider than ± .18;
- a random ranking does not already find matches: where nearly every report that mentions the region calls it abnormal,
  as at a carina that is only mentioned when it is splayed, all models score alike (Recall@10 by chance at most
  TRIVIAL);
- its queries are not those of a region taken before under another name (a Jaccard index of at most COPY), as those of
  the thoracic spine are those of the spine;
- its abnormal studies differ: at most ALIKE of their pairs match. Where more do, e.g. at the airways, of which reports
  say little except that there is a tube, finding the tube is enough, and no ranking among similar cases is judged.
  Where all regions are like that (findings without degrees, one per region), all are taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from radir_pacs import anatomy
from radir_pacs.anatomy import ROOT
from radir_pacs.errors import UnknownRegion
from radir_pacs.types import ImageKind

from ..data.statements import UNDEFINED, Mask
from .exam import IMAGE_TO_IMAGE, Exam
from .measures import KS, Question, lines

LEAST_QUERIES = 30
TRIVIAL = 0.95
COPY = 0.8
ALIKE = 0.5
WANTED = 9


class RegionCandidate(NamedTuple):
    """queries: bool [n], abnormal there and with a match. chance: Recall@10 of a random ranking. alike: the share of
    pairs of abnormal studies that match; 0 where it is not known which are abnormal."""

    key: str
    queries: Mask
    chance: float
    alike: float = 0.0


def candidates(exam: Exam) -> tuple[RegionCandidate, ...]:
    """All regions below the root, by the first source of relevance."""
    source = exam.sources[0]
    found = []
    for key in exam.keys:
        if key == ROOT:
            continue
        question, rows = exam.question(source, IMAGE_TO_IMAGE, key)
        abnormal = source.abnormal(key)
        asked = question.sought > 0
        alike = 0.0
        if abnormal is not None:
            asked &= abnormal[rows]
            between = np.ix_(abnormal[rows], abnormal)  # image to image: both axes are the studies themselves
            compared = question.relevance[between] != UNDEFINED
            alike = float(question.matches[between].sum() / max(1, compared.sum()))
        few = Question(question.relevance[asked], question.matches[asked])
        chance = float(lines(few).random[:, 0, KS.index(10)].mean()) if asked.any() else 1.0
        found.append(RegionCandidate(key, asked, chance, alike))
    return tuple(found)


def judgeable(found: Sequence[RegionCandidate]) -> tuple[RegionCandidate, ...]:
    """Those that pass the first two rules; the mean over regions is taken over them."""
    return tuple(one for one in found if one.queries.sum() >= LEAST_QUERIES and one.chance <= TRIVIAL)


def chosen(found: Sequence[RegionCandidate], kind: ImageKind, count: int = WANTED) -> tuple[str, ...]:
    """At most ``count`` regions by the rule above."""
    published = [region.key for region in anatomy.trained(kind)]
    usable = tuple(one for one in judgeable(found) if one.alike <= ALIKE) or judgeable(found)
    order = sorted(
        range(len(usable)),
        key=lambda i: (
            published.index(usable[i].key) if usable[i].key in published else len(published),
            -int(usable[i].queries.sum()),
            i,
        ),
    )
    taken: list[RegionCandidate] = []
    for number in order:
        if len(taken) < count and all(_overlap(usable[number], other) <= COPY for other in taken):
            taken.append(usable[number])
    return tuple(one.key for one in taken)


def named(wanted: str, exam: Exam) -> tuple[str, ...]:
    """Regions given by hand, comma separated. Raises UnknownRegion, also for one that no report mentions."""
    keys = []
    for word in filter(None, (part.strip() for part in wanted.split(","))):
        key = word if word in exam.keys else anatomy.look_up(word).key
        if key not in exam.keys or key == ROOT:
            raise UnknownRegion(word, tuple(known for known in exam.keys if known != ROOT)[:3])
        keys.append(key)
    return tuple(dict.fromkeys(keys))


def _overlap(one: RegionCandidate, other: RegionCandidate) -> float:
    either = int((one.queries | other.queries).sum())
    return int((one.queries & other.queries).sum()) / max(1, either)
