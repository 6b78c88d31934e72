"""A study pulled by reference, from our own DICOMweb service in the part of the PACS."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from radir_pacs.catalogue import Catalogue
from radir_pacs.config import Settings
from radir_pacs.errors import NotFound, PeerFailed, SettingError
from radir_pacs.intake.instances import Intake
from radir_pacs.storage.blobs import BlobStore
from radir_pacs.types import Job, JobKind, JobState, StudyState
from radir_workers.pull_study import PullStudy
from tests.conftest import free_port
from tests.dicom_files import radiograph
from tests.integration.conftest import Web


class Here:
    """Our side: a blob folder of its own, beside the catalogue that the PACS does not use any more."""

    def __init__(self, catalogue: Catalogue, settings: Settings, home: Path) -> None:
        self.catalogue, self.blobs = catalogue, BlobStore(home / "blobs")
        self.intake = Intake(catalogue, self.blobs, settings)

    def job(self, study_uid: str) -> Job:
        claimed = self.catalogue.jobs.claim(self.catalogue.jobs.enqueue(JobKind.PULL, study_uid), "test")
        assert claimed is not None
        return claimed

    def pull(self, url: str, study_uid: str) -> Job:
        job = self.job(study_uid)
        PullStudy(self.catalogue, self.blobs, self.intake, url=url)(job)
        return job


@pytest.fixture
def here(catalogue: Catalogue, settings: Settings, tmp_path: Path) -> Here:
    return Here(catalogue, settings, tmp_path / "here")


def test_what_is_here_already_is_known_by_its_content_and_the_study_is_complete(here: Here, web: Web) -> None:
    ds = radiograph()
    web.store(ds)
    job = here.pull(web.base, ds.StudyInstanceUID)
    ended = here.catalogue.jobs.get(job.id)
    assert ended is not None and ended.state is JobState.DONE
    study = here.catalogue.studies.get(ds.StudyInstanceUID)
    assert (study.instance_count, study.state) == (1, StudyState.STABLE)
    assert here.catalogue.refusals.recent() == ()


def test_a_study_that_the_pacs_has_not_is_not_tried_again(here: Here, web: Web) -> None:
    with pytest.raises(NotFound):
        here.pull(web.base, "1.2.3")


def test_a_pacs_that_is_down_or_talks_nonsense_is_worth_another_attempt(here: Here, web: Web) -> None:
    with pytest.raises(PeerFailed, match="cannot be read"):
        here.pull(f"http://127.0.0.1:{free_port()}", "1.2.3")
    with pytest.raises(PeerFailed, match="status 4"):
        here.pull(web.base, "no-uid")


def test_without_a_pacs_nothing_can_be_pulled(here: Here, web: Web, serve: Callable[..., Web]) -> None:
    with pytest.raises(SettingError, match="pull_url"):
        here.pull("", "1.2.3")
    assert requests.post(web.base + "/studies/1.2.3/pull", timeout=30).status_code == 404
    other = serve(pull_url="http://127.0.0.1:9/dicom-web")
    answer = requests.post(other.base + "/studies/1.2.3/pull", timeout=30)
    assert answer.status_code == 202
    asked = here.catalogue.jobs.get(answer.json()["job"])
    assert asked is not None and (asked.kind, asked.key) == (JobKind.PULL, "1.2.3")
