"""The structured report of an answer, made from what the catalogue knows of its images."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

from pydicom import config
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from radir_pacs.catalogue import Catalogue
from radir_pacs.config import Settings
from radir_pacs.delivery.query_header import text
from radir_pacs.dicom.stored_header import dataset_of
from radir_pacs.errors import BadInput
from radir_pacs.similar_cases import SimilarCaseList
from radir_pacs.types import CatalogueStudy


def report_of(
    answer: SimilarCaseList, catalogue: Catalogue, settings: Settings, *, predecessor: Dataset | None = None
) -> Dataset:
    """The SR of ``answer`` (see `similar_cases_sr`).

    Raises NotFound when an image was deleted meanwhile, BadInput for an answer in words: its codes name regions.
    """
    if answer.query.words is not None:
        raise BadInput("a structured report is of a region: ask without words, or for rows")
    from .structured_report import similar_cases_sr  # brings highdicom: half a second that most processes never need

    slices = dict.fromkeys(image.sop_uid for image in answer.query_images if image.sop_uid != answer.query_sop_uid)
    headers = {uid: _header(catalogue, uid) for uid in (answer.query_sop_uid, *(c.sop_uid for c in answer.cases))}
    query_image = headers[answer.query_sop_uid]
    _name_the_patient(query_image, catalogue.studies.get(answer.query.study_uid))
    return similar_cases_sr(
        answer,
        query_image,
        headers,
        now=datetime.now(UTC),
        device_uid=device_uid(settings),
        more_images=[_header(catalogue, uid) for uid in slices],
        include_other_uids=settings.sr_other_uids,
        comprehensive_3d=settings.sr_comprehensive_3d,
        predecessor=predecessor,
    )


def device_uid(settings: Settings) -> str:
    """One UID per installation (PS3.3 C.12.1.5 Device UID), derived from its name and address."""
    place = f"radir-pacs:{settings.ae_title}:{settings.public_url}"
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_URL, place).int}"


def _name_the_patient(query_image: Dataset, study: CatalogueStudy) -> None:
    """Fill in the study's patient: the newest correction may have come with another instance than the query image."""
    patient_id = (study.patient_id or "").split("\\")[0]
    if not patient_id or patient_id == text(query_image, "PatientID"):
        return
    birth_date = f"{study.patient_birth_date:%Y%m%d}" if study.patient_birth_date else ""
    named = {"ID": patient_id, "Name": study.patient_name, "Sex": study.patient_sex, "BirthDate": birth_date}
    for attribute, vr in (("ID", "LO"), ("Name", "PN"), ("Sex", "CS"), ("BirthDate", "DA")):
        # Unchecked, since pydicom's warnings repeat the value.
        tag = tag_for_keyword("Patient" + attribute)
        assert tag is not None
        query_image.add(DataElement(tag, vr, named[attribute] or "", validation_mode=config.IGNORE))
    query_image.pop("IssuerOfPatientID", None)


def _header(catalogue: Catalogue, sop_uid: str) -> Dataset:
    """The header as it was read, within bounds, when the instance arrived; the file is not parsed again."""
    return dataset_of(catalogue.instances.get(sop_uid).attributes)
