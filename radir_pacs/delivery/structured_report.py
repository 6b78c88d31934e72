"""The structured report of a similar-case answer: PS3.16 TID 1500 with one group per case, by rank: TID 1410 where
one outline shows the region asked about, TID 1411 where that takes several (both lungs; several slices of a CT).

It belongs to the query patient's study. Of the cases found it states the findings that explain them, in the ontology's
words, and otherwise only UIDs; not even those when ``include_other_uids`` is off.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import pydicom
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.sr.content import FindingSite, ImageRegion, SourceImageForRegion
from highdicom.sr.enum import GraphicTypeValues, RelationshipTypeValues
from highdicom.sr.sop import Comprehensive3DSR, ComprehensiveSR
from highdicom.sr.templates import (
    AlgorithmIdentification,
    DeviceObserverIdentifyingAttributes,
    Measurement,
    MeasurementReport,
    ObservationContext,
    ObserverContext,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from highdicom.sr.value_types import ImageContentItem
from pydicom.dataset import Dataset
from pydicom.uid import UID

from radir_pacs import __version__
from radir_pacs.anatomy import PRIVATE_SCHEME
from radir_pacs.delivery import codes
from radir_pacs.delivery.explanation import Explanation, explanations
from radir_pacs.delivery.finding_site import finding_sites
from radir_pacs.delivery.image_library import image_library
from radir_pacs.delivery.query_header import anonymous_evidence, fill_in_patient, numbers, text
from radir_pacs.delivery.region_on_image import closed_polylines
from radir_pacs.dicom.file_head import IMPLEMENTATION_CLASS_UID
from radir_pacs.dicom.loop_guard import CODING_SCHEME_UID, MANUFACTURER, MODEL_NAME
from radir_pacs.dicom.uids import derived_uid, is_valid_uid
from radir_pacs.errors import BadInput, NotFound
from radir_pacs.similar_cases import SimilarCase, SimilarCaseList
from radir_pacs.types import Code, Region

MeasurementGroup = PlanarROIMeasurementsAndQualitativeEvaluations | VolumetricROIMeasurementsAndQualitativeEvaluations

ALGORITHM_NAME = "RadIR-PACS similar case search"
SERIES_DESCRIPTION = "Similar cases"
SERIES_NUMBER = 9901
MAX_INSTANCE_NUMBER = 2**31 - 1  # IS (PS3.5 6.2)


def similar_cases_sr(
    answer: SimilarCaseList,
    query_image: Dataset,
    hit_headers: Mapping[str, Dataset],
    *,
    now: datetime,
    device_uid: str,
    more_images: Sequence[Dataset] = (),
    include_other_uids: bool = True,
    comprehensive_3d: bool = True,
    predecessor: Dataset | None = None,
) -> Dataset:
    """The report of ``answer`` as a complete DICOM object (explicit VR little endian, UTF-8), as if read from a file.

    query_image: header of the query instance; the report inherits its patient and study, and outlines the region on it
    and on ``more_images``, further slices of its series.
    hit_headers: SOP Instance UID of each case's representative instance to its header, of which only the SOP Class UID
    is used; ignored when ``include_other_uids`` is off. predecessor: an earlier report that this one follows.
    A ``now`` with a time zone is written in the query image's time zone. All UIDs are derived from the arguments, so
    the same answer at the same ``now`` gives the same report.
    Raises NotFound when there is no case to report or a header is missing, BadInput when a header cannot be used.
    """
    if not answer.cases:
        raise NotFound("there is no similar case to report")
    if not is_valid_uid(device_uid):
        raise BadInput("device_uid is not a valid UID")
    images = [query_image, *more_images]
    evidence = [anonymous_evidence(image) for image in images]
    cases = sorted(answer.cases, key=lambda case: case.rank)
    if include_other_uids:
        evidence += [_hit_evidence(case, hit_headers) for case in cases]
    sop_uid = derived_uid("similar cases", device_uid, query_image.SOPInstanceUID, now.isoformat(), repr(answer))
    hits = evidence[len(images) :] if include_other_uids else [None] * len(cases)
    outlined = [region for image in images for region in _outlined(answer, image)]
    groups = []
    for case, why, hit in zip(cases, explanations(cases), hits, strict=True):
        groups.append(_group(answer, case, why, outlined, hit, derived_uid(sop_uid, str(case.rank))))
    moment = _wall_clock(now, query_image)
    report = MeasurementReport(
        observation_context=_device_observer(device_uid),
        procedure_reported=codes.concept(codes.IMAGING_PROCEDURE),
        imaging_measurements=groups,
        title=codes.concept(codes.IMAGING_MEASUREMENT_REPORT),
    )
    content = report[0].ContentSequence
    content.insert(len(content) - 1, image_library(images))
    document = (Comprehensive3DSR if comprehensive_3d else ComprehensiveSR)(
        evidence=evidence,
        content=report[0],
        series_instance_uid=derived_uid("similar cases series", device_uid, query_image.StudyInstanceUID),
        series_number=SERIES_NUMBER,
        series_description=SERIES_DESCRIPTION,
        sop_instance_uid=sop_uid,
        instance_number=_instance_number(predecessor),
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL_NAME,
        software_versions=__version__,
        device_serial_number=device_uid,
        is_complete=True,
        is_final=True,
        is_verified=False,
        previous_versions=None if predecessor is None else [predecessor],
        content_date=moment.date(),
        content_time=moment.time(),
        specific_character_set="ISO_IR 192",
        coding_schemes=[_coding_scheme()],
    )
    document.InstanceCreationDate, document.InstanceCreationTime = document.ContentDate, document.ContentTime
    del document.ContributingEquipmentSequence  # highdicom's own name, with the time of day
    fill_in_patient(document, query_image)
    return _as_read_back(document)


def _hit_evidence(case: SimilarCase, hit_headers: Mapping[str, Dataset]) -> Dataset:
    header = hit_headers.get(case.sop_uid)
    if header is None:
        raise NotFound(f"the header of instance {case.sop_uid} is missing")
    evidence = Dataset()
    evidence.SOPClassUID = str(header.get("SOPClassUID") or "")
    evidence.SOPInstanceUID = case.sop_uid
    evidence.SeriesInstanceUID = case.series_uid
    evidence.StudyInstanceUID = case.study.study_uid
    for keyword in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        if not is_valid_uid(evidence[keyword].value):
            raise BadInput(f"rank {case.rank}: the case has no valid {keyword}")
    return evidence


def _device_observer(device_uid: str) -> ObservationContext:
    device = DeviceObserverIdentifyingAttributes(
        uid=device_uid, name=MANUFACTURER, manufacturer_name=MANUFACTURER, model_name=MODEL_NAME
    )
    return ObservationContext(
        observer_device_context=ObserverContext(
            observer_type=codes.concept(codes.DEVICE), observer_identifying_attributes=device
        )
    )


def _group(
    answer: SimilarCaseList,
    case: SimilarCase,
    why: Explanation,
    outlined: Sequence[ImageRegion],
    hit: Dataset | None,
    tracking_uid: str,
) -> MeasurementGroup:
    """One case: where the question was asked, why the case is similar, and its image if ``hit`` is given."""
    content: dict[str, Any] = {
        "tracking_identifier": TrackingIdentifier(uid=tracking_uid, identifier=f"Similar case {case.rank}"),
        "finding_type": codes.concept(codes.SIMILAR_CASE),
        "finding_sites": [site for region in _regions(answer) for site in finding_sites(region)],
        "algorithm_id": AlgorithmIdentification(
            name=ALGORITHM_NAME, version=answer.model_id, parameters=_parameters(answer, why)
        ),
        "measurements": [
            _number(codes.SIMILARITY_SCORE, round(case.score, 6)),
            _number(codes.RANK, case.rank),
            *_scores_by_region(answer, case),
        ],
        "qualitative_evaluations": why.evaluations,
    }
    group: MeasurementGroup
    if len(outlined) == 1:
        group = PlanarROIMeasurementsAndQualitativeEvaluations(referenced_region=outlined[0], **content)
    else:
        group = VolumetricROIMeasurementsAndQualitativeEvaluations(referenced_regions=outlined, **content)
    if hit is not None:
        group[0].ContentSequence.append(
            ImageContentItem(
                name=codes.concept(codes.SIMILAR_IMAGE),
                referenced_sop_class_uid=hit.SOPClassUID,
                referenced_sop_instance_uid=hit.SOPInstanceUID,
                relationship_type=RelationshipTypeValues.CONTAINS,
            )
        )
    return group


def _regions(answer: SimilarCaseList) -> list[Region]:
    """Every region that answered, once, the first one first; a parent may have answered for several."""
    found = [answer.region_answered, *(one.answered for one in answer.regions)]
    return list({region.key: region for region in found}.values())


def _scores_by_region(answer: SimilarCaseList, case: SimilarCase) -> list[Measurement]:
    """Of an answer over several regions the score in each, whose weighted mean is the case's score; else none."""
    if len(answer.regions) < 2 or len(case.by_region) != len(answer.regions):
        return []
    return [
        _number(codes.SIMILARITY_SCORE, round(score, 6), finding_sites(one.answered)[:1])
        for one, score in zip(answer.regions, case.by_region, strict=True)
    ]


def _outlined(answer: SimilarCaseList, image: Dataset) -> list[ImageRegion]:
    """The region that answered, on one image: an outline, or one per side."""
    frames = numbers(image, "NumberOfFrames", 1)
    source = SourceImageForRegion(
        referenced_sop_class_uid=str(image.SOPClassUID),
        referenced_sop_instance_uid=str(image.SOPInstanceUID),
        referenced_frame_numbers=_frames(answer, image, int(frames[0])) if frames and frames[0] > 1 else None,
    )
    return [
        ImageRegion(graphic_type=GraphicTypeValues.POLYLINE, graphic_data=polyline, source_image=source)
        for polyline in closed_polylines(answer.region_answered, image)
    ]


def _frames(answer: SimilarCaseList, image: Dataset, count: int) -> list[int]:
    """The frames of a multi-frame image that show the region; the middle one where they are not known."""
    shown = [ref.frame for ref in answer.query_images if ref.sop_uid == image.SOPInstanceUID and ref.frame <= count]
    return sorted(shown) or [count // 2 + 1]


def _parameters(answer: SimilarCaseList, why: Explanation) -> Sequence[str]:
    """The model and its time (promise P5), the region asked for where a parent answered, and what did not fit."""
    found = [
        f"generation={answer.generation or 'none'}",
        f"as_of={answer.as_of.isoformat(timespec='seconds')}",
        f"search={'exact' if answer.exact else 'approximate'}",
        f"region={answer.region_answered.key}",
    ]
    if len(answer.regions) > 1:
        found.append("regions=" + ",".join(f"{one.answered.key}:{one.weight:g}" for one in answer.regions))
    if answer.region_asked.key != answer.region_answered.key:
        found.append(f"region_asked={answer.region_asked.key}")
    if why.left_out:
        found.append(f"findings_left_out={why.left_out}")
    return found


def _number(name: Code, value: float, sites: Sequence[FindingSite] | None = None) -> Measurement:
    measurement = Measurement(
        name=codes.concept(name), value=value, unit=codes.concept(codes.NO_UNITS), finding_sites=sites
    )
    if isinstance(value, int):
        # highdicom writes an integer as "1.0".
        measurement[0].MeasuredValueSequence[0].NumericValue = str(value)
    return measurement


def _instance_number(predecessor: Dataset | None) -> int:
    if predecessor is None:
        return 1
    digits = text(predecessor, "InstanceNumber")
    return min(int(digits) + 1, MAX_INSTANCE_NUMBER) if digits.isdecimal() and len(digits) <= 12 else 1


def _wall_clock(now: datetime, query_image: Dataset) -> datetime:
    """``now`` in the time zone of the query image: that of its (0008,0201) if it has one, else our own."""
    if now.tzinfo is None:
        return now
    offset = re.fullmatch(r"([+-])(0\d|1[0-4])([0-5]\d)", text(query_image, "TimezoneOffsetFromUTC"))
    if offset is None:
        return now.astimezone()
    ahead = timedelta(hours=int(offset[2]), minutes=int(offset[3]))
    return now.astimezone(timezone(ahead if offset[1] == "+" else -ahead))


def _coding_scheme() -> CodingSchemeIdentificationItem:
    """The declaration of our private scheme (PS3.3 table C.12-1, (0008,0110))."""
    scheme = CodingSchemeIdentificationItem(
        designator=PRIVATE_SCHEME,
        name="RadIR-PACS private codes",
        responsible_organization="RadIR-PACS project",
    )
    scheme.CodingSchemeUID = CODING_SCHEME_UID  # highdicom leaves it out
    scheme.CodingSchemeVersion = "1"
    return scheme


def _as_read_back(document: Dataset) -> Dataset:
    """``document`` written and read again as plain elements: ``to_json`` of highdicom's own raises TypeError."""
    document.file_meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    document.file_meta.ImplementationVersionName = "RADIR_PACS"
    with io.BytesIO() as file:
        document.save_as(file, enforce_file_format=True)
        return pydicom.dcmread(io.BytesIO(file.getvalue()))
