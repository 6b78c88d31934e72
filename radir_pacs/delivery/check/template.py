"""Our own check of our reports, for what dciodvfy and PixelMed do not notice.

The public validators pass a report without Procedure Reported or Tracking UID, or with another patient's data in it.
``violations`` reads any data set, so it works on what came back from a PACS as well.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from itertools import pairwise

from pydicom.dataset import Dataset

from radir_pacs.anatomy import PRIVATE_SCHEME
from radir_pacs.delivery import codes
from radir_pacs.dicom.loop_guard import CODING_SCHEME_UID
from radir_pacs.types import BILATERAL, LEFT, RIGHT

from . import content_tree as tree
from .evaluation import evaluation_faults

SR_SOP_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.88.33",  # Comprehensive SR
    "1.2.840.10008.5.1.4.1.1.88.34",  # Comprehensive 3D SR
}
# Attributes that describe a patient or a visit; below the root they could only be another patient's.
_IDENTIFYING_VRS = {"PN", "DA", "TM", "DT", "AS"}
_IDENTIFYING = {"PatientID", "OtherPatientIDs", "AccessionNumber", "StudyID", "PatientSex", "InstitutionName"}
_IDENTIFYING_VALUE_TYPES = {"PNAME", "DATE", "TIME", "DATETIME"}
# What the texts of the report may say; free text could say anything about anybody.
_TEXTS = {
    tree.pair(codes.TRACKING_IDENTIFIER): re.compile(r"Similar case \d+"),
    tree.pair(codes.ALGORITHM_NAME): re.compile(r".+"),
    tree.pair(codes.ALGORITHM_VERSION): re.compile(r".+"),
    tree.pair(codes.ALGORITHM_PARAMETERS): re.compile(
        r"(generation|as_of|search|region|regions|region_asked)=.*|findings_left_out=\d+"
    ),
    tree.pair(codes.DEVICE_OBSERVER_NAME): re.compile(r".+"),
    tree.pair(codes.DEVICE_OBSERVER_MANUFACTURER): re.compile(r".+"),
    tree.pair(codes.DEVICE_OBSERVER_MODEL_NAME): re.compile(r".+"),
    tree.pair(codes.PATIENT_ORIENTATION_ROW): re.compile(r"[A-Z]{1,3}"),
    tree.pair(codes.PATIENT_ORIENTATION_COLUMN): re.compile(r"[A-Z]{1,3}"),
}


def violations(ds: Dataset, *, foreign_texts: Collection[str] = ()) -> list[str]:
    """Every rule of ours that ``ds`` breaks, one sentence per fault; empty for a sound report.

    foreign_texts: names, ids or UIDs that must not stand anywhere in it.
    """
    found = _document_faults(ds)
    found += _context_faults(ds)
    found += _library_faults(ds)
    found += _group_faults(ds)
    found += _evidence_faults(ds)
    found += _coding_scheme_faults(ds)
    found += _foreign_faults(ds, foreign_texts)
    found += _predecessor_faults(ds)
    return found


def _document_faults(ds: Dataset) -> list[str]:
    found = []
    if ds.get("SOPClassUID") not in SR_SOP_CLASSES or ds.get("Modality") != "SR":
        found.append("not a Comprehensive or Comprehensive 3D SR")
    if tree.code(ds, "ConceptNameCodeSequence") != tree.pair(codes.IMAGING_MEASUREMENT_REPORT):
        found.append("the title is not Imaging Measurement Report (126000, DCM)")
    if tree.template(ds) != "1500":
        found.append("the root does not name TID 1500")
    if ds.get("CompletionFlag") != "COMPLETE":
        found.append("Completion Flag is not COMPLETE")
    if ds.get("VerificationFlag") != "UNVERIFIED" or "VerifyingObserverSequence" in ds:
        found.append("a computed report must be UNVERIFIED")
    return found


def _context_faults(ds: Dataset) -> list[str]:
    found = []
    if [tree.code(item, "ConceptCodeSequence") for item in tree.children(ds, codes.OBSERVER_TYPE)] != [
        tree.pair(codes.DEVICE)
    ]:
        found.append("Observer Type is not one device")
    if not any(tree.uid(item) for item in tree.children(ds, codes.DEVICE_OBSERVER_UID)):
        found.append("Device Observer UID is missing")
    procedures = [tree.code(item, "ConceptCodeSequence") for item in tree.children(ds, codes.PROCEDURE_REPORTED)]
    if procedures != [tree.pair(codes.IMAGING_PROCEDURE)]:
        found.append("Procedure Reported is missing or not Imaging procedure (363679005, SCT)")
    return found


def _library_faults(ds: Dataset) -> list[str]:
    libraries = tree.children(ds, codes.IMAGE_LIBRARY)
    if len(libraries) != 1:
        return ["there is not one Image Library (111028, DCM)"]
    if not tree.library_images(ds):
        return ["the Image Library has no image in an Image Library Group"]
    if not set(tree.library_images(ds)) <= tree.evidence(ds, "CurrentRequestedProcedureEvidenceSequence").keys():
        return ["the Image Library names an image that is not of the query study"]
    return []


def _group_faults(ds: Dataset) -> list[str]:
    containers = tree.children(ds, codes.IMAGING_MEASUREMENTS)
    groups = tree.children(containers[0], codes.MEASUREMENT_GROUP) if len(containers) == 1 else []
    if not groups:
        return ["there is no Imaging Measurements container (126010, DCM) with a Measurement Group"]
    found = []
    tracking_uids = [uid for group in groups for uid in map(tree.uid, tree.children(group, codes.TRACKING_UID)) if uid]
    if len(set(tracking_uids)) != len(tracking_uids):
        found.append("two groups share a Tracking Unique Identifier")
    ranks = [tree.number(group, codes.RANK) for group in groups]
    for place, group in enumerate(groups, start=1):
        found += [f"group {place}: {fault}" for fault in _one_group_faults(group, set(tree.library_images(ds)))]
    known_ranks = [rank for rank in ranks if rank is not None]
    if any(later != earlier + 1 for earlier, later in pairwise(known_ranks)):
        found.append("the groups are not in order of rank")
    return found


def _one_group_faults(group: Dataset, query_images: set[str]) -> list[str]:
    found = []
    outlines = tree.children(group, codes.IMAGE_REGION)
    expected = "1411" if len(outlines) > 1 else "1410"
    if tree.template(group) != expected:
        found.append(f"it does not name TID {expected}")
    if not any(str(item.get("TextValue", "")) for item in tree.children(group, codes.TRACKING_IDENTIFIER)):
        found.append("Tracking Identifier is missing")
    references = [item for item in tree.content(group) if item.get("ValueType") == "UIDREF"]
    if not references or tree.code(references[0], "ConceptNameCodeSequence") != tree.pair(codes.TRACKING_UID):
        found.append("Tracking Unique Identifier is missing or not the first UIDREF")
    if [tree.code(item, "ConceptCodeSequence") for item in tree.children(group, codes.FINDING)] != [
        tree.pair(codes.SIMILAR_CASE)
    ]:
        found.append("Finding is not Similar case")
    found += _site_faults(group)
    for name in (codes.ALGORITHM_NAME, codes.ALGORITHM_VERSION):
        if not any(str(item.get("TextValue", "")) for item in tree.children(group, name)):
            found.append(f"{name.meaning} is missing")
    for name in (codes.SIMILARITY_SCORE, codes.RANK):
        if tree.number(group, name) is None:
            found.append(f"{name.meaning} is missing")
    return found + evaluation_faults(group) + _outline_faults(outlines, query_images)


def _site_faults(group: Dataset) -> list[str]:
    sites = tree.children(group, codes.FINDING_SITE)
    found = [] if sites else ["Finding Site is missing"]
    if sites and not any(tree.code(site, "ConceptCodeSequence")[1] == "SCT" for site in sites):
        found.append("no Finding Site is of SNOMED CT")
    sides = {tree.pair(side) for side in (LEFT, RIGHT, BILATERAL)}
    for site in sites:
        if any(tree.code(item, "ConceptCodeSequence") not in sides for item in tree.children(site, codes.LATERALITY)):
            found.append("Laterality is not left, right or both")
    return found


def _outline_faults(outlines: Sequence[Dataset], query_images: set[str]) -> list[str]:
    if not outlines or any(outline.get("ValueType") != "SCOORD" for outline in outlines):
        return ["there is no SCOORD that outlines the region"]
    found = []
    for outline in outlines:
        data = [float(number) for number in outline.get("GraphicData") or ()]
        if outline.get("GraphicType") != "POLYLINE" or len(data) < 8 or data[:2] != data[-2:]:
            found.append("the outline is not a closed polyline")
        images = [
            tree.image_uid(item) for item in tree.content(outline) if item.get("RelationshipType") == "SELECTED FROM"
        ]
        if len(images) != 1 or images[0] not in query_images:
            found.append("the outline does not lie on the query image")
    return list(dict.fromkeys(found))


def _evidence_faults(ds: Dataset) -> list[str]:
    current = tree.evidence(ds, "CurrentRequestedProcedureEvidenceSequence")
    other = tree.evidence(ds, "PertinentOtherEvidenceSequence")
    named = {tree.image_uid(item) for item in tree.descendants(ds) if item.get("ValueType") in {"IMAGE", "COMPOSITE"}}
    found = []
    if current.keys() & other.keys():
        found.append("an instance stands in both evidence sequences")
    if set(current.values()) - {ds.get("StudyInstanceUID")}:
        found.append("Current Requested Procedure Evidence names another study")
    if ds.get("StudyInstanceUID") in other.values():
        found.append("Pertinent Other Evidence names the query study")
    if named - current.keys() - other.keys():
        found.append("an instance is referenced without being evidence")
    if (current.keys() | other.keys()) - named:
        found.append("evidence is listed that nothing refers to")
    return found


def _coding_scheme_faults(ds: Dataset) -> list[str]:
    declared = {
        str(item.get("CodingSchemeDesignator", "")): str(item.get("CodingSchemeUID", ""))
        for item in ds.get("CodingSchemeIdentificationSequence") or ()
    }
    used = {str(item.get("CodingSchemeDesignator", "")) for item in tree.datasets(ds) if tree.code_value(item)}
    found = [f"the private scheme {scheme} is not declared" for scheme in sorted(used) if _undeclared(scheme, declared)]
    if PRIVATE_SCHEME in declared and declared[PRIVATE_SCHEME] != CODING_SCHEME_UID:
        found.append(f"{PRIVATE_SCHEME} is declared with a UID that is not ours")
    return found


def _undeclared(scheme: str, declared: Collection[str]) -> bool:
    return scheme.startswith("99") and scheme not in declared


def _foreign_faults(ds: Dataset, foreign_texts: Collection[str]) -> list[str]:
    found = []
    for inner in tree.datasets(ds):
        if any(element.tag.is_private for element in inner):
            found.append("a private element could carry anything")
        if inner is ds:
            continue
        if any(element.VR in _IDENTIFYING_VRS or element.keyword in _IDENTIFYING for element in inner):
            found.append("an item below the root carries a name, an id or a date")
        if inner.get("ValueType") in _IDENTIFYING_VALUE_TYPES:
            found.append(f"a content item of type {inner.ValueType} can carry another patient's data")
    for item in tree.descendants(ds):
        if item.get("ValueType") == "TEXT":
            allowed = _TEXTS.get(tree.code(item, "ConceptNameCodeSequence"))
            if allowed is None or not allowed.fullmatch(str(item.get("TextValue", ""))):
                found.append("a text item says what no rule allows")
    texts = [str(value) for inner in tree.datasets(ds) for value in tree.values(inner)]
    if any(foreign and foreign in value for foreign in foreign_texts for value in texts):
        found.append("a text names another patient")
    return found


def _predecessor_faults(ds: Dataset) -> list[str]:
    if "PredecessorDocumentsSequence" not in ds:
        return []
    references = [uid for uid, _ in tree.references(ds.PredecessorDocumentsSequence)]
    if not references:
        return ["Predecessor Documents Sequence names no document"]
    return ["the report is its own predecessor"] if ds.get("SOPInstanceUID") in references else []
