"""Completion, outcome, deletion of studies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from radir_pacs.catalogue import Catalogue
from radir_pacs.errors import NotFound
from radir_pacs.types import JobKind, StudyState
from tests.catalogue_material import MODEL, add, claimed, encoded, header, owners, register


def test_a_quiet_study_is_complete_with_its_job(catalogue: Catalogue) -> None:
    add(catalogue, header(1))
    add(catalogue, header(2))
    assert catalogue.studies.complete_quiet(60) == []
    assert sorted(catalogue.studies.complete_quiet(0)) == ["2.25.1", "2.25.2"]
    assert catalogue.studies.complete_quiet(0) == []
    assert catalogue.studies.get("2.25.1").state is StudyState.STABLE
    assert len(catalogue.jobs.to_announce(10)) == 2


def test_a_stable_study_without_a_job_gets_one(catalogue: Catalogue) -> None:
    add(catalogue, header())
    catalogue.studies.complete_quiet(0)
    assert catalogue.studies.encode_forgotten() == []
    catalogue.jobs.finish(claimed(catalogue))
    assert catalogue.studies.encode_forgotten() == ["2.25.1"]
    assert catalogue.studies.encode_forgotten() == []


def test_a_pacs_may_say_that_a_study_is_complete(catalogue: Catalogue) -> None:
    add(catalogue, header())
    assert catalogue.studies.complete_now("2.25.1")
    assert not catalogue.studies.complete_now("2.25.1")
    with pytest.raises(NotFound):
        catalogue.studies.complete_now("2.25.404")
    job = catalogue.jobs.claim(catalogue.jobs.to_announce(10)[0], "test")
    assert job and (job.kind, job.key) == (JobKind.ENCODE, "2.25.1")


@pytest.mark.parametrize("state", [StudyState.SKIPPED, StudyState.QUARANTINED])
def test_an_end_without_vectors_needs_a_reason_and_takes_old_vectors_away(
    catalogue: Catalogue, state: StudyState
) -> None:
    register(catalogue)
    label = encoded(catalogue)
    with pytest.raises(ValueError, match="reason"):
        catalogue.studies.set_state("2.25.1", state)
    assert not catalogue.studies.set_state("2.25.1", state, "of an old revision", revision=0)
    assert catalogue.studies.set_state("2.25.1", state, "no chest", revision=1)
    changes = catalogue.encodings.changes(MODEL, "chest")
    assert (changes.ids.tolist(), changes.gone.tolist()) == ([], [label])


def test_an_encoded_study_is_indexed_once_every_reader_sees_it(catalogue: Catalogue) -> None:
    register(catalogue)
    encoded(catalogue, 1)
    assert catalogue.studies.mark_indexed() == ["2.25.1"]
    assert catalogue.studies.mark_indexed() == []
    assert catalogue.studies.get("2.25.1").state is StudyState.INDEXED


def test_a_deleted_study_takes_everything_along(catalogue: Catalogue) -> None:
    register(catalogue)
    label = encoded(catalogue, 1)
    other = encoded(catalogue, 2)
    before = catalogue.encodings.changes(MODEL, "chest")
    assert len(catalogue.studies.delete("2.25.1")) == 1
    after = catalogue.encodings.changes(MODEL, "chest", before.xid)
    assert label in after.gone and label not in after.ids
    assert set(owners(catalogue, np.array([label, other]))) == {other}
    with pytest.raises(NotFound):
        catalogue.studies.get("2.25.1")
    with pytest.raises(NotFound):
        catalogue.studies.delete("2.25.1")
    assert catalogue.instances.of_study("2.25.1") == ()


def test_a_blob_that_another_study_shares_is_kept(catalogue: Catalogue) -> None:
    add(catalogue, header(1), "shared")
    add(catalogue, header(2), "shared")
    add(catalogue, header(2, 1, 2), "own")
    assert len(catalogue.studies.delete("2.25.2")) == 1
    assert len(catalogue.studies.delete("2.25.1")) == 1


def test_headers_come_back_as_they_went_in(catalogue: Catalogue) -> None:
    given = header(series_number=3, body_part="CHEST", patient_age_years=61.0, study_time="1130")
    add(catalogue, given)
    [(found, sha256)] = catalogue.instances.headers_of("2.25.1")
    assert found == replace(given, patient_keys=(given.patient_key,), source="TEST")
    assert sha256 == catalogue.instances.get(given.sop_uid).content_sha256
    with pytest.raises(NotFound):
        catalogue.instances.get("2.25.404")
