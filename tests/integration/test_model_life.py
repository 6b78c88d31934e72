"""The life of models in the catalogue: one serves, one may encode beside it, and the history says why."""

from __future__ import annotations

import pytest

from radir_pacs.catalogue import Catalogue
from radir_pacs.errors import NotCovered
from radir_pacs.types import ImageKind, Job, JobKind, Urgency
from tests.catalogue_material import DIM, MODEL, add, claimed, encoding, header

CXR = ImageKind.CXR
NEXT = "cxr-next-1"


def known(catalogue: Catalogue, model_id: str, kind: ImageKind = CXR) -> None:
    catalogue.models.register(model_id, kind, DIM, {"name": "test"}, by="test", reason="a test", bundle_sha256="0" * 64)


def serving(catalogue: Catalogue, kind: ImageKind = CXR) -> str:
    model = catalogue.models.serving(kind)
    assert model is not None
    return model.model_id


def archive(catalogue: Catalogue, studies: int) -> None:
    """Studies encoded by the first model, which serves."""
    known(catalogue, MODEL)
    catalogue.models.promote(MODEL, by="test", reason="the first")
    for study in range(1, studies + 1):
        add(catalogue, header(study))
        catalogue.studies.complete_now(f"2.25.{study}")
        job = claimed(catalogue, key=f"2.25.{study}")
        assert catalogue.encodings.save(encoding(study, study), 1, job)


def work(catalogue: Catalogue, most: int = 1000) -> list[Job]:
    """Do what is queued for models beside the one that serves; returns the jobs in the order in which they came."""
    done: list[Job] = []
    while jobs := catalogue.jobs.claim_studies(min(8, most - len(done)), "test"):
        for job in jobs:
            assert job.kind is JobKind.REENCODE and job.model_id is not None
            number = int(job.study_uid.rpartition(".")[2])
            catalogue.encodings.save_beside(encoding(number, 100 + number, job.model_id), 1, job)
        done += jobs
    return done


def follow(catalogue: Catalogue) -> None:
    """The next model, in shadow, with everything encoded."""
    known(catalogue, NEXT)
    catalogue.models.set_shadow(NEXT, by="test", reason="a better one")
    while catalogue.reencoding.feed() or work(catalogue):
        pass


def test_nothing_answers_before_it_covers_what_there_is(catalogue: Catalogue) -> None:
    archive(catalogue, 5)
    known(catalogue, NEXT)
    catalogue.models.set_shadow(NEXT, by="test", reason="a better one")
    assert catalogue.reencoding.feed() == 5
    first = catalogue.jobs.claim_studies(1, "test")
    assert [(job.urgency, job.study_uid) for job in first] == [(Urgency.BACKGROUND, "2.25.5")], "the newest first"
    catalogue.jobs.release(first)
    assert len(work(catalogue, most=4)) == 4
    with pytest.raises(NotCovered, match=r"4 of 5 studies, 80\.00 %"):
        catalogue.models.promote(NEXT, by="test", reason="impatience")
    assert serving(catalogue) == MODEL
    progress = catalogue.models.progress(NEXT)
    assert (progress.coverage.encoded, progress.coverage.total, progress.waiting, progress.failed) == (4, 5, 1, 0)
    work(catalogue)
    catalogue.models.promote(NEXT, by="test", reason="it is time")
    assert serving(catalogue) == NEXT
