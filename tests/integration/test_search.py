"""The query against an oracle that knows every vector: rights and filters inside, parents, deletion, damage."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from radir_pacs import anatomy
from radir_pacs.catalogue import Catalogue
from radir_pacs.config import Settings
from radir_pacs.errors import NotFound, NotReady, Quarantined, Skipped, UnknownRegion
from radir_pacs.index import partition_folder
from radir_pacs.index.manifest import VECTORS
from radir_pacs.query import Searcher
from radir_pacs.query.notices import worded
from radir_pacs.reasons import ReasonCode
from radir_pacs.similar_cases import Filters, Notice, NoticeCode, Query
from radir_pacs.types import ImageKind, JobKind, SliceStack, StudyState
from radir_workers.index_partition import IndexPartition
from tests.catalogue_material import (
    DIM,
    MODEL,
    REGIONS,
    TESTER,
    add,
    claimed,
    encoded,
    encoding,
    header,
    register,
    serve_model,
)
from tests.index_material import segment_of

COUNT = 40


@pytest.fixture
def archive(catalogue: Catalogue) -> Catalogue:
    """Forty studies of twenty patients, two each; every third is a CT, which no one but the modality tells."""
    register(catalogue)
    for study in range(1, COUNT + 1):
        encoded(
            catalogue,
            study,
            patient_key=f"|p{study // 2}",
            patient_id=f"p{study // 2}",
            modality="CR" if study % 3 == 0 else "DX",
            patient_sex="FM"[study % 2],
            patient_age_years=float(20 + study),
            study_date=date(2020, 1, 1).replace(month=1 + study % 12),
        )
    return catalogue


@pytest.fixture
def searcher(archive: Catalogue, settings: Settings) -> Searcher:
    return Searcher(archive, settings)


def vector(study: int, region: str) -> np.ndarray:
    return encoding(study, study).vectors[REGIONS.index(region)]


def oracle(query: int, region: str, candidates: list[int]) -> list[str]:
    """Study UIDs of the candidates by falling cosine to the query."""
    scores = {study: float(vector(study, region) @ vector(query, region)) for study in candidates}
    return [f"2.25.{study}" for study in sorted(scores, key=lambda study: -scores[study])]


def asked(searcher: Searcher, study: int = 5, region: str = "left_lung", limit: int = 10, **changes) -> list[str]:
    answer = searcher.similar(Query(study_uid=f"2.25.{study}", region=region, limit=limit, **changes), TESTER)
    return [case.study.study_uid for case in answer.cases]


def others(query: int) -> list[int]:
    return [study for study in range(1, COUNT + 1) if study // 2 != query // 2]


@pytest.mark.parametrize("region", REGIONS)
def test_the_answer_is_the_oracles_without_the_patient(searcher: Searcher, region: str) -> None:
    assert asked(searcher, 5, region, limit=COUNT) == oracle(5, region, others(5))


def test_the_patient_comes_when_asked_for_but_never_the_query(searcher: Searcher) -> None:
    found = asked(searcher, limit=COUNT, filters=Filters(exclude_same_patient=False))
    assert found == oracle(5, "left_lung", [study for study in range(1, COUNT + 1) if study != 5])


@pytest.mark.parametrize(
    ("filters", "passes"),
    [
        (Filters(modalities=frozenset({"CR"})), lambda study: study % 3 == 0),
        (Filters(sexes=frozenset({"F"})), lambda study: study % 2 == 0),
        (Filters(age_from=30, age_to=40), lambda study: 30 <= 20 + study <= 40),
        (Filters(study_date_from=date(2020, 6, 1)), lambda study: 1 + study % 12 >= 6),
        (Filters(study_date_to=date(2020, 3, 1)), lambda study: 1 + study % 12 <= 3),
        (Filters(exclude_studies=frozenset({"2.25.7"})), lambda study: study != 7),
        (Filters(sexes=frozenset({"F"}), age_to=30), lambda study: study % 2 == 0 and study <= 10),
    ],
)
@pytest.mark.parametrize("merged", [False, True])
def test_filters_apply_inside_the_search(
    searcher: Searcher, archive: Catalogue, settings: Settings, filters: Filters, passes, merged: bool
) -> None:
    """Whoever asks for five gets the best five that pass, from a tail as well as from a generation."""
    if merged:
        merge(archive, settings, "left_lung")
    expected = oracle(5, "left_lung", [study for study in others(5) if passes(study)])
    assert asked(searcher, limit=5, filters=filters) == expected[:5]


def test_pages_follow_one_another_and_say_what_is_left(searcher: Searcher) -> None:
    whole = asked(searcher, limit=COUNT)
    pages, offset = [], 0
    while True:
        answer = searcher.similar(Query(study_uid="2.25.5", region="left_lung", limit=7, offset=offset), TESTER)
        pages += [case.study.study_uid for case in answer.cases]
        assert answer.more == len(whole) - len(pages)
        assert [case.rank for case in answer.cases] == list(range(offset + 1, offset + 1 + len(answer.cases)))
        offset += 7
        if not answer.more:
            break
    assert pages == whole


def test_a_deleted_study_is_gone_and_a_new_one_is_there_at_once(searcher: Searcher, archive: Catalogue) -> None:
    whole = asked(searcher, limit=COUNT)
    archive.studies.delete(whole[0])
    assert asked(searcher, limit=COUNT) == whole[1:]
    encoded(archive, 41, patient_key="|p99")
    assert asked(searcher, limit=COUNT + 1) == oracle(
        5, "left_lung", [int(uid.removeprefix("2.25.")) for uid in whole[1:]] + [41]
    )


def merge(catalogue: Catalogue, settings: Settings, region: str) -> str:
    """Build and publish the partition's generation as the worker does; returns its name."""
    IndexPartition(catalogue, settings.home)(claimed(catalogue, JobKind.INDEX, f"{MODEL}/{region}"))
    published = catalogue.generations.published(MODEL, region)
    assert published is not None
    return published.name


def test_a_merge_changes_no_answer_and_names_its_generation(
    searcher: Searcher, archive: Catalogue, settings: Settings
) -> None:
    before = asked(searcher, limit=COUNT)
    name = merge(archive, settings, "left_lung")
    answer = searcher.similar(Query(study_uid="2.25.5", region="left_lung", limit=COUNT), TESTER)
    assert [case.study.study_uid for case in answer.cases] == before
    assert (answer.generation, answer.model_id, answer.exact) == (name, MODEL, True)
    assert asked(Searcher(archive, settings), limit=COUNT) == before  # and in a process that never saw the tail


def test_a_damaged_generation_is_refused_and_answers_do_not_change(
    searcher: Searcher, archive: Catalogue, settings: Settings
) -> None:
    before = asked(searcher, limit=COUNT)
    name = merge(archive, settings, "left_lung")
    file = segment_of(partition_folder(settings.home, MODEL, "left_lung") / name) / VECTORS
    file.chmod(0o600)
    damaged = bytearray(file.read_bytes())
    damaged[100] ^= 0xFF
    file.write_bytes(damaged)
    fresh = Searcher(archive, settings)
    answer = fresh.similar(Query(study_uid="2.25.5", region="left_lung", limit=COUNT), TESTER)
    assert [case.study.study_uid for case in answer.cases] == before
    assert answer.generation is None
    assert archive.generations.published(MODEL, "left_lung") is None  # all tail again: the relay asks for a merge
    assert merge(archive, settings, "left_lung") != name
    assert asked(fresh, limit=COUNT) == before


def test_a_lost_index_folder_is_rebuilt_from_the_catalogue(
    searcher: Searcher, archive: Catalogue, settings: Settings
) -> None:
    before = asked(searcher, limit=COUNT)
    merge(archive, settings, "left_lung")
    shutil.rmtree(settings.home / "index")
    assert asked(Searcher(archive, settings), limit=COUNT) == before


def test_a_region_that_the_model_does_not_know_answers_from_its_parent(searcher: Searcher) -> None:
    answer = searcher.similar(Query(study_uid="2.25.5", region="left_lower_lobe"), TESTER)
    assert (answer.region_asked.key, answer.region_answered.key) == ("left_lower_lobe", "left_lung")
    unknown = Notice(
        code=NoticeCode.NOT_A_REGION_OF_THE_MODEL, values={"asked": "left_lower_lobe", "answered": "left_lung"}
    )
    assert unknown in answer.notices


def test_a_region_with_too_few_cases_answers_from_its_parent(archive: Catalogue, settings: Settings) -> None:
    for study in range(1, COUNT + 1):
        if study > 8:  # most images show no left lung
            archive.encodings.save(encoding(study, study, regions=("chest", "right_lung")), revision=1)
    searcher = Searcher(archive, replace(settings, min_cases=20))
    answer = searcher.similar(Query(study_uid="2.25.5", region="left_lung"), TESTER)
    assert answer.region_answered.key == "chest"
    assert NoticeCode.TOO_FEW_CASES in {notice.code for notice in answer.notices}
    enough = Searcher(archive, replace(settings, min_cases=3))
    assert enough.similar(Query(study_uid="2.25.5", region="left_lung"), TESTER).region_answered.key == "left_lung"


def test_no_region_of_the_model_fits(archive: Catalogue, settings: Settings) -> None:
    register(archive, "cxr-lungs-only")
    add(archive, header(50))
    archive.studies.complete_now("2.25.50")
    archive.encodings.save(encoding(50, 50, "cxr-lungs-only", ("left_lung", "right_lung")), revision=1)
    with pytest.raises(UnknownRegion, match="heart"):
        Searcher(archive, settings).similar(Query(study_uid="2.25.50", region="heart"), TESTER)


def test_two_models_never_meet(archive: Catalogue, settings: Settings) -> None:
    """A newer model answers only with what it encoded itself (P5)."""
    register(archive, "cxr-new-1")
    for study in (60, 61):
        add(archive, header(study))
        archive.studies.complete_now(f"2.25.{study}")
        archive.encodings.save(encoding(study, study, "cxr-new-1"), revision=1)
    answer = Searcher(archive, settings).similar(Query(study_uid="2.25.60", region="chest"), TESTER)
    assert answer.model_id == "cxr-new-1"
    assert [case.study.study_uid for case in answer.cases] == ["2.25.61"]


def test_studies_that_cannot_answer_say_why(archive: Catalogue, settings: Settings) -> None:
    searcher = Searcher(archive, settings)
    with pytest.raises(NotFound):
        searcher.similar(Query(study_uid="2.25.999", region="chest"), TESTER)
    add(archive, header(70))
    with pytest.raises(NotReady):
        searcher.similar(Query(study_uid="2.25.70", region="chest"), TESTER)
    archive.studies.set_state("2.25.70", StudyState.SKIPPED, "no image in it")
    with pytest.raises(Skipped, match="no image in it"):
        searcher.similar(Query(study_uid="2.25.70", region="chest"), TESTER)
    archive.studies.set_state("2.25.70", StudyState.QUARANTINED, "slices are missing")
    with pytest.raises(Quarantined, match="slices are missing"):
        searcher.similar(Query(study_uid="2.25.70", region="chest"), TESTER)


def test_a_study_that_the_new_model_could_not_encode_says_so(archive: Catalogue, settings: Settings) -> None:
    searcher = Searcher(archive, settings)
    register(archive, "cxr-new-1")
    with pytest.raises(NotReady):
        searcher.similar(Query(study_uid="2.25.5", region="chest"), TESTER)
    job = next(job for job in archive.jobs.claim_studies(99, "test") if job.kind is JobKind.REENCODE)
    archive.jobs.fail(job, "no finite number", reason_code=ReasonCode.NO_VECTOR, retry=False)
    with pytest.raises(Quarantined, match="no finite number") as told:
        searcher.similar(Query(study_uid="2.25.5", region="chest"), TESTER)
    assert told.value.reason_code is ReasonCode.NO_VECTOR


def test_a_study_with_radiograph_and_ct_is_asked_by_modality(archive: Catalogue, settings: Settings) -> None:
    serve_model(archive, "ct-test-0", ImageKind.CT, DIM, {})
    add(archive, header(80, modality="CT"))
    archive.studies.complete_now("2.25.80")
    archive.encodings.save_several("2.25.80", [encoding(80, 80), encoding(80, 81, "ct-test-0")], revision=1)
    searcher = Searcher(archive, settings)
    ct = Filters(modalities=frozenset({"CT"}))
    assert searcher.similar(Query(study_uid="2.25.80", region="chest", filters=ct), TESTER).model_id == "ct-test-0"
    assert searcher.similar(Query(study_uid="2.25.80", region="chest"), TESTER).model_id == MODEL


def test_an_answer_says_what_its_model_is_for(archive: Catalogue, settings: Settings) -> None:
    manifest = {"training": {"intended_use": "trying the software"}}
    serve_model(archive, "cxr-toy-1", ImageKind.CXR, DIM, manifest)
    add(archive, header(90))
    archive.studies.complete_now("2.25.90")
    archive.encodings.save(encoding(90, 90, "cxr-toy-1"), revision=1)
    answer = Searcher(archive, settings).similar(Query(study_uid="2.25.90", region="chest"), TESTER)
    assert "model cxr-toy-1: trying the software" in map(worded, answer.notices)


def test_each_picture_shows_the_region_that_answers(archive: Catalogue, searcher: Searcher) -> None:
    """For studies that were encoded with their slices; the others keep their one image."""
    for study in (5, 6, 7):
        stack = SliceStack(images=tuple(f"2.25.{study}.1.{n}" for n in range(60)), dome=10.0, apex=50.0, step_mm=5.0)
        assert archive.encodings.save(replace(encoding(study, study), slices=stack), revision=1)
        stored = archive.encodings.get(f"2.25.{study}", MODEL)
        assert stored is not None and stored.slices == stack
        assert archive.encodings.slices(f"2.25.{study}", f"2.25.{study}.1") == stack
    assert archive.encodings.slices("2.25.8", "2.25.8.1") is None
    answer = searcher.similar(Query(study_uid="2.25.5", region="left_lung", limit=COUNT), TESTER)
    expected = [str(image) for image in anatomy.slices_of(stack, "left_lung")]
    assert [image.sop_uid.rpartition(".")[2] for image in answer.query_images] == [
        uid.rpartition(".")[2] for uid in expected
    ]
    assert len(answer.query_images) == 3 and answer.query_sop_uid == answer.query_images[0].sop_uid
    shown = {case.study.study_uid: case.sop_uid for case in answer.cases}
    assert shown["2.25.7"] == expected[0] and shown["2.25.8"] == "2.25.8.1.1"
    chest = searcher.similar(Query(study_uid="2.25.5", region="chest", limit=COUNT), TESTER)
    assert {case.study.study_uid: case.sop_uid for case in chest.cases}["2.25.7"] != expected[0]


@pytest.mark.parametrize(("modality", "kind"), [("RG", ImageKind.CXR), ("DX", ImageKind.CXR), ("CT", ImageKind.CT)])
def test_every_modality_of_a_kind_asks_for_that_kind(
    archive: Catalogue, searcher: Searcher, modality: str, kind: ImageKind
) -> None:
    register(archive, "ct-test-0", ImageKind.CT)
    radiograph, ct = encoding(5, 5), replace(encoding(5, 5), model_id="ct-test-0")
    assert archive.encodings.save_several("2.25.5", [radiograph, ct], revision=1)
    query = Query(study_uid="2.25.5", region="left_lung", filters=Filters(modalities=frozenset({modality})))
    model = archive.models.serving(kind)
    assert model is not None and searcher.similar(query, TESTER).model_id == model.model_id
