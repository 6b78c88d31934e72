"""Our own check finds each planted fault, especially those that the public validators miss."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
from pydicom.dataset import Dataset

from radir_pacs import anatomy
from radir_pacs.delivery import codes
from radir_pacs.delivery.check import content_tree as tree
from radir_pacs.delivery.check.template import violations
from radir_pacs.similar_cases import AnsweredRegion
from radir_pacs.types import Code
from tests.sr_material import report, similar_answer


@pytest.fixture(scope="module")
def sound() -> Dataset:
    sr = report(region="left_costophrenic_angle")
    assert violations(sr) == []
    return sr


def answered(asked: str, answered: str, weight: float) -> AnsweredRegion:
    return AnsweredRegion(asked=anatomy.region(asked), answered=anatomy.region(answered), weight=weight)


def test_an_answer_over_several_regions_makes_a_sound_report() -> None:
    regions = (answered("left_pleura", "left_pleura", 2.0), answered("right_lower_lobe", "right_lung", 0.25))
    answer = similar_answer("left_pleura", regions=regions)
    answer = replace(answer, cases=tuple(replace(case, by_region=(0.9, 0.7)) for case in answer.cases))
    sr = report(answer=answer)
    assert "regions=left_pleura:2,right_lung:0.25" in sr.to_json()
    assert violations(sr) == []
    sites = [tree.code(item, "ConceptCodeSequence") for item in tree.children(group(sr), codes.FINDING_SITE)]
    assert [code for code, _ in sites] == [anatomy.region(key).code.value for key in ("left_pleura", "right_lung")]
    scores = tree.children(group(sr), codes.SIMILARITY_SCORE)
    of_regions = [
        (tree.code(site, "ConceptCodeSequence")[0], float(item.MeasuredValueSequence[0].NumericValue))
        for item in scores
        for site in tree.children(item, codes.FINDING_SITE)
    ]
    assert of_regions == [(sites[0][0], 0.9), (sites[1][0], 0.7)] and len(scores) == 3
    assert tree.number(group(sr), codes.SIMILARITY_SCORE) == pytest.approx(answer.cases[0].score, abs=1e-6)


def test_a_parent_that_answered_for_two_regions_is_named_once_and_a_private_region_by_itself() -> None:
    regions = (
        answered("left_costophrenic_angle", "left_costophrenic_angle", 1.0),
        answered("right_lower_lobe", "right_lung", 1.0),
        answered("right_upper_lobe", "right_lung", 1.0),
    )
    answer = similar_answer("left_costophrenic_angle", count=1, regions=regions)
    sr = report(answer=replace(answer, cases=(replace(answer.cases[0], by_region=(0.9, 0.7, 0.6)),)))
    assert violations(sr) == []
    sites = [tree.code(item, "ConceptCodeSequence") for item in tree.children(group(sr), codes.FINDING_SITE)]
    assert len(set(sites)) == len(sites) == 3, "the angle, the standard region above it, and the lung"
    scored = [
        tree.code(site, "ConceptCodeSequence")
        for item in tree.children(group(sr), codes.SIMILARITY_SCORE)
        for site in tree.children(item, codes.FINDING_SITE)
    ]
    assert scored == [sites[0], sites[2], sites[2]]


def without(parent: Dataset, name: Code) -> None:
    kept = [item for item in parent.ContentSequence if tree.code(item, "ConceptNameCodeSequence") != tree.pair(name)]
    assert len(kept) < len(parent.ContentSequence)
    parent.ContentSequence = kept


def container(sr: Dataset, name: Code) -> Dataset:
    return tree.children(sr, name)[0]


def group(sr: Dataset, place: int = 0) -> Dataset:
    return tree.children(container(sr, codes.IMAGING_MEASUREMENTS), codes.MEASUREMENT_GROUP)[place]


def outline(sr: Dataset) -> Dataset:
    return container(group(sr), codes.IMAGE_REGION)


def text_item(value: str) -> Dataset:
    item = Dataset()
    item.RelationshipType, item.ValueType, item.TextValue = "CONTAINS", "TEXT", value
    item.ConceptNameCodeSequence = [codes.concept(Code(value="121106", scheme="DCM", meaning="Comment"))]
    return item


def name_item(value: str) -> Dataset:
    item = Dataset()
    item.RelationshipType, item.ValueType, item.PersonName = "CONTAINS", "PNAME", value
    item.ConceptNameCodeSequence = [codes.concept(Code(value="121029", scheme="DCM", meaning="Subject Name"))]
    return item


def swap_groups(sr: Dataset) -> None:
    items = container(sr, codes.IMAGING_MEASUREMENTS).ContentSequence
    items[0], items[1] = items[1], items[0]


def share_tracking_uid(sr: Dataset) -> None:
    container(group(sr, 1), codes.TRACKING_UID).UID = container(group(sr), codes.TRACKING_UID).UID


def uidref_before_tracking_uid(sr: Dataset) -> None:
    other = copy.deepcopy(container(group(sr), codes.TRACKING_UID))
    other.ConceptNameCodeSequence = [codes.concept(codes.FRAME_OF_REFERENCE_UID)]
    group(sr).ContentSequence.insert(0, other)


def query_also_in_other_evidence(sr: Dataset) -> None:
    sr.PertinentOtherEvidenceSequence.extend(copy.deepcopy(list(sr.CurrentRequestedProcedureEvidenceSequence)))


def hits_in_current_evidence(sr: Dataset) -> None:
    sr.CurrentRequestedProcedureEvidenceSequence.extend(list(sr.PertinentOtherEvidenceSequence))
    del sr.PertinentOtherEvidenceSequence


def outline_on_a_hit(sr: Dataset) -> None:
    hit = container(group(sr), codes.SIMILAR_IMAGE).ReferencedSOPSequence
    tree.content(outline(sr))[0].ReferencedSOPSequence = hit


def library_with_a_hit(sr: Dataset) -> None:
    image = tree.content(tree.content(container(sr, codes.IMAGE_LIBRARY))[0])[0]
    image.ReferencedSOPSequence = container(group(sr), codes.SIMILAR_IMAGE).ReferencedSOPSequence


def own_predecessor(sr: Dataset) -> None:
    study = copy.deepcopy(sr.CurrentRequestedProcedureEvidenceSequence[0])
    study.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID = sr.SOPInstanceUID
    sr.PredecessorDocumentsSequence = [study]


def private_element(sr: Dataset) -> None:
    sr.private_block(0x99, "SOMEBODY", create=True).add_new(1, "LO", "x")


def verified(sr: Dataset) -> None:
    sr.VerificationFlag = "VERIFIED"


def foreign_date(sr: Dataset) -> None:
    sr.PertinentOtherEvidenceSequence[0].StudyDate = "20190203"


def side(sr: Dataset) -> Dataset:
    return container(container(group(sr), codes.FINDING_SITE), codes.LATERALITY)


def stated(sr: Dataset, name: Code = codes.SHARED_FINDING) -> Dataset:
    """The code of the first statement of the first group."""
    code: Dataset = container(group(sr), name).ConceptCodeSequence[0]
    return code


def evaluation_as_text(sr: Dataset) -> None:
    item = text_item("effusion as in Somebody Else")
    item.ConceptNameCodeSequence = [codes.concept(codes.SHARED_FINDING)]
    group(sr).ContentSequence.append(item)


def evaluation_of_others(sr: Dataset) -> None:
    item = copy.deepcopy(container(group(sr), codes.SHARED_FINDING))
    item.ConceptNameCodeSequence = [codes.concept(codes.RANK)]
    group(sr).ContentSequence.append(item)


def denial_told_as_affirmed(sr: Dataset) -> None:
    item = tree.children(group(sr), codes.CONTRADICTING_FINDING)[1]
    container(item, codes.FINDING_DENIED).ConceptNameCodeSequence = [codes.concept(codes.FINDING_AFFIRMED)]


def words_below_a_statement(sr: Dataset) -> None:
    container(container(group(sr), codes.SHARED_FINDING), codes.SEVERITY).ConceptCodeSequence[
        0
    ].CodeMeaning = "as in 1950"


FAULTS: dict[str, tuple[Callable[[Dataset], object], str]] = {
    "no procedure": (lambda sr: without(sr, codes.PROCEDURE_REPORTED), "Procedure Reported"),
    "other procedure": (
        lambda sr: setattr(
            container(sr, codes.PROCEDURE_REPORTED), "ConceptCodeSequence", [codes.concept(codes.SIMILAR_CASE)]
        ),
        "Procedure Reported",
    ),
    "no device": (lambda sr: without(sr, codes.OBSERVER_TYPE), "Observer Type"),
    "no device uid": (lambda sr: without(sr, codes.DEVICE_OBSERVER_UID), "Device Observer UID"),
    "no library": (lambda sr: without(sr, codes.IMAGE_LIBRARY), "Image Library"),
    "empty library": (
        lambda sr: setattr(container(sr, codes.IMAGE_LIBRARY), "ContentSequence", []),
        "Image Library has no image",
    ),
    "library with a hit": (library_with_a_hit, "not of the query study"),
    "no measurements": (lambda sr: without(sr, codes.IMAGING_MEASUREMENTS), "126010"),
    "other title": (
        lambda sr: setattr(sr, "ConceptNameCodeSequence", [codes.concept(codes.IMAGE_LIBRARY)]),
        "title",
    ),
    "no template": (lambda sr: delattr(sr, "ContentTemplateSequence"), "TID 1500"),
    "no group template": (lambda sr: delattr(group(sr), "ContentTemplateSequence"), "TID 1410"),
    "partial": (lambda sr: setattr(sr, "CompletionFlag", "PARTIAL"), "Completion Flag"),
    "verified": (verified, "UNVERIFIED"),
    "no tracking identifier": (lambda sr: without(group(sr), codes.TRACKING_IDENTIFIER), "Tracking Identifier"),
    "no tracking uid": (lambda sr: without(group(sr), codes.TRACKING_UID), "Tracking Unique Identifier is missing"),
    "tracking uid not first": (uidref_before_tracking_uid, "not the first UIDREF"),
    "shared tracking uid": (share_tracking_uid, "share a Tracking"),
    "no finding": (lambda sr: without(group(sr), codes.FINDING), "Finding is not"),
    "no site": (lambda sr: without(group(sr), codes.FINDING_SITE), "Finding Site is missing"),
    "only a private site": (lambda sr: group(sr).ContentSequence.pop(_standard_site(sr)), "no Finding Site is of"),
    "odd side": (
        lambda sr: setattr(side(sr), "ConceptCodeSequence", [codes.concept(codes.SIMILAR_CASE)]),
        "Laterality",
    ),
    "no algorithm": (lambda sr: without(group(sr), codes.ALGORITHM_NAME), "Algorithm Name"),
    "no algorithm version": (lambda sr: without(group(sr), codes.ALGORITHM_VERSION), "Algorithm Version"),
    "no score": (lambda sr: without(group(sr), codes.SIMILARITY_SCORE), "Similarity score"),
    "no rank": (lambda sr: without(group(sr), codes.RANK), "Rank"),
    "ranks out of order": (swap_groups, "order of rank"),
    "no outline": (lambda sr: without(group(sr), codes.IMAGE_REGION), "SCOORD"),
    "open outline": (lambda sr: setattr(outline(sr), "GraphicData", outline(sr).GraphicData[:-2]), "closed polyline"),
    "outline on a hit": (outline_on_a_hit, "query image"),
    "both evidences": (query_also_in_other_evidence, "both evidence sequences"),
    "hits as current": (hits_in_current_evidence, "another study"),
    "no evidence": (lambda sr: delattr(sr, "PertinentOtherEvidenceSequence"), "without being evidence"),
    "idle evidence": (lambda sr: without(group(sr), codes.SIMILAR_IMAGE), "nothing refers to"),
    "scheme not declared": (lambda sr: delattr(sr, "CodingSchemeIdentificationSequence"), "not declared"),
    "scheme of others": (
        lambda sr: setattr(sr.CodingSchemeIdentificationSequence[0], "CodingSchemeUID", "1.2.3"),
        "not ours",
    ),
    "free text in an evaluation": (
        lambda sr: setattr(stated(sr), "CodeMeaning", "effusion as in Somebody Else"),
        "something else than its code",
    ),
    "free text below an evaluation": (words_below_a_statement, "something else than its code"),
    "free text as an evaluation": (evaluation_as_text, "no rule allows"),
    "a text for a code": (lambda sr: setattr(stated(sr), "LongCodeValue", "present:somebody:heart"), "our ontology"),
    "denial told as affirmed": (denial_told_as_affirmed, "something else than its code"),
    "unknown evaluation": (evaluation_of_others, "coded evaluation that no rule allows"),
    "stated twice": (
        lambda sr: group(sr).ContentSequence.append(copy.deepcopy(container(group(sr), codes.SHARED_FINDING))),
        "stated twice",
    ),
    "long code of an undeclared scheme": (
        lambda sr: setattr(stated(sr), "CodingSchemeDesignator", "99OTHER"),
        "99OTHER is not declared",
    ),
    "foreign date": (foreign_date, "a name, an id or a date"),
    "foreign name": (lambda sr: group(sr).ContentSequence.append(name_item("Somebody^Else")), "PNAME"),
    "free text": (lambda sr: group(sr).ContentSequence.append(text_item("Somebody Else, b. 1950")), "no rule allows"),
    "private element": (private_element, "private element"),
    "own predecessor": (own_predecessor, "own predecessor"),
    "empty predecessor": (lambda sr: setattr(sr, "PredecessorDocumentsSequence", []), "names no document"),
    "other class": (lambda sr: setattr(sr, "SOPClassUID", "1.2.840.10008.5.1.4.1.1.88.11"), "Comprehensive"),
}


def _standard_site(sr: Dataset) -> int:
    places = [
        place
        for place, item in enumerate(group(sr).ContentSequence)
        if tree.code(item, "ConceptNameCodeSequence") == tree.pair(codes.FINDING_SITE)
    ]
    return places[1]


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_fault_is_found(fault: str, sound: Dataset) -> None:
    plant, words = FAULTS[fault]
    sr = copy.deepcopy(sound)
    plant(sr)
    found = violations(sr)
    assert any(words in violation for violation in found), found


def test_foreign_texts_are_found_wherever_they_stand(sound: Dataset) -> None:
    sr = copy.deepcopy(sound)
    sr.StudyDescription = "compared with Somebody Else"
    assert violations(sr, foreign_texts=["Somebody"]) == ["a text names another patient"]


def test_any_other_object_has_violations_and_no_exception() -> None:
    assert len(violations(Dataset())) > 5
