"""After the load: nothing acknowledged is lost, each study is encoded once, and no answer was wrong."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np

from radir_pacs.storage import open_blobs
from radir_pacs.types import ImageKind, ModelState
from tests.catalogue_material import owners
from tests.machines.drill import BEST, QUERY, Drill, uid_of
from tests.machines.load import Answer

_ROUNDING = 1e-5  # of a score: the same vectors, read and multiplied in another order


def check(drill: Drill) -> None:
    _check_stored(drill)
    _check_encoded_once(drill)
    of_all, of_best = (reader.answers for reader in drill.readers)
    for one in (*of_all, *of_best):
        _check_told(one)
    _check_complete(drill, of_all)
    _check_scores(drill, [one for one in (*of_all, *of_best) if one.status == 200])
    _check_best(drill, of_best, of_all[-1])


def _check_stored(drill: Drill) -> None:
    settings = drill.installation.of_outside(drill.folder / "outside")
    blobs = open_blobs(settings, drill.catalogue.backups.installation())
    for study, (sop, path, _) in drill.modality.acknowledged.items():
        stored = drill.catalogue.instances.of_study(study)
        assert [one.sop_uid for one in stored] == [sop]
        assert data_set(blobs.intact(stored[0].content_sha256)) == data_set(path)


def _check_encoded_once(drill: Drill) -> None:
    serving = [one for one in drill.catalogue.models.kept() if one.state is ModelState.SERVING]
    [model] = [one.model_id for one in serving if one.kind is ImageKind.CXR]
    changes = drill.catalogue.encodings.changes(model, "chest")
    whose = [owner.study.study_uid for owner in owners(drill.catalogue, changes.ids).values()]
    assert sorted(whose) == sorted(drill.modality.acknowledged), "each is searchable exactly once"


def _check_told(one: Answer) -> None:
    """Cases in order, or silence, or when to ask again and why."""
    if one.status == 200:
        assert list(one.cases.values()) == sorted(one.cases.values(), reverse=True)
    elif one.status != 0:
        assert (one.status, one.retry_after) == (503, "5") and one.code and one.words, one


def _check_complete(drill: Drill, answers: list[Answer]) -> None:
    """What one answer has found the next ones by the same model find, and the last one finds everything."""
    acknowledged = drill.modality.acknowledged.keys()
    found: dict[str, set[str]] = defaultdict(set)
    for one in answers:  # one after the other
        if one.status == 200:
            assert found[one.model] <= one.cases.keys() <= acknowledged
            assert len(one.cases) >= drill.held
            found[one.model] |= one.cases.keys()
    assert answers[-1].cases.keys() == acknowledged - {uid_of(QUERY)}


def _check_scores(drill: Drill, answers: list[Answer]) -> None:
    """Every score of every answer is that of vectors of the one model that the answer names."""
    for model in {one.model for one in answers if one.cases}:
        changes = drill.catalogue.encodings.changes(model, "chest")
        whose = owners(drill.catalogue, changes.ids)
        vectors = {
            whose[label].study.study_uid: vector
            for label, vector in zip(changes.ids.tolist(), changes.vectors, strict=True)
        }
        for one in (answer for answer in answers if answer.model == model):
            wanted = np.array([vectors[study] for study in one.cases]) @ vectors[uid_of(QUERY)]
            assert np.allclose(list(one.cases.values()), wanted, atol=_ROUNDING), one


def _check_best(drill: Drill, of_best: list[Answer], everything: Answer) -> None:
    """As many as were asked for, and at the end those that exact search finds."""
    least = min(BEST, drill.held)
    assert least > 0, "a drill that holds no studies takes an empty answer for the best cases"
    assert all(least <= len(one.cases) <= BEST for one in of_best if one.status == 200)
    exact = set(list(everything.cases)[:BEST])
    assert len(of_best[-1].cases.keys() & exact) >= len(exact) - 1


def data_set(path: Path) -> bytes:
    """The bytes behind preamble, prefix and file meta group: what a sender sends (PS3.10 7.1)."""
    content = path.read_bytes()
    return content[144 + int.from_bytes(content[140:144], "little") :]
