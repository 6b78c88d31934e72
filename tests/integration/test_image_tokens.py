"""Image tokens that are kept: whose they are, when they go; an archive is encoded from them without a pixel."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psycopg
import pytest
import torch

from radir_pacs.catalogue import Catalogue
from radir_pacs.config import Settings
from radir_pacs.dicom.header import read_header
from radir_pacs.dicom.limits import DecodeLimits
from radir_pacs.encode import Bundle, Encoder
from radir_pacs.encode.tokens import encoder_id, token_bytes
from radir_pacs.errors import BadInput
from radir_pacs.models import Registry
from radir_pacs.storage.blobs import BlobStore
from radir_pacs.types import ImageKind, StudyState
from radir_training.retraining.material import fill, from_pixels
from radir_workers.encode_studies import EncodeStudies
from radir_workers.encoders import Encoders
from radir_workers.leases import Leases
from radir_workers.readers import Readers
from radir_workers.reading_child import ReadingSetup
from tests.catalogue_material import header, receive
from tests.dicom_files import radiograph, save
from tests.model_material import seeded_bundle

STUDIES = (1, 2, 3)
UIDS = [f"2.25.{study}" for study in STUDIES]


@dataclass(frozen=True)
class House:
    """A catalogue and a worker's line of encoding, with a model that serves."""

    settings: Settings
    catalogue: Catalogue
    blobs: BlobStore
    registry: Registry
    first: Bundle
    line: EncodeStudies


@pytest.fixture
def house(settings: Settings, catalogue: Catalogue, tmp_path: Path) -> Iterator[House]:
    first = seeded_bundle(ImageKind.CXR).save(tmp_path / "first")
    settings = replace(settings, models=(str(tmp_path / "first"),))
    registry = Registry(catalogue, settings)
    registry.adopt()
    blobs = BlobStore(settings.home / "blobs")
    for study in STUDIES:
        uids = header(study)
        picture = np.random.default_rng(study).integers(0, 4096, (96, 96)).astype(np.uint16)
        ds = radiograph(
            StudyInstanceUID=uids.study_uid,
            SeriesInstanceUID=uids.series_uid,
            SOPInstanceUID=uids.sop_uid,
            Rows=96,
            Columns=96,
            PixelData=picture.tobytes(),
        )
        path = save(ds, tmp_path / f"{study}.dcm")
        sha256, size_bytes = blobs.put(path.read_bytes())
        catalogue.instances.add(read_header(path), content_sha256=sha256, size_bytes=size_bytes, source="TEST")
        catalogue.studies.complete_quiet(0)
        receive(catalogue, uids.study_uid, "Small left pleural effusion.")
    with Leases(catalogue, lease_s=60) as leases:
        readers = Readers(ReadingSetup(blobs=settings.home / "blobs", limits=DecodeLimits()), 1)
        line = EncodeStudies(catalogue, Encoders(settings, registry), readers, leases, worker="test")
        line.run()
        yield House(settings, catalogue, blobs, registry, first, line)
        line.close()


def with_another_head(bundle: Bundle, folder: Path) -> Bundle:
    """The same encoder under another decoder, as retraining a head makes it."""
    network = copy.deepcopy(bundle.network)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if name.startswith("decoder"):
                weight.add_(0.1)
    return replace(bundle, network=network).save(folder)


def lose_all_pixels(house: House) -> None:
    for path in (house.settings.home / "blobs").rglob("*"):
        if path.is_file():
            path.unlink()


def test_a_model_with_the_same_encoder_needs_no_pixels(house: House, tmp_path: Path) -> None:
    other = with_another_head(house.first, tmp_path / "other")
    by_pixels = Encoder(other, "cpu", keep_tokens=False)
    [kept, *_] = house.catalogue.image_tokens.of(encoder_id(other) or "", UIDS)
    lose_all_pixels(house)
    house.registry.register(tmp_path / "other", by="test", reason="a test")
    house.registry.shadow(other.model_id, by="test", reason="a test")
    assert house.catalogue.reencoding.feed() == len(STUDIES)
    looked = house.line
    looked.run()
    assert house.catalogue.models.coverage(other.model_id).share == 1.0
    before = house.catalogue.encodings.get(UIDS[0], house.first.model_id)
    after = house.catalogue.encodings.get(UIDS[0], other.model_id)
    assert before is not None and after is not None
    assert (after.series_uid, after.sop_uid, after.regions) == (before.series_uid, before.sop_uid, before.regions)
    assert not np.allclose(after.vectors, before.vectors, atol=0.01)
    [again] = by_pixels.decode([kept])
    assert not isinstance(again, Exception) and np.allclose(again.vectors, after.vectors, atol=1e-5)


def test_from_tokens_the_same_model_gives_the_same_vectors(house: House) -> None:
    encoder = Encoder(house.first, "cpu")
    kept = house.catalogue.image_tokens.of(encoder.encoder_id or "", UIDS)
    assert [one.study_uid for one in kept] == UIDS
    for one, found in zip(kept, encoder.encode_batch(kept), strict=True):
        pixels = house.catalogue.encodings.get(one.study_uid, house.first.model_id)
        assert pixels is not None and not isinstance(found, Exception)
        assert (pixels.vectors * found.vectors).sum(axis=1).min() > 0.9999, "half precision"
    counted = house.catalogue.image_tokens.counts()[encoder.encoder_id or ""]
    assert (counted.studies, counted.size_bytes) == (len(STUDIES), len(STUDIES) * token_bytes(house.first))


def test_tokens_go_with_the_image_they_were_made_of(house: House) -> None:
    before = house.catalogue.image_tokens.counts()
    [(encoder, held)] = before.items()
    series = house.catalogue.instances.of_study(UIDS[0])[0].series_uid
    house.catalogue.studies.delete_part(UIDS[0], series, None)
    assert house.catalogue.image_tokens.counts()[encoder].studies == held.studies - 1


def test_tokens_of_another_encoder_are_never_used(house: House) -> None:
    kept = house.catalogue.image_tokens.of(encoder_id(house.first) or "", UIDS)
    stranger = Encoder(seeded_bundle(ImageKind.CXR, seed=1), "cpu")
    assert house.catalogue.image_tokens.of(stranger.encoder_id or "", UIDS) == ()
    with pytest.raises(BadInput, match="not image tokens"):
        stranger.encode_batch(kept)


def test_they_go_with_their_study_and_a_new_image_outdates_them(house: House) -> None:
    encoder = encoder_id(house.first) or ""
    house.catalogue.studies.delete(UIDS[0])
    assert house.catalogue.image_tokens.kept(encoder, UIDS) == set(UIDS[1:])
    late = header(2, number=2)
    house.catalogue.instances.add(late, content_sha256="f" * 64, size_bytes=1, source="TEST")
    assert house.catalogue.image_tokens.kept(encoder, UIDS) == {UIDS[2]}
    assert house.catalogue.image_tokens.forget_unused() == 0, "its model serves"
    with psycopg.connect(house.catalogue.conninfo) as connection:
        connection.execute("UPDATE model SET state = 'RETIRED', kept_until = now()")
    assert house.catalogue.image_tokens.forget_unused() == 2


def test_what_is_missing_is_made_from_pixels_as_a_worker_makes_it(house: House, tmp_path: Path) -> None:
    encoder = encoder_id(house.first) or ""
    before = house.catalogue.image_tokens.of(encoder, UIDS)
    with psycopg.connect(house.catalogue.conninfo) as connection:
        assert connection.execute("DELETE FROM image_tokens").rowcount == len(STUDIES)
    assert {house.catalogue.studies.get(uid).state for uid in UIDS} <= {StudyState.ENCODED, StudyState.INDEXED}
    told: list[tuple[int, int]] = []
    made = fill(house.catalogue, house.blobs, house.first, UIDS, lambda *done: told.append(done), 1)
    assert made == len(STUDIES) and told[-1] == (3, 3)
    after = house.catalogue.image_tokens.of(encoder, UIDS)
    for one, other in zip(before, after, strict=True):
        assert one.sop_uid == other.sop_uid
        assert np.allclose(one.tokens.values.astype(np.float32), other.tokens.values.astype(np.float32), atol=0.02)
    assert fill(house.catalogue, house.blobs, house.first, UIDS, lambda *done: None, 1) == 0


def test_a_whole_network_is_trained_on_the_pixels_that_a_worker_reads(house: House, tmp_path: Path) -> None:
    studies = [(study, False) for study in house.catalogue.retraining.studies(house.first.model_id)]
    found = from_pixels(house.catalogue, house.blobs, house.first, studies, tmp_path / "work", lambda done, of: None)
    assert found.study_uids == tuple(UIDS) and not found.data.encoded and not found.left_out
    assert found.data.images.shape[1:] == (1, *house.first.preprocessing.shape)
    assert found.data.reports == ("Small left pleural effusion.",) * 3
    assert set(found.data.names) == {study.patient_key for study, _ in studies}


def test_no_tokens_are_kept_where_the_setting_says_so(house: House) -> None:
    assert (
        Encoders(replace(house.settings, keep_tokens=False), house.registry).encoder(house.first.model_id)._keep_tokens
        is False
    )
