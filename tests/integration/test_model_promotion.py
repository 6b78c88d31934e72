"""Two real networks, a worker and two searchers: promoted and rolled back while questions are asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import psycopg
import pytest

from radir_pacs.catalogue import Catalogue
from radir_pacs.config import Settings
from radir_pacs.dicom.header import read_header
from radir_pacs.dicom.limits import DecodeLimits
from radir_pacs.errors import BundleRefused, Conflict, NotCovered
from radir_pacs.models import Registry, Upkeep
from radir_pacs.models.bundles import bundle_folder
from radir_pacs.models.run_files import EVIDENCE, PROMOTION, RunFiles, record_of
from radir_pacs.query import Searcher
from radir_pacs.query.shadow import ShadowQuestions
from radir_pacs.similar_cases import Query, SimilarCaseList
from radir_pacs.storage.blobs import BlobStore
from radir_pacs.types import ImageKind, ModelState
from radir_workers.encode_studies import EncodeStudies
from radir_workers.encoders import Encoders
from radir_workers.leases import Leases
from radir_workers.readers import Readers
from radir_workers.reading_child import ReadingSetup
from tests.catalogue_material import TESTER, header
from tests.dicom_files import radiograph, save
from tests.model_material import seeded_bundle

STUDIES = 6


@dataclass
class Hospital:
    catalogue: Catalogue
    settings: Settings
    registry: Registry
    encoders: Encoders
    line: EncodeStudies
    searchers: tuple[Searcher, Searcher]
    first: str

    def receive(self, study: int, folder: Path) -> None:
        uids = header(study)
        picture = np.random.default_rng(study).integers(0, 4096, (96, 96)).astype(np.uint16)
        ds = radiograph(
            StudyInstanceUID=uids.study_uid,
            SeriesInstanceUID=uids.series_uid,
            SOPInstanceUID=uids.sop_uid,
            PatientID=f"p{study}",
            Rows=96,
            Columns=96,
            PixelData=picture.tobytes(),
        )
        path = save(ds, folder / f"{study}.dcm")
        sha256, size_bytes = BlobStore(self.settings.home / "blobs").put(path.read_bytes())
        self.catalogue.instances.add(read_header(path), content_sha256=sha256, size_bytes=size_bytes, source="TEST")
        self.catalogue.studies.complete_quiet(0)

    def work(self) -> None:
        """What relay and worker do until nothing is left."""
        while True:
            fed = self.catalogue.reencoding.feed()
            self.line.run()
            if not fed:
                return

    def ask(self, searcher: Searcher, study: int = 1) -> SimilarCaseList:
        return searcher.similar(Query(study_uid=f"2.25.{study}", region="chest"), TESTER)


@pytest.fixture
def hospital(settings: Settings, catalogue: Catalogue, tmp_path: Path) -> Iterator[Hospital]:
    """A worker that encodes by one network, and a few studies that it has encoded."""
    first = seeded_bundle(ImageKind.CXR, 1).save(tmp_path / "first").model_id
    settings = replace(settings, models=(str(tmp_path / "first"),), min_cases=1)
    registry = Registry(catalogue, settings)
    registry.adopt()
    moments = iter(range(0, 10**6, 10))
    with ExitStack() as stack:
        encoders = Encoders(settings, registry, clock_s=lambda: float(next(moments)))
        setup = ReadingSetup(blobs=settings.home / "blobs", limits=DecodeLimits())
        leases = stack.enter_context(Leases(catalogue, lease_s=60))
        line = EncodeStudies(catalogue, encoders, Readers(setup, 1), leases, worker="test")
        stack.callback(line.close)
        other = stack.enter_context(Catalogue.open(settings))
        searchers = (Searcher(catalogue, settings), Searcher(other, settings))
        made = Hospital(catalogue, settings, registry, encoders, line, searchers, first)
        for study in range(1, STUDIES + 1):
            made.receive(study, tmp_path)
        made.work()
        yield made


def challenger(hospital: Hospital, folder: Path) -> str:
    """Another network, named in the settings of a worker that starts."""
    model_id = seeded_bundle(ImageKind.CXR, 2).save(folder).model_id
    hospital.registry.adopt([folder])
    return model_id


def test_promoted_and_rolled_back_while_questions_are_asked(hospital: Hospital, tmp_path: Path) -> None:
    before = [hospital.ask(searcher) for searcher in hospital.searchers]
    assert {answer.model_id for answer in before} == {hospital.first}
    other = seeded_bundle(ImageKind.CXR, 2).save(tmp_path / "second").model_id
    hospital.registry.register(tmp_path / "second", by="Dr. A", reason="trained here")
    hospital.registry.shadow(other, by="Dr. A", reason="to be compared")
    answered: list[str] = []
    failed: list[BaseException] = []
    stop = threading.Event()

    def client(searcher: Searcher) -> None:
        while not stop.is_set():
            try:
                answer = hospital.ask(searcher)
                assert len(answer.cases) == STUDIES - 1, "a part of the archive answered"
                answered.append(answer.model_id)
            except BaseException as error:
                failed.append(error)
                return

    threads = [threading.Thread(target=client, args=(searcher,)) for searcher in hospital.searchers]
    for thread in threads:
        thread.start()
    try:
        with pytest.raises(NotCovered, match=f"0 of {STUDIES} studies"):
            hospital.registry.promote(other, by="Dr. A", reason="too early")
        hospital.work()
        hospital.registry.promote(other, by="Dr. A", reason="better", evidence="run 1")
        assert [hospital.ask(searcher).model_id for searcher in hospital.searchers] == [other, other], "at once"
        hospital.receive(STUDIES + 1, tmp_path)
        stop.set()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failed == [] and set(answered) <= {hospital.first, other} and hospital.first in answered
    hospital.work()  # the new study, by both
    assert hospital.catalogue.models.coverage(hospital.first).share == 1, "the model before follows"
    model, coverage = hospital.registry.rollback(ImageKind.CXR, by="Dr. B", reason="worse after all")
    assert (model.model_id, coverage.share) == (hospital.first, 1)
    hospital.catalogue.studies.delete(f"2.25.{STUDIES + 1}")
    for searcher, old in zip(hospital.searchers, before, strict=True):
        again = hospital.ask(searcher)
        assert [(case.study.study_uid, case.score) for case in again.cases] == [
            (case.study.study_uid, case.score) for case in old.cases
        ], "to the last digit"
        assert again.model_id == hospital.first


def test_who_promoted_is_filed_beside_the_evidence_of_the_run(hospital: Hospital, tmp_path: Path) -> None:
    files, nobodys = (RunFiles.of(hospital.settings, number) for number in (7, 8))
    for one in (files, nobodys):
        one.folder.mkdir(parents=True)
    (files.folder / EVIDENCE).write_text("{}")
    other = seeded_bundle(ImageKind.CXR, 2).save(tmp_path / "second").model_id
    hospital.registry.register(tmp_path / "second", by="Dr. A", reason="retraining 7", evidence=record_of(7))
    hospital.registry.shadow(other, by="Dr. A", reason="retraining 7", evidence=record_of(7))
    hospital.work()
    assert files.promotions() == [] and not (files.folder / PROMOTION).exists(), "it never served"
    hospital.registry.promote(other, by="Dr. B", reason="better", evidence=record_of(8))
    [promoted] = files.promotions()
    assert {name: promoted[name] for name in ("change", "model_id", "replaces", "who", "reason")} == {
        "change": "PROMOTED",
        "model_id": other,
        "replaces": hospital.first,
        "who": "Dr. B",
        "reason": "better",
    }
    hospital.registry.rollback(ImageKind.CXR, by="rule:night", reason="worse after all")
    assert [(one["change"], one["model_id"], one["who"]) for one in files.promotions()] == [
        ("PROMOTED", other, "Dr. B"),
        ("ROLLED_BACK", hospital.first, "rule:night"),
    ]
    lines = {str(event.at) for event in hospital.registry.history()}
    assert all(one["at"] in lines for one in files.promotions()), "as the history has it"
    kept = files.promotions()
    (files.folder / PROMOTION).unlink()  # killed before it was written
    Upkeep(hospital.catalogue, hospital.settings).tidy()
    assert files.promotions() == kept
    assert list(nobodys.folder.iterdir()) == [], "the grounds of a promotion are another run's evidence"


def test_a_promotion_stands_though_it_cannot_be_filed(hospital: Hospital, tmp_path: Path) -> None:
    files = RunFiles.of(hospital.settings, 7)
    (files.folder / PROMOTION).mkdir(parents=True)  # nothing can take its place
    (files.folder / EVIDENCE).write_text("{}")
    other = seeded_bundle(ImageKind.CXR, 2).save(tmp_path / "second").model_id
    hospital.registry.register(tmp_path / "second", by="Dr. A", reason="trained here", evidence=record_of(7))
    hospital.registry.shadow(other, by="Dr. A", reason="trained here")
    hospital.work()
    assert hospital.registry.promote(other, by="Dr. A", reason="better").state is ModelState.SERVING
    assert hospital.ask(hospital.searchers[0]).model_id == other and files.promotions() == []


def test_a_worker_follows_without_a_restart_and_frees_what_is_retired(hospital: Hospital, tmp_path: Path) -> None:
    other = challenger(hospital, tmp_path / "second")
    assert hospital.registry.get(other).state is ModelState.SHADOW, "named in the settings: it encodes beside"
    hospital.work()
    assert hospital.encoders.encoder(other).model_id == other
    hospital.registry.retire(other, by="Dr. A", reason="no better")
    hospital.encoders.look()
    assert list(hospital.encoders._encoders) == [hospital.first]
    Upkeep(hospital.catalogue, hospital.settings).tidy()
    assert not bundle_folder(hospital.settings.home, other).exists()
    hospital.registry.adopt([tmp_path / "second"])  # the worker starts again with the same settings
    assert hospital.registry.get(other).state is ModelState.RETIRED, "what a person decided stays"


def test_a_killed_workers_part_of_the_archive_is_encoded_by_the_next(
    hospital: Hospital, tmp_path: Path, database_url: str
) -> None:
    other = challenger(hospital, tmp_path / "second")
    hospital.catalogue.reencoding.feed()
    killed = hospital.catalogue.jobs.claim_studies(3, "killed")
    assert len(killed) == 3
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE job SET lease_until = now() - interval '1 s' WHERE state = 'RUNNING'")
    assert hospital.catalogue.jobs.sweep() == 3
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE job SET run_after = now()")
    hospital.work()
    assert hospital.registry.progress(other).coverage.share == 1


def test_promotion_by_the_rule_that_is_set(hospital: Hospital, tmp_path: Path) -> None:
    other = challenger(hospital, tmp_path / "second")
    by_rule = Upkeep(hospital.catalogue, replace(hospital.settings, promote_when_covered=True))
    by_rule.look()
    assert hospital.ask(hospital.searchers[0]).model_id == hospital.first
    hospital.work()
    by_rule.look()
    assert hospital.ask(hospital.searchers[0]).model_id == other
    [
        *_,
        promoted,
    ] = hospital.registry.history(other)
    assert promoted.who == "rule:promote_when_covered" and promoted.coverage == 1


def test_a_bundle_is_served_from_its_copy_and_an_altered_one_is_not(hospital: Hospital, tmp_path: Path) -> None:
    copy = bundle_folder(hospital.settings.home, hospital.first)
    (tmp_path / "first" / "manifest.json").unlink()
    moments = iter(range(0, 1000, 10))
    again = Encoders(hospital.settings, hospital.registry, clock_s=lambda: float(next(moments)))
    assert again.encoder(hospital.first).model_id == hospital.first
    manifest = copy / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"none"', b'"some"', 1))
    with pytest.raises(BundleRefused, match="altered"):
        Encoders(hospital.settings, hospital.registry, clock_s=lambda: float(next(moments)))
    with pytest.raises(Conflict, match="serves already"):
        hospital.catalogue.models.promote(hospital.first, by="test", reason="again")


def test_questions_are_asked_unseen_of_the_model_in_shadow(hospital: Hospital, tmp_path: Path) -> None:
    other = challenger(hospital, tmp_path / "second")
    searcher = hospital.searchers[0]
    answer = hospital.ask(searcher)
    asked = ShadowQuestions(hospital.catalogue, searcher._similar, share=1.0)
    asked.offer(answer.query, answer, 0.25)  # it has not encoded the study yet: left out
    asked.close()
    assert hospital.registry.compared(other) == ()
    hospital.work()
    asked = ShadowQuestions(hospital.catalogue, searcher._similar, share=1.0)
    for query in (answer.query, replace(answer.query, offset=2)):  # a further page is no question of its own
        asked.offer(query, answer, 0.25)
    asked.close()
    [compared] = hospital.registry.compared(other)
    assert (compared.serving, compared.overlap.count, compared.overlap.mean) == (hospital.first, 1, 1.0)
    assert compared.serving_ms.mean == 250.0 and compared.shadow_ms.mean > 0
    with psycopg.connect(hospital.catalogue.conninfo) as connection:
        told = repr(connection.execute("SELECT * FROM shadow_answer").fetchall())
    assert "2.25." not in told, "no study is named"


def test_the_model_in_shadow_is_asked_a_hundredth_of_the_time(hospital: Hospital, tmp_path: Path) -> None:
    other = challenger(hospital, tmp_path / "second")
    hospital.work()
    searcher, rests = hospital.searchers[0], list[float]()
    answer = hospital.ask(searcher)
    asked = ShadowQuestions(hospital.catalogue, searcher._similar, share=1.0)
    asked._closing = cast(threading.Event, SimpleNamespace(wait=rests.append, set=lambda: None))
    for _ in range(3):
        asked.offer(answer.query, answer, 0.25)
    asked.close()
    [compared] = hospital.registry.compared(other)
    assert compared.overlap.count == len(rests) == 3
    assert sum(rests) >= 100 * 3 * compared.shadow_ms.mean / 1000


def test_an_answer_never_waits_for_the_model_in_shadow(hospital: Hospital, tmp_path: Path) -> None:
    challenger(hospital, tmp_path / "second")
    answer = hospital.ask(hospital.searchers[0])
    gate, begun = threading.Event(), []

    def slow(query: Query, model_id: str) -> SimilarCaseList:
        begun.append(model_id)
        assert gate.wait(60)
        return answer

    asked = ShadowQuestions(hospital.catalogue, slow, share=1.0)
    for _ in range(100):
        asked.offer(answer.query, answer, 0.1)  # returns, though nothing is taken from the queue
    gate.set()
    asked.close()
    assert 1 <= len(begun) <= 10, "what found the queue full was dropped"
    asked = ShadowQuestions(hospital.catalogue, slow, share=0.1, chance=iter([0.05, 0.5, 0.09, 0.1]).__next__)
    del begun[:]
    for _ in range(4):
        asked.offer(answer.query, answer, 0.1)
    asked.close()
    assert len(begun) == 2, "a share of the questions"
