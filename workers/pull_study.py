"""Pull job: a PACS handed over a reference, and the study's instances are fetched from it by WADO-RS (PS3.18 10.4)."""

from __future__ import annotations

import io
from collections.abc import Iterator

import requests
from dicomweb_client import DICOMwebClient
from pydicom.dataset import Dataset

from radir_pacs.catalogue import Catalogue
from radir_pacs.errors import NotFound, PeerFailed, SettingError, StorageFailed
from radir_pacs.intake.instances import OUT_OF_RESOURCES, Intake
from radir_pacs.storage.blobs import BlobStore
from radir_pacs.types import Job

SOURCE = "pull"
TIMEOUT_S = 60.0  # for each answer of the PACS to begin and to go on
_AS_STORED = (("application/dicom", "*"),)


class PullStudy:
    """The use case of JobKind.PULL; the key is a study UID.

    ``url`` is the DICOMweb service root of the PACS, ``authorization`` the header that it wants, if any. A job that
    ended half-way starts again; what is here already is known by its content.
    """

    def __init__(
        self, catalogue: Catalogue, blobs: BlobStore, intake: Intake, *, url: str, authorization: str = ""
    ) -> None:
        self._catalogue, self._blobs, self._intake = catalogue, blobs, intake
        self._url, self._headers = url, {"Authorization": authorization} if authorization else None

    def __call__(self, job: Job) -> None:
        """Ends the job with the study complete. Raises PeerFailed, StorageFailed: worth another attempt."""
        if not self._url:
            raise SettingError("pull_url: not set, studies cannot be pulled")
        kept = refused = 0
        for ds in self._instances(job.key):
            if self._keep(ds):
                kept += 1
            else:
                refused += 1
        if kept:
            self._catalogue.studies.complete_now(job.key)
        self._catalogue.jobs.finish(job, f"{kept} instances kept, {refused} refused")

    def _instances(self, study_uid: str) -> Iterator[Dataset]:
        client = DICOMwebClient(self._url, headers=self._headers, timeout=TIMEOUT_S)
        client.set_http_retry_params(retry=False)  # the job is tried again as a whole
        try:
            yield from client.iter_study(study_uid, media_types=_AS_STORED)
        except requests.HTTPError as error:
            status = error.response.status_code if error.response is not None else 0
            if status == 404:
                raise NotFound("the PACS has no such study") from None
            raise PeerFailed(f"the PACS answers with status {status}") from None
        except (requests.RequestException, OSError, ValueError, KeyError) as error:
            raise PeerFailed(f"the PACS cannot be read ({type(error).__name__})") from None

    def _keep(self, ds: Dataset) -> bool:
        with self._blobs.incoming() as incoming:
            try:
                incoming.write(_part10(ds))
            except (ValueError, AttributeError, TypeError, NotImplementedError):
                return False  # it cannot even be written again
            outcome = self._intake.store(incoming, source=SOURCE)
        if outcome.status == OUT_OF_RESOURCES:
            raise StorageFailed(outcome.reason)
        return outcome.ok


def _part10(ds: Dataset) -> bytes:
    with io.BytesIO() as file:
        ds.save_as(file, enforce_file_format=True)
        return file.getvalue()
