"""The wording of notices: in English here, for Warning headers and the terminal; translations are in web/strings."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from radir_pacs import anatomy
from radir_pacs.similar_cases import Notice, NoticeCode

ENGLISH: Mapping[str, str] = {
    NoticeCode.TOO_FEW_CASES: "{asked} has too few cases: answered from {answered}",
    NoticeCode.NOT_A_REGION_OF_THE_MODEL: "{asked} is not a region of this model: answered from {answered}",
    NoticeCode.FEW_CANDIDATES: "only {count} available for {region}",
    NoticeCode.INTENDED_USE: "model {model}: {text}",
    NoticeCode.IMAGE: "{text}",
    NoticeCode.FILTER_IGNORED: "{keyword} is not a filter of the similar-case query and was ignored",
    NoticeCode.FINDING_FILTERS: "{finding!r} was read as a finding: only cases whose report affirms it in the {region}",
    NoticeCode.FINDING_DENIED: "'no {finding}' was read as a finding and filters nothing; the cases are alike in the"
    " {region}",
}
_REGIONS = frozenset({"asked", "answered", "region"})


def worded(
    notice: Notice,
    templates: Mapping[str, str] = ENGLISH,
    *,
    region_name: Callable[[str], str] = lambda key: anatomy.region(key).name,
    finding_name: Callable[[str], str] = lambda key: key.replace("_", " "),
    cases: Callable[[int], str] = lambda count: f"{count} case" if count == 1 else f"{count} cases",
) -> str:
    """``notice`` in the language of ``templates`` (a sentence per code), with that language's names.

    cases: words a number of cases, since languages differ in their plurals.
    """
    names: dict[str, Callable[[str], str]] = dict.fromkeys(_REGIONS, region_name) | {"finding": finding_name}
    filled = {
        name: cases(value) if isinstance(value, int) else names.get(name, str)(value)
        for name, value in notice.values.items()
    }
    return templates[notice.code].format(**filled)
