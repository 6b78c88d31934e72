"""Which earlier cases look like this one, in this region?"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from radir_pacs import anatomy
from radir_pacs.catalogue import Catalogue
from radir_pacs.config import Settings
from radir_pacs.errors import NotReady, Quarantined, Skipped, UnknownRegion
from radir_pacs.index import Allowed, Partition, Selection
from radir_pacs.query.explain import Explainer
from radir_pacs.query.index_check import IndexCheck
from radir_pacs.query.nearest import neighbours, related
from radir_pacs.query.partitions import Partitions
from radir_pacs.query.representative import picture_of, slices_of
from radir_pacs.reports import affirming_path
from radir_pacs.types import (
    CatalogueStudy,
    Encoding,
    ImageKind,
    Notice,
    NoticeCode,
    Offer,
    Query,
    Region,
    SimilarCase,
    SimilarCaseList,
    StudyState,
    kind_of_modality,
)

_OFFERS_EACH = 3  # other places, and other findings, that are offered at most
_RELATED = 12  # findings that are looked at for them


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where a query is answered: a region's partition, with what it may return."""

    region: Region
    partition: Partition
    selection: Selection
    candidates: int


class Searcher:
    """Answers queries from catalogue and index. One per process; safe for many threads."""

    def __init__(self, catalogue: Catalogue, settings: Settings) -> None:
        self._catalogue, self._settings = catalogue, settings
        self._partitions = Partitions(catalogue, settings)
        self._explainer = Explainer(catalogue.reports)

    def index_check(self) -> IndexCheck:
        """The background check of this searcher's open partitions; the serving process enters it."""
        return IndexCheck(self._partitions)

    def similar(self, query: Query) -> SimilarCaseList:
        """The cases most similar to the query's study in its region, best first.

        Raises NotFound (no such study), NotReady (not encoded yet), Skipped or Quarantined (never will be, with the
        reason), UnknownRegion (no such region, or none that fits the image).
        """
        asked = anatomy.region(query.region)
        study = self._catalogue.studies.get(query.study_uid)
        encoding = self._encoding(study, asked, query)
        place, notices = self._place(asked, encoding, query)
        if query.filters.finding is not None:
            place = self._affirming(place, query, query.filters.finding)
        vector = encoding.vectors[encoding.regions.index(place.region.key)]
        as_of = datetime.now(UTC)
        hits = place.partition.search(vector, query.offset + query.limit, place.selection)
        labels, scores = hits.labels[query.offset :], hits.scores[query.offset :]
        owners = self._catalogue.encodings.owners(labels)
        findings = self._explainer.findings([query.study_uid, *(o.study.study_uid for o in owners.values())])
        cases: list[SimilarCase] = []
        for label, score in zip(labels.tolist(), scores.tolist(), strict=True):
            owner = owners.get(label)
            if owner is None:  # deleted while we searched
                continue
            shared, contradicting = self._explainer.explain(
                findings, query.study_uid, owner.study.study_uid, place.region.key
            )
            image = picture_of(owner, place.region.key)
            cases.append(
                SimilarCase(
                    rank=query.offset + len(cases) + 1,
                    score=float(score),
                    study=owner.study,
                    series_uid=owner.series_uid,
                    sop_uid=image.sop_uid,
                    frame=image.frame,
                    shared=shared,
                    contradicting=contradicting,
                )
            )
        query_image = picture_of(encoding, place.region.key)
        return SimilarCaseList(
            query=query,
            region_asked=asked,
            region_answered=place.region,
            model_id=encoding.model_id,
            generation=hits.generation,
            as_of=as_of,
            exact=hits.exact,
            cases=tuple(cases),
            more=max(0, place.candidates - query.offset - len(labels)),
            notices=(
                *notices,
                *(Notice(code=NoticeCode.IMAGE, values={"text": text}) for text in encoding.warnings),
                *self._intended_use(encoding.model_id),
            ),
            query_series_uid=encoding.series_uid,
            query_sop_uid=query_image.sop_uid,
            query_images=slices_of(encoding, place.region.key),
        )

    def nearest(self, query: Query) -> tuple[Offer, ...]:
        """What to ask where ``similar`` answers no case: each offer has some, under the same filters.

        The finding elsewhere, another finding in the region, the region without a finding; else a region around it.
        Raises as ``similar`` does.
        """
        asked = anatomy.region(query.region)
        encoding = self._encoding(self._catalogue.studies.get(query.study_uid), asked, query)
        model = self._catalogue.models.get(encoding.model_id)
        kinds = frozenset({model.kind}) if model else asked.kinds
        own = self._place(asked, encoding, query)[0].region.key
        elsewhere = {
            place.key: place
            for region in neighbours(asked, kinds)
            if (place := self._place(region, encoding, query)[0].region).key != own
        }
        finding = query.filters.finding
        offers = [self._offer(encoding, query, region, finding) for region in elsewhere.values()]
        offers = [offer for offer in offers if offer.candidates][:_OFFERS_EACH]
        if finding is not None:
            here = anatomy.region(own)
            others = (self._offer(encoding, query, here, other) for other in related(finding)[:_RELATED])
            offers += [offer for offer in others if offer.candidates][:_OFFERS_EACH]
            offers.append(self._offer(encoding, query, here, None))
        return tuple(offer for offer in offers if offer.candidates)

    def _offer(self, encoding: Encoding, query: Query, region: Region, finding: str | None) -> Offer:
        place = self._open(region, encoding, query)
        if finding is not None:
            place = self._affirming(place, query, finding)
        return Offer(region=region.key, finding=finding, candidates=place.candidates)

    def _encoding(self, study: CatalogueStudy, asked: Region, query: Query) -> Encoding:
        """The study's encoding under an active model; X-ray and CT of one study are told apart by the filters."""
        found = {}
        for kind in ImageKind:
            model = self._catalogue.models.active(kind)
            encoding = self._catalogue.encodings.get(study.study_uid, model.model_id) if model else None
            if encoding is not None:
                found[kind] = encoding
        if not found:
            raise _why_not(study)
        wanted = query.filters.modalities
        if wanted:
            kinds = {kind_of_modality(modality) for modality in wanted}
            found = {kind: encoding for kind, encoding in found.items() if kind in kinds} or found
        best = [kind for kind in found if kind in asked.kinds] or list(found)
        return found[best[0]]

    def _intended_use(self, model_id: str) -> list[Notice]:
        """The intended use that the model's maker states: whoever reads an answer should know it."""
        model = self._catalogue.models.get(model_id)
        training = model.manifest.get("training") if model else None
        intended = training.get("intended_use") if isinstance(training, dict) else None
        if not intended:
            return []
        return [Notice(code=NoticeCode.INTENDED_USE, values={"model": model_id, "text": str(intended)})]

    def _place(self, asked: Region, encoding: Encoding, query: Query) -> tuple[_Place, list[Notice]]:
        """The region asked for, or the nearest parent that the model knows and that has enough cases."""
        notices = []
        thin: _Place | None = None
        for region in (asked, *anatomy.ancestors(asked.key)):
            if region.key not in encoding.regions:
                continue
            place = self._open(region, encoding, query)
            if place.candidates >= self._settings.min_cases:
                break
            thin = thin or place
        else:
            if thin is None:
                raise UnknownRegion(asked.name, tuple(anatomy.region(key).name for key in encoding.regions[:5]))
            place = thin
            few: dict[str, str | int] = {"count": place.candidates, "region": place.region.key}
            notices.append(Notice(code=NoticeCode.FEW_CANDIDATES, values=few))
        if place.region.key != asked.key:
            known = asked.key in encoding.regions
            code = NoticeCode.TOO_FEW_CASES if known else NoticeCode.NOT_A_REGION_OF_THE_MODEL
            notices.append(Notice(code=code, values={"asked": asked.key, "answered": place.region.key}))
        return place, notices

    def _open(self, region: Region, encoding: Encoding, query: Query) -> _Place:
        partition = self._partitions.fresh(encoding.model_id, region.key, dim=encoding.vectors.shape[1])
        return self._counted(region, partition, query)

    def _affirming(self, place: _Place, query: Query, concept: str) -> _Place:
        """Only the cases whose report affirms the finding, however few: they are what was asked for."""
        said = affirming_path(concept, place.region.key)
        return self._counted(place.region, place.partition, query, said=said)

    def _counted(self, region: Region, partition: Partition, query: Query, said: str | None = None) -> _Place:
        allowed, excluded = self._catalogue.encodings.allowed(
            partition.model_id, region.key, query.filters, query.study_uid, said=said
        )
        selection = Selection(None if allowed is None else Allowed.of(allowed), excluded)
        return _Place(
            region=region, partition=partition, selection=selection, candidates=partition.candidates(selection)
        )


def _why_not(study: CatalogueStudy) -> Exception:
    match study.state:
        case StudyState.SKIPPED:
            return Skipped(f"the study is not encoded: {study.reason}", reason_code=study.reason_code)
        case StudyState.QUARANTINED:
            return Quarantined(f"the study could not be encoded: {study.reason}", reason_code=study.reason_code)
        case _:
            return NotReady("the study is still being encoded")
