"""What the sidebar is told of a study whose model was replaced: how many wait before it, or why it failed."""

from __future__ import annotations

from typing import Any

import requests

from radir_pacs.reasons import ReasonCode
from radir_pacs.types import JobKind
from tests.catalogue_material import encoded, register
from tests.integration.conftest import Web


def told(web: Web) -> Any:
    return requests.get(f"{web.root}/api/studies/2.25.1", timeout=30).json()


def test_a_study_that_is_encoded_again_says_who_is_before_it_and_why_it_failed(web: Web) -> None:
    register(web.catalogue)
    for study in (1, 2):
        encoded(web.catalogue, study)
        job = web.catalogue.jobs.claim(web.catalogue.jobs.enqueue(JobKind.ENCODE, f"2.25.{study}"), "test")
        assert job is not None
        web.catalogue.jobs.finish(job)
    web.catalogue.studies.mark_indexed()
    assert (told(web)["kinds"], told(web)["replaced"], told(web)["jobs_before"]) == (["CXR"], False, 0)
    register(web.catalogue, "cxr-next-1")
    web.catalogue.jobs.hurry("2.25.2")
    assert len(web.catalogue.jobs.claim_studies(1, "test")) == 1, "a worker is at the other study"
    found = told(web)
    assert (found["state"], found["kinds"], found["replaced"], found["failed"]) == ("INDEXED", [], True, None)
    assert found["jobs_before"] == 1
    [job] = web.catalogue.jobs.claim_studies(1, "test")
    web.catalogue.jobs.fail(job, "no finite number", reason_code=ReasonCode.NO_VECTOR, retry=False)
    found = told(web)
    assert (found["replaced"], found["failed"], found["reason"]) == (False, "NO_VECTOR", "no finite number")
