"""The structured report of an answer, from what the catalogue knows of the images in it."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

from pydicom.dataset import Dataset

from radir_pacs.catalogue import Catalogue
from radir_pacs.config import Settings
from radir_pacs.delivery.structured_report import similar_cases_sr
from radir_pacs.types import SimilarCaseList


def report_of(
    answer: SimilarCaseList, catalogue: Catalogue, settings: Settings, *, predecessor: Dataset | None = None
) -> Dataset:
    """The SR of ``answer`` (see `similar_cases_sr`). Raises NotFound when an image was deleted meanwhile."""
    headers = {uid: _header(catalogue, uid) for uid in (answer.query_sop_uid, *(c.sop_uid for c in answer.cases))}
    return similar_cases_sr(
        answer,
        headers[answer.query_sop_uid],
        headers,
        now=datetime.now(UTC),
        device_uid=device_uid(settings),
        include_other_uids=settings.sr_other_uids,
        comprehensive_3d=settings.sr_comprehensive_3d,
        predecessor=predecessor,
    )


def device_uid(settings: Settings) -> str:
    """One UID an installation (PS3.3 C.12.1.5 Device UID), from its name and place."""
    place = f"radir-pacs:{settings.ae_title}:{settings.public_url}"
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_URL, place).int}"


def _header(catalogue: Catalogue, sop_uid: str) -> Dataset:
    """The header that was read under bounds when the instance came; the file is not parsed again."""
    return Dataset.from_json(dict(catalogue.instances.get(sop_uid).attributes))
