"""From the marks of one sentence to its statements, in offsets of that sentence."""

from __future__ import annotations

from dataclasses import dataclass, replace

from radir_pacs.reports.answers import PARTED, answered
from radir_pacs.reports.asides import Aside, without_asides, without_sided_comparisons
from radir_pacs.reports.findings import Certainty, Change, Finding, FindingKind, Laterality, Polarity, Severity, Span
from radir_pacs.reports.forming import form
from radir_pacs.reports.lexicon import Lexicon
from radir_pacs.reports.lexicon_terms import MEASUREMENT, ROOT, Concept, Cue
from radir_pacs.reports.marks import Mark, read_marks
from radir_pacs.reports.placing import Place, fronted, places_of, read_places, regions_above, resolve, side_beside
from radir_pacs.reports.scope import Scopes
from radir_pacs.reports.sizes import change_of_size

_OPERATION = "postoperative"  # the concept of what operations leave
_STOP = Cue.BREAK | Cue.THERE | Cue.SOFT_BREAK
_CLAUSE_ENDS = Cue.BREAK | Cue.THERE
_BEFORE_ENDS = Cue.BREAK | Cue.SOFT_BREAK
_DEGREE_ENDS = Cue.BREAK | Cue.THERE | Cue.COMMA
_SIGNATURE_WORDS = 6
_NORMAL, _PRESENT, _ABSENT = FindingKind.NORMAL, Polarity.PRESENT, Polarity.ABSENT  # slow to look up in an Enum


@dataclass(frozen=True, kw_only=True, slots=True)
class SentenceReading:
    """Findings of a sentence, and what it refers to in the sentence before ("This measures 5 mm.")."""

    findings: tuple[Finding, ...]
    unplaced: frozenset[Span] = frozenset()  # "These may be atelectasis": findings where the last sentence's are
    refers_back: bool = False  # "This measures 5 mm": nothing but more about the last finding
    regions: tuple[str, ...] = ()
    laterality: Laterality | None = None
    size_mm: float | None = None
    change: Change | None = None
    images: tuple[str, ...] = ()
    prior: str | None = None


def _is_boilerplate(text: str, lexicon: Lexicon) -> bool:
    """About the text, not the patient: how it was dictated, or a signature, "Dr. Mass, MD".

    A longer sentence may say what somebody was told: "Dr. Lee was notified of the left lung mass".
    """
    boilerplate = lexicon.data["cues"].get("boilerplate", {})
    if any(sign in text for sign in boilerplate.get("signs", ())):
        return True
    return text.startswith(tuple(boilerplate.get("starts", ()))) and len(text.split()) <= _SIGNATURE_WORDS


def read_sentence(text: str, lexicon: Lexicon) -> SentenceReading:
    """Read one sentence; the findings' spans are relative to its start."""
    if text.startswith("[ ]"):  # a box that nobody ticked
        return SentenceReading(findings=())
    if _is_boilerplate(text, lexicon):
        return SentenceReading(findings=())
    if text.endswith(":") and text.count(":") == 1:  # a label that nobody filled in
        return SentenceReading(findings=())
    text, images, dates = without_asides(text, lexicon)
    text = without_sided_comparisons(text, lexicon)
    marks = read_marks(text, lexicon)
    if not marks:
        return SentenceReading(findings=())
    if PARTED.search(text):
        marks = answered(text, marks, lexicon)
        if not marks:
            return SentenceReading(findings=())
    scopes = Scopes(marks)
    places, sides = read_places(marks, lexicon)
    findings: list[Finding] = []
    placed: dict[int, list[Place]] = {}
    unplaced: list[int] = []
    formed, normal = form(marks, scopes, places, lexicon)
    prior = dates[0].what if dates else None
    graded = sized = changed = False
    for mark in marks:
        graded = graded or mark.entry.severity is not None
        sized = sized or mark.size_mm is not None
        changed = changed or mark.change is not None or mark.prior_mm is not None
    for i, mark in enumerate(marks):
        key = mark.concept
        denied, certainty = scopes.denied[i], scopes.certainty[i]
        own: list[Place] | None = None
        if i in formed:
            key, own, denied = formed[i]
        elif mark.attribute is not None and (i in normal or _absorbed(i, marks, lexicon)):
            continue
        if key is None:
            continue
        concept = lexicon.concepts[key]
        if certainty is Certainty.HISTORICAL and lexicon.devices_remain and _remains(concept, lexicon):
            certainty = Certainty.CERTAIN
        where = own or places_of(i, concept, marks, places, lexicon)
        if concept.elsewhere and where and where[0].region in concept.elsewhere:
            key = concept.elsewhere[where[0].region]
            if not key:
                continue
            concept = lexicon.concepts[key]
        inner = mark.entry.inner
        if inner is not None and (not where or concept.kind is FindingKind.DEVICE):
            own_side = sides.get(i) or (Laterality.BILATERAL if mark.both else None)
            where = [Place(i, inner, lexicon.place_region[inner], own_side, False), *where]
        where = where or _on(sides.get(i), _nearer(fronted(i, concept, marks, places, lexicon), concept))
        if where:
            if (framed := _framed(i, where, marks, places, lexicon)) is not None:
                where = framed
            placed[i] = where
        else:
            where = _inherited(i, concept, marks, placed, denied, scopes, sides.get(i))
        side = sides.get(i) or side_beside(i, marks, places) if not where else sides.get(i)
        side = side or (None if where else _side_of_neighbour(i, marks, findings, denied))
        regions, laterality = _regions(where, side, concept, lexicon)
        if not where and side is None:
            unplaced.append(len(findings))
        change = _change(marks, i) if changed else None
        findings.append(
            Finding(
                concept=key,
                kind=_NORMAL if key == ROOT and denied else concept.kind,
                polarity=_ABSENT if denied else _PRESENT,
                certainty=certainty,
                regions=regions,
                laterality=laterality,
                severity=_severity(marks, i) if graded else None,
                size_mm=_size(marks, i) if sized else None,
                change=change,
                prior=prior if change is not None else None,
                span=(mark.start, mark.end),
            )
        )
    for i, subjects in normal.items():
        regions, laterality = _regions(subjects, None, None, lexicon)
        findings.append(
            Finding(
                concept=ROOT,
                kind=_NORMAL,
                polarity=_ABSENT,
                certainty=scopes.certainty[i],
                regions=regions,
                laterality=laterality,
                span=(marks[i].start, marks[i].end),
            )
        )
    refers_back = bool(marks[0].cue & Cue.PRONOUN)
    if sized and not refers_back:
        findings += _measurements(marks, places, scopes, findings, lexicon)
    open_findings = frozenset(findings[i].span for i in unplaced) if refers_back else frozenset()
    findings.sort(key=lambda finding: finding.span)
    if images and findings:
        _shown_on(images, findings)
    if any(finding.kind is not _NORMAL for finding in findings):
        return SentenceReading(findings=tuple(findings), unplaced=open_findings)
    return _open_ends(marks, places, findings, lexicon, tuple(image.what for image in images), prior)


def _remains(concept: Concept, lexicon: Lexicon) -> bool:
    """Whether what was done to a patient is still there: a device, or what an operation left."""
    return concept.kind is FindingKind.DEVICE or _OPERATION in lexicon.ancestors[concept.key]


def _nearer(where: list[Place], concept: Concept) -> list[Place]:
    """The more specific places: in "Chest: pneumothorax" the pneumothorax is in the pleura."""
    if not where:
        return where
    above = regions_above(concept.at)
    return (
        []
        if all(concept.reads.get(place.key, place.region) in above and place.side is None for place in where)
        else where
    )


def _framed(i: int, where: list[Place], marks: list[Mark], places: list[Place], lexicon: Lexicon) -> list[Place] | None:
    """The places with the side of the one that opens the clause: "in the left lung, there is a nodule at the base"."""
    clause = max((j for j in range(i) if marks[j].cue & Cue.BREAK), default=-1)
    frame = next((place for place in places if clause < place.index < i and place not in where), None)
    if frame is None or any(place.side for place in where):
        return None
    between = marks[frame.index + 1 : i]
    if any(mark.concept or mark.cue & Cue.BREAK for mark in between) or not any(
        mark.cue & (Cue.THERE | Cue.COMMA) for mark in between
    ):
        return None
    around, side = resolve(frame.region, frame.side, lexicon)
    if side is None or side is Laterality.BILATERAL:
        return None
    found = []
    for place in where:
        keys, _ = resolve(place.region, side, lexicon)
        if not all(key == up or up in regions_above(key) for key in keys for up in around):
            return None
        found.append(Place(place.index, place.key, place.region, side, place.after_preposition))
    return found


def _on(side: Laterality | None, where: list[Place]) -> list[Place]:
    """The places that are not on another side than the finding."""
    return where if side is None else [place for place in where if place.side in (None, side)]


def _side_of_neighbour(i: int, marks: list[Mark], findings: list[Finding], denied: bool) -> Laterality | None:
    """The side of the finding that this one accompanies: "left effusion with adjacent atelectasis"."""
    if denied or not findings or not any(mark.cue & Cue.SOFT_BREAK for mark in marks[max(0, i - 3) : i]):
        return None
    last = findings[-1]
    apart = any(mark.cue & (Cue.BREAK | Cue.THERE) for mark in marks[:i] if mark.start > last.span[1])
    return last.laterality if last.asserted and not apart else None


def _measurements(
    marks: list[Mark], places: list[Place], scopes: Scopes, findings: list[Finding], lexicon: Lexicon
) -> list[Finding]:
    """Sizes of places: "the ascending aorta measures 41 mm", where no finding of the clause has the size."""
    measured: list[Finding] = []
    sized = {finding.size_mm for finding in findings}
    for i, mark in enumerate(marks):
        if mark.size_mm is None or mark.size_mm in sized:
            continue
        start = max((j + 1 for j in range(i) if marks[j].cue & Cue.BREAK), default=0)
        before = [place for place in places if start <= place.index < i and place.key not in lexicon.unlocated]
        if not before or any(marks[j].concept for j in range(start, i)):
            continue
        regions, laterality = _regions(before[-1:], None, None, lexicon)
        measured.append(
            Finding(
                concept=MEASUREMENT,
                kind=FindingKind.MEASUREMENT,
                polarity=Polarity.PRESENT,
                certainty=scopes.certainty[i],
                regions=regions,
                laterality=laterality,
                size_mm=mark.size_mm,
                span=(mark.start, mark.end),
            )
        )
    return measured


def _absorbed(i: int, marks: list[Mark], lexicon: Lexicon) -> bool:
    """Whether the finding that follows in the noun phrase absorbs this attribute: "calcified left hilar granuloma"."""
    for mark in marks[i + 1 :]:
        if mark.cue & (_STOP | Cue.COPULA | Cue.COMMA | Cue.CONJUNCTION):
            return False
        if mark.concept is not None:
            return marks[i].attribute in lexicon.concepts[mark.concept].absorbs
    return False


def _open_ends(
    marks: list[Mark],
    places: list[Place],
    findings: list[Finding],
    lexicon: Lexicon,
    images: tuple[str, ...],
    prior: str | None,
) -> SentenceReading:
    refers = bool(marks[0].cue & Cue.PRONOUN) and not findings
    regions, laterality = _regions(places, None, None, lexicon)
    size = max((mark.size_mm for mark in marks if mark.size_mm is not None), default=None)
    before = max((mark.prior_mm for mark in marks if mark.prior_mm is not None), default=None)
    change = next((mark.entry.change for mark in marks if mark.entry.change is not None), None)
    if change is None and size is not None and before is not None:
        change = change_of_size(size, before)
    return SentenceReading(
        findings=tuple(findings),
        refers_back=refers,
        regions=regions,
        laterality=laterality,
        size_mm=size,
        change=change,
        images=images,
        prior=prior,
    )


def _regions(
    where: list[Place], side: Laterality | None, concept: Concept | None, lexicon: Lexicon
) -> tuple[tuple[str, ...], Laterality | None]:
    """Region keys and laterality; a side directly beside the finding decides the laterality."""
    regions: list[str] = []
    sides: set[Laterality] = set()
    for place in where:
        named = place.region if concept is None else concept.reads.get(place.key, place.region)
        for region in (named, *lexicon.place_also.get(place.key, ())):
            keys, own = resolve(region, place.side or side, lexicon)
            regions += [key for key in keys if key not in regions]
            if own is not None:
                sides.add(own)
    if not regions and concept is not None:
        keys, own = resolve(concept.at, side, lexicon)
        regions = list(keys)
        if own is not None:
            sides.add(own)
    laterality = next(iter(sides)) if len(sides) == 1 else Laterality.BILATERAL if sides else None
    return tuple(regions), side or laterality


def _inherited(
    i: int,
    concept: Concept,
    marks: list[Mark],
    placed: dict[int, list[Place]],
    denied: bool,
    scopes: Scopes,
    side: Laterality | None,
) -> list[Place]:
    """The place of the nearest earlier finding that could share it: "left basilar opacity, likely atelectasis"."""
    for j in range(i - 1, -1, -1):
        if marks[j].cue & (Cue.BREAK | Cue.THERE):
            break
        if j in placed and scopes.denied[j] == denied:
            fitting = [place for place in placed[j] if not concept.within or place.region in concept.within]
            fitting = _on(side, fitting)
            if fitting:
                return fitting
    return []


def _severity(marks: list[Mark], i: int) -> Severity | None:
    """The nearest degree word before the finding in its noun phrase, or between the subject and its attribute."""
    if marks[i].entry.severity is not None and marks[i].attribute is None:
        return marks[i].entry.severity
    for j in range(i - 1, -1, -1):
        mark = marks[j]
        if mark.entry.severity is not None:
            return mark.entry.severity
        if mark.concept or mark.cue & _DEGREE_ENDS:
            break
    for mark in marks[i + 1 : i + 3]:
        if mark.entry.severity is not None and mark.attribute is None:
            return mark.entry.severity
        if not mark.cue & Cue.COPULA:
            break
    return None


def _size(marks: list[Mark], i: int) -> float | None:
    """The measurement nearest to the finding, with no other finding in between."""
    for j in range(i - 1, -1, -1):
        mark = marks[j]
        if mark.size_mm is not None:
            return mark.size_mm
        if mark.concept or mark.cue & _BEFORE_ENDS:
            break  # "a mass of 3 cm with atelectasis"
    parted = False
    for mark in marks[i + 1 :]:
        if mark.size_mm is not None:
            return mark.size_mm
        parted = parted or bool(mark.cue & Cue.BREAK)
        if mark.concept or (parted and mark.place):
            break  # "a nodule; size 9 mm", but "a nodule; the aorta measures 40 mm"
    return None


def _change(marks: list[Mark], i: int) -> Change | None:
    for near in (range(i - 1, -1, -1), range(i + 1, len(marks))):
        for j in near:
            mark = marks[j]
            if mark.change is not None:
                return mark.change
            if mark.concept or mark.cue & _CLAUSE_ENDS:
                break
    return _change_of_size(marks, i)


def _change_of_size(marks: list[Mark], i: int) -> Change | None:
    """What the sizes tell: "9 mm, previously 6 mm"."""
    size = _size(marks, i)
    for near in (range(i + 1, len(marks)), range(i - 1, -1, -1)):
        for j in near:
            prior = marks[j].prior_mm
            if prior is not None and size is not None:
                return change_of_size(size, prior)
            if marks[j].concept:
                break
    return None


def _shown_on(images: list[Aside], findings: list[Finding]) -> None:
    """Give every image to the finding before it, or to the first one."""
    for image in images:
        before = [n for n, finding in enumerate(findings) if finding.span[0] < image.start]
        at = before[-1] if before else 0
        findings[at] = replace(findings[at], images=(*findings[at].images, image.what))


def shifted(
    finding: Finding, by: int, sentence: tuple[int, int], section: str, asked: bool, prior: str | None
) -> Finding:
    """The finding with offsets into the whole text; ``prior``: what the report is compared with."""
    return Finding(  # not `replace`, which would take a third of the time for a report of known sentences
        concept=finding.concept,
        kind=finding.kind,
        polarity=finding.polarity,
        certainty=Certainty.HYPOTHETICAL if asked else finding.certainty,
        regions=finding.regions,
        laterality=finding.laterality,
        severity=finding.severity,
        size_mm=finding.size_mm,
        change=finding.change,
        images=finding.images,
        prior=finding.prior or (prior if finding.change is not None else None),
        span=(finding.span[0] + by, finding.span[1] + by),
        sentence=sentence,
        section=section,
    )
