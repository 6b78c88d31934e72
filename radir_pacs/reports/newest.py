"""What still holds in a report with an addendum: of two contradicting statements, the later one."""

from __future__ import annotations

from collections.abc import Iterable

from radir_pacs import anatomy
from radir_pacs.reports.findings import Certainty, Finding, FindingKind
from radir_pacs.reports.language import READ, language_of
from radir_pacs.reports.lexicon import Lexicon, load
from radir_pacs.reports.lexicon_data import FIRST
from radir_pacs.reports.sections import split_sections

ADDENDUM = "addendum"  # the section that adds
_ASKED = (Certainty.HISTORICAL, Certainty.HYPOTHETICAL)


def only_adds(text: str) -> bool:
    """Whether a text is only an addendum, without the report that it adds to."""
    language = language_of(text)
    headings = load(language if language in READ else FIRST).headings
    names = {section.name for section in split_sections(text, headings)} & headings.mined
    return names == {ADDENDUM}


def followed(findings: Iterable[Finding], lexicon: Lexicon) -> tuple[Finding, ...]:
    """The findings of one report; those that its addendum contradicts become history."""
    findings = tuple(findings)
    later = tuple(finding for finding in findings if finding.section == ADDENDUM)
    if not later:
        return findings
    earlier = superseded((f for f in findings if f.section != ADDENDUM), later, lexicon)
    changed = iter(earlier)
    return tuple(finding if finding.section == ADDENDUM else next(changed) for finding in findings)


def superseded(earlier: Iterable[Finding], later: Iterable[Finding], lexicon: Lexicon) -> tuple[Finding, ...]:
    """``earlier``, with every statement that ``later`` contradicts turned into history."""
    told = [
        finding for finding in later if finding.certainty not in _ASKED and finding.kind is not FindingKind.MEASUREMENT
    ]
    return tuple(
        finding._replace(certainty=Certainty.HISTORICAL)
        if any(_contradicts(finding, new, lexicon) for new in told)
        else finding
        for finding in earlier
    )


def _contradicts(old: Finding, new: Finding, lexicon: Lexicon) -> bool:
    """Whether one affirms and the other denies the same concept (or a kind of the denied one) at places that meet."""
    if old.certainty in _ASKED or old.polarity == new.polarity or old.kind is FindingKind.MEASUREMENT:
        return False
    affirmed, denied = (new, old) if new.asserted else (old, new)
    return denied.concept in lexicon.ancestors[affirmed.concept] and any(
        _meet(a, b) for a in old.regions for b in new.regions
    )


def _meet(a: str, b: str) -> bool:
    return (
        a == b
        or any(a == above.key for above in anatomy.ancestors(b))
        or any(b == above.key for above in anatomy.ancestors(a))
    )
