"""Which earlier cases look like this one, in this region?"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from radir_pacs import anatomy, metrics, traces
from radir_pacs.callers import Caller
from radir_pacs.catalogue import Answering, Catalogue, Question
from radir_pacs.config import Settings
from radir_pacs.errors import (
    BadInput,
    EngineEmptied,
    IndexRefused,
    NotFound,
    NotReady,
    Quarantined,
    Skipped,
    UnknownRegion,
)
from radir_pacs.index import Allowed, Partition, Selection, remove_open_marks
from radir_pacs.query.explain import Explanation
from radir_pacs.query.index_check import IndexCheck
from radir_pacs.query.nearest import neighbours, related
from radir_pacs.query.partitions import Partitions
from radir_pacs.query.ranking import Ranked, RegionSearch, page_of
from radir_pacs.query.remarks import remarks
from radir_pacs.query.representative import picture_of, slices_of
from radir_pacs.query.shadow import ShadowQuestions
from radir_pacs.query.words import WordOrder
from radir_pacs.reports import affirming_path
from radir_pacs.similar_cases import (
    AnsweredRegion,
    Notice,
    NoticeCode,
    Offer,
    PageMark,
    Query,
    SimilarCase,
    SimilarCaseList,
)
from radir_pacs.types import CatalogueStudy, Encoding, ImageKind, Region, StudyState, kind_of_modality

_OFFERS_EACH = 3  # other places, and other findings, that are offered at most
_RELATED = 12  # findings that are looked at for them


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """A question with what the catalogue knows of its study: which encoding is compared, and what never answers.

    fresh: models whose table of cases the question brought up to date. allowed: which cases pass the filters, by the
    path that their findings must have; filled in when it is needed.
    """

    query: Query
    region: Region
    question: Question
    answering: Answering
    fresh: frozenset[str]
    allowed: dict[str | None, Allowed | None] = field(default_factory=dict)

    @property
    def encoding(self) -> Encoding:
        return self.answering.encoding


@dataclass(frozen=True, kw_only=True)
class _ToSearch:
    """A region's partition in which a query is answered, with the cases that it may return."""

    region: Region
    partition: Partition
    selection: Selection
    candidates: int

    def part(self, encoding: Encoding, weight: float) -> RegionSearch:
        """What is searched for ``encoding`` here."""
        vector = encoding.vectors[encoding.regions.index(self.region.key)]
        return RegionSearch(partition=self.partition, selection=self.selection, vector=vector, weight=weight)


class Searcher:
    """Answers queries from catalogue and index. One per process; safe for many threads."""

    def __init__(self, catalogue: Catalogue, settings: Settings) -> None:
        self._catalogue, self._settings = catalogue, settings
        self._partitions = Partitions(catalogue, settings)
        self._looked_at: dict[str, frozenset[str]] = {}  # by the region asked for: what was opened for it the last time
        self._words = WordOrder(catalogue, settings)
        self._shadow = ShadowQuestions(catalogue, self._similar, share=settings.shadow_share)

    def index_check(self) -> IndexCheck:
        """The background check of this searcher's open partitions; the serving process enters it."""
        return IndexCheck(self._partitions)

    def close(self) -> None:
        """No more questions: what this process has open of the index counts as left in good order."""
        self._shadow.close()
        self._words.close()
        self._partitions.close()
        remove_open_marks()

    def similar(self, query: Query, caller: Caller) -> SimilarCaseList:
        """The cases most similar to the query's study in its region, best first; recorded as shown to the caller.

        The caller's scope acts inside the search, on whatever is counted, explained and remarked as well.
        Raises NotFound (no such study, or none that the caller may see), NotReady (not encoded yet), Skipped or
        Quarantined (never will be, with the reason), UnknownRegion (no such region, or none that fits the image).
        """
        began = time.perf_counter()
        query = query.within(caller.scope)
        answer = self._similar(query, caller=caller)
        self._shadow.offer(query, answer, time.perf_counter() - began)
        return answer

    def unseen(self, query: Query) -> SimilarCaseList:
        """As ``similar``, for a measurement: nobody sees the cases. Raises as ``similar``."""
        return self._similar(query)

    def _similar(self, query: Query, model_id: str | None = None, caller: Caller | None = None) -> SimilarCaseList:
        """By the model that serves at this moment, or by the one that is named; without a caller nobody sees it."""
        with _stage("ask"):
            asked = self._ask(query, model_id)
        encoding, mark = asked.encoding, query.after
        with _stage("open"):
            places, notices = self._places(asked)
        primary = places[0].region.key
        if mark is not None and mark.regions != tuple(place.region.key for place in places):
            raise BadInput("another region answers since the first page: ask again from the beginning")
        parts = [place.part(encoding, wanted.weight) for place, wanted in zip(places, query.regions, strict=True)]
        as_of = datetime.now(UTC)
        seen = mark.seen if mark is not None else query.offset
        with _stage("search"):
            if query.words is not None:
                self._words.check(query.words, encoding)
            with self._searching(parts):
                if query.words is None:
                    found, among = page_of(parts, mark, seen, query.limit), min(place.candidates for place in places)
                else:
                    found, among, said_of_words = self._words.page_of(
                        parts[0], asked.answering, query.words, seen, query.limit
                    )
                    notices += said_of_words
        with _stage("show"):
            owners, said = self._catalogue.questions.shown(
                found.labels,
                query.study_uid,
                query.filters,
                caller=caller,
                region=primary,
                model_id=encoding.model_id,
                words_of=query.words.of if query.words is not None else None,
                explained=bool(asked.question.said),  # without a report of the study there is nothing to compare
            )
        if asked.question.said:
            said = {query.study_uid: asked.question.said, **said}
        explanation = Explanation(said, query.study_uid, (place.region.key for place in places))
        cases: list[SimilarCase] = []
        for label, score, by_part in zip(found.labels.tolist(), found.scores.tolist(), found.by_part, strict=True):
            owner = owners.get(label)
            if owner is None:  # deleted while we searched
                continue
            shared, contradicting = explanation.of(owner.study.study_uid)
            image = picture_of(owner, primary)
            cases.append(
                SimilarCase(
                    rank=seen + len(cases) + 1,
                    score=score,
                    study=owner.study,
                    series_uid=owner.series_uid,
                    sop_uid=image.sop_uid,
                    frame=image.frame,
                    shared=shared,
                    contradicting=contradicting,
                    by_region=tuple(by_part.tolist()),
                )
            )
        more = max(0, among - seen - len(found.labels))
        return SimilarCaseList(
            query=query,
            region_asked=asked.region,
            region_answered=places[0].region,
            model_id=encoding.model_id,
            generation=found.generation,
            as_of=as_of,
            exact=found.exact,
            cases=tuple(cases),
            more=more,
            notices=(*notices, *remarks(asked.answering)),
            query_series_uid=encoding.series_uid,
            query_sop_uid=picture_of(encoding, primary).sop_uid,
            query_images=slices_of(encoding, primary),
            regions=tuple(
                AnsweredRegion(asked=anatomy.region(wanted.key), answered=place.region, weight=wanted.weight)
                for place, wanted in zip(places, query.regions, strict=True)
            ),
            following=_following(asked, places, found, seen) if more and len(found.labels) else None,
        )

    @contextmanager
    def _searching(self, parts: list[RegionSearch]) -> Iterator[None]:
        """Raises NotReady where an outside engine has lost what one of ``parts`` had there."""
        try:
            yield
        except IndexRefused as lost:
            for part in parts:
                place = (part.partition.model_id, part.partition.region)
                if isinstance(lost, EngineEmptied) and lost.place == place:  # what others hold still answers
                    self._partitions.lost(part.partition, lost)
            raise NotReady("the index of the region is filled anew; ask again") from lost

    def nearest(self, query: Query, caller: Caller) -> tuple[Offer, ...]:
        """What to ask where ``similar`` answers no case: each offer has some, under the same filters and scope.

        The finding elsewhere, another finding in the region, the region without a finding; else a region around it.
        Raises as ``similar`` does.
        """
        asked = self._ask(query.within(caller.scope))
        kinds = frozenset({asked.answering.kind})
        own = self._place(asked)[0].region.key
        elsewhere = {
            place.key: place
            for region in neighbours(asked.region, kinds)
            if (place := self._place(replace(asked, region=region))[0].region).key != own
        }
        finding = query.filters.finding
        offers = [self._offer(asked, region, finding) for region in elsewhere.values()]
        offers = [offer for offer in offers if offer.candidates][:_OFFERS_EACH]
        if finding is not None:
            here = anatomy.region(own)
            others = (self._offer(asked, here, other) for other in related(finding)[:_RELATED])
            offers += [offer for offer in others if offer.candidates][:_OFFERS_EACH]
            offers.append(self._offer(asked, here, None))
        return tuple(offer for offer in offers if offer.candidates)

    def _ask(self, query: Query, model_id: str | None = None) -> _Asked:
        """What the catalogue knows of the query, and its news taken into what is open."""
        region = anatomy.region(query.region)
        readings = self._partitions.readings(self._may_answer(query))
        filters = query.filters
        looks_at_cases = filters.restrict or filters.finding is not None or query.after is not None
        question = self._catalogue.questions.ask(
            query.study_uid,
            filters,
            cases=readings.cases if looks_at_cases else {},
            partitions=readings.partitions,
            under=model_id,
        )
        if not filters.scope.admits(question.study):
            raise NotFound(f"there is no study {query.study_uid}")
        fresh = readings.take(question.cases, question.partitions)
        if not question.answering and model_id is None:
            self._catalogue.jobs.hurry(query.study_uid)
        answering = self._answering(question, region, query)
        self._partitions.answers(answering.encoding.model_id, unseen=model_id is not None)
        if query.after is not None and query.after.model_id != answering.encoding.model_id:
            raise BadInput("another model answers since the first page: ask again from the beginning")
        return _Asked(query=query, region=region, question=question, answering=answering, fresh=frozenset(fresh))

    def _may_answer(self, query: Query) -> set[str]:
        """Each region that is asked for, and those around it that were needed the last time: it had too few cases."""
        return {key for wanted in query.regions for key in (wanted.key, *self._looked_at.get(wanted.key, ()))}

    def _answering(self, question: Question, region: Region, query: Query) -> Answering:
        """The study's encoding under a serving model; X-ray and CT of one study are told apart by the filters."""
        found = {answering.kind: answering for answering in question.answering}
        if not found:
            raise self._why_not(question.study)
        if query.filters.modalities:
            kinds = {kind_of_modality(modality) for modality in query.filters.modalities}
            found = {kind: answering for kind, answering in found.items() if kind in kinds} or found
        fitting = [kind for kind in ImageKind if kind in found and kind in region.kinds]
        return found[fitting[0]] if fitting else next(iter(found.values()))

    def _why_not(self, study: CatalogueStudy) -> Exception:
        """Why no serving model has encoded it."""
        match study.state:
            case StudyState.SKIPPED:
                return Skipped(f"the study is not encoded: {study.reason}", reason_code=study.reason_code)
            case StudyState.QUARANTINED:
                return Quarantined(f"the study could not be encoded: {study.reason}", reason_code=study.reason_code)
        failed = self._catalogue.reencoding.failed(study.study_uid)
        if failed is None:
            return NotReady("the study is still being encoded")
        told = f"the model that answers could not encode the study: {failed.error}"
        return Quarantined(told, reason_code=failed.reason_code)

    def _offer(self, asked: _Asked, region: Region, finding: str | None) -> Offer:
        place = self._open(asked, region)
        if finding is not None:
            place = self._affirming(asked, place, finding)
        return Offer(region=region.key, finding=finding, candidates=place.candidates)

    def _places(self, asked: _Asked) -> tuple[list[_ToSearch], list[Notice]]:
        """Where each region that was asked for is answered."""
        places, notices = [], []
        for wanted in asked.query.regions:
            place, said = self._place(replace(asked, region=anatomy.region(wanted.key)))
            if asked.query.filters.finding is not None:
                place = self._affirming(asked, place, asked.query.filters.finding)
            places.append(place)
            notices += said
        return places, notices

    def _place(self, asked: _Asked) -> tuple[_ToSearch, list[Notice]]:
        """The region asked for, or the nearest parent that the model knows and that has enough cases."""
        notices = []
        thin: _ToSearch | None = None
        known, looked_at = asked.encoding.regions, set()
        for region in (asked.region, *anatomy.ancestors(asked.region.key)):
            if region.key not in known:
                continue
            place = self._open(asked, region)
            looked_at.add(region.key)
            if place.candidates >= self._settings.min_cases:
                break
            thin = thin or place
        else:
            if thin is None:
                raise UnknownRegion(asked.region.name, tuple(anatomy.region(key).name for key in known[:5]))
            place = thin
            few: dict[str, str | int] = {"count": place.candidates, "region": place.region.key}
            notices.append(Notice(code=NoticeCode.FEW_CANDIDATES, values=few))
        self._looked_at[asked.region.key] = frozenset(looked_at)
        if place.region.key != asked.region.key:
            code = NoticeCode.TOO_FEW_CASES if asked.region.key in known else NoticeCode.NOT_A_REGION_OF_THE_MODEL
            notices.append(Notice(code=code, values={"asked": asked.region.key, "answered": place.region.key}))
        return place, notices

    def _open(self, asked: _Asked, region: Region) -> _ToSearch:
        model_id, dim = asked.encoding.model_id, asked.encoding.vectors.shape[1]
        place = (model_id, region.key)
        if place in asked.question.partitions:
            published = asked.question.published.get(place)
            partition = self._partitions.opened(model_id, region.key, dim=dim, published=published)
        else:  # not open when the question was asked, or another region
            partition = self._partitions.fresh(model_id, region.key, dim=dim)
        return self._counted(asked, region, partition)

    def _affirming(self, asked: _Asked, place: _ToSearch, concept: str) -> _ToSearch:
        """Only the cases whose report affirms the finding, however few: they are what was asked for."""
        said = affirming_path(concept, place.region.key)
        return self._counted(asked, place.region, place.partition, said=said)

    def _counted(self, asked: _Asked, region: Region, partition: Partition, said: str | None = None) -> _ToSearch:
        selection = Selection(allowed=self._allowed(asked, said), barred=asked.question.excluded)
        return _ToSearch(
            region=region, partition=partition, selection=selection, candidates=partition.candidates(selection)
        )

    def _allowed(self, asked: _Asked, said: str | None) -> Allowed | None:
        """Which cases pass the filters, asked once per question: it is the same for every region. None: all."""
        after, filters = asked.query.after, asked.query.filters
        if said is None and after is None and not filters.restrict:
            return None
        if said not in asked.allowed:
            model_id = asked.encoding.model_id
            cases = self._partitions.cases(model_id, is_fresh=model_id in asked.fresh)
            asked.allowed[said] = cases.allowed(
                filters, like=asked.answering.label, said=said, newest=after.newest if after else None
            )
        return asked.allowed[said]


@contextmanager
def _stage(name: str) -> Iterator[None]:
    with metrics.timed(metrics.SEARCH_SECONDS, name), traces.start(name):
        yield


def _following(asked: _Asked, places: list[_ToSearch], found: Ranked, seen: int) -> PageMark | None:
    """Where the next page begins; an order by words has only offsets."""
    mark = asked.query.after
    if asked.query.words is not None:
        return None
    return PageMark(
        model_id=asked.encoding.model_id,
        regions=tuple(place.region.key for place in places),
        newest=mark.newest if mark is not None else asked.question.newest,
        score=float(found.scores[-1]),
        label=int(found.labels[-1]),
        seen=seen + len(found.labels),
    )
