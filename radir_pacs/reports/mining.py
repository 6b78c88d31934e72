"""From a report's text to its findings: sections, sentences, statements, and references to the sentence before."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from radir_pacs.reports.asides import without_asides
from radir_pacs.reports.findings import Finding, FindingKind, MinedReport
from radir_pacs.reports.language import READ, language_of, words_of
from radir_pacs.reports.lexicon import Lexicon, load
from radir_pacs.reports.markup import plain_text
from radir_pacs.reports.newest import followed
from radir_pacs.reports.reading import SentenceReading, read_sentence, shifted
from radir_pacs.reports.sections import Section, split_sections
from radir_pacs.reports.sentences import sentences
from radir_pacs.reports.studies import sections_for
from radir_pacs.types import ImageKind

COMPARISON = "comparison"  # the section that names the earlier study
MAX_SENTENCE = 2_000  # characters; anything longer is not a sentence and is read in pieces


class Miner:
    """Mines reports, each with the lexicon of its language.

    lexicon: for reports in its language; the other languages are read with what is installed. Sentences recur in
    radiology, so their readings are cached, within a bound for each language.
    """

    def __init__(self, lexicon: Lexicon | None = None, *, remember: int = 50_000) -> None:
        self.lexicon = lexicon or load()
        self._remember = remember
        # the first to come goes first: a hit is a look-up in a dict, where cachetools costs a Python call per sentence
        self._readings: dict[str, OrderedDict[str, SentenceReading]] = {language: OrderedDict() for language in READ}

    def lexicon_of(self, language: str) -> Lexicon | None:
        """What reports in ``language`` are read with; None where they are not read."""
        if language == self.lexicon.language:
            return self.lexicon
        return load(language) if language in READ else None

    def mine(self, text: str, kind: ImageKind | None = None) -> MinedReport:
        """All findings of a report, in text order; any string is accepted.

        Where a text reports several studies under titles of their own, those of the other modalities are left out.
        A text without words has none, nor has one in a language that there is no lexicon for. Where an addendum
        contradicts the report above it, the addendum counts.
        """
        text = plain_text(text)
        words = words_of(text)
        language = language_of(text, words)
        lexicon = self.lexicon_of(language)
        if lexicon is None:
            return MinedReport(text=text, kind=kind, findings=(), language=language)
        findings: list[Finding] = []
        sections = sections_for(text, kind, lexicon.titles, lexicon.headings, words)
        prior = _compared_with(text, sections, lexicon)
        for section in sections:
            asked = section.name in lexicon.asked_sections
            if section.superseded or not (asked or section.name in lexicon.mined_sections):
                continue
            for start, end in sentences(text, section.start, section.end, lexicon.writing):
                for begin in range(start, end, MAX_SENTENCE):
                    stop = min(end, begin + MAX_SENTENCE)
                    reading = self._read(text[begin:stop], lexicon)
                    if reading.refers_back and findings and findings[-1].section == section.name:
                        _refer_back(findings, reading)
                    earlier = findings[-1] if findings and findings[-1].section == section.name else None
                    for finding in reading.findings:
                        read = shifted(finding, begin, (begin, stop), section.name, asked, prior)
                        if earlier is not None and finding.span in reading.unplaced:
                            read = _placed_as(read, earlier, lexicon)
                        findings.append(read)
        return MinedReport(text=text, kind=kind, findings=followed(findings, lexicon), language=language)

    def _read(self, sentence: str, lexicon: Lexicon) -> SentenceReading:
        known = self._readings[lexicon.language]
        reading = known.get(sentence)
        if reading is None:
            reading = read_sentence(sentence, lexicon)
            if self._remember:
                if len(known) >= self._remember:
                    known.popitem(last=False)
                known[sentence] = reading
        return reading


def _compared_with(text: str, sections: Iterable[Section], lexicon: Lexicon) -> str | None:
    """The first date of the section that names the earlier study."""
    for section in sections:
        if section.name == COMPARISON:
            _, _, dates = without_asides(text[section.start : section.end], lexicon)
            return dates[0].what if dates else None
    return None


def _placed_as(finding: Finding, earlier: Finding, lexicon: Lexicon) -> Finding:
    """The finding at the place of the one before, if possible: "Left basilar opacity. This may be atelectasis."."""
    within = lexicon.concepts[finding.concept].within
    if not earlier.asserted or not all(region in within for region in earlier.regions):
        return finding
    return finding._replace(regions=earlier.regions, laterality=earlier.laterality)


def _refer_back(findings: list[Finding], reading: SentenceReading) -> None:
    """Add to the last finding what it did not state itself: "It measures 5 mm in the right apex."."""
    last = findings[-1]
    if last.kind is FindingKind.NORMAL or not last.asserted:
        return
    findings[-1] = last._replace(
        regions=reading.regions or last.regions,
        laterality=reading.laterality if reading.regions else last.laterality,
        size_mm=last.size_mm if last.size_mm is not None else reading.size_mm,
        change=last.change or reading.change,
        images=last.images + reading.images,
        prior=last.prior or (reading.prior if reading.change is not None else None),
    )


def is_blank(text: str, lexicon: Lexicon) -> bool:
    """Whether a report has no words outside its headings."""
    sections = split_sections(text, lexicon.headings)
    return not any(character.isalnum() for at in sections for character in text[at.start : at.end])


_default: list[Miner] = []


def mine(text: str, kind: ImageKind | None = None) -> MinedReport:
    """Mine one report with the lexicon of its language."""
    if not _default:
        _default.append(Miner())
    return _default[0].mine(text, kind)
