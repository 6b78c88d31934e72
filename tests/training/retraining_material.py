"""An archive of toy pictures with reports, whose champion has learned little: enough to retrain a head in seconds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import torch
from torch import nn

from radir_pacs.catalogue import Catalogue, start_embedded, stop_embedded
from radir_pacs.config import Settings
from radir_pacs.dicom.header import read_header
from radir_pacs.encode import Bundle
from radir_pacs.encode.network import RadirNetwork
from radir_pacs.encode.tokens import encoder_id
from radir_pacs.models import Registry
from radir_pacs.storage.blobs import BlobStore
from radir_pacs.types import F16, ImageKind, ImageTokens, InstanceHeader, KeptTokens
from radir_training.data.studies import StudySet
from radir_training.learning.recipe import Recipe
from radir_training.learning.train import train
from radir_training.retraining.plan import Plan, sha256_of
from radir_training.retraining.steps import STEPS
from tests.catalogue_material import add, header, receive
from tests.dicom_files import radiograph
from tests.dicom_material import CT

from .toy import TOY, TOY_CT, toy_ct_set, toy_set

STUDIES = 300
PLAN = Plan.from_json(
    {
        "data": {"least_studies": 100, "least_patients": 50, "least_held_out_patients": 20},
        "recipe": {"epochs": 15, "batch": 48, "learning_rate": 0.004},
        "gates": {"least_queries": 8, "k": 3, "most_latency": 10.0},
    }
)


def toy_champion(folder: Path, *, forgets: bool = True, kind: ImageKind = ImageKind.CXR) -> Bundle:
    """Trained on other patients; then its head sees one direction only, while decoder and encoder forget nothing.

    Unless it ``forgets``, the head stays as it was trained: then only a challenger that learned something is better.
    """
    recipe = Recipe(epochs=4, batch=32, seed=3, augment=False, muon=False, learning_rate=2e-3)
    config, data = (TOY, toy_set) if kind is ImageKind.CXR else (TOY_CT, toy_ct_set)
    bundle = train(config, data(192, 1), recipe)
    if not forgets:
        return bundle.save(folder)
    noise = torch.Generator().manual_seed(4)
    with torch.no_grad():
        layer = bundle.network.get_submodule("head.project.1")
        assert isinstance(layer, nn.Linear)
        weight = layer.weight
        one, other = (torch.randn(n, 1, generator=noise) for n in weight.shape)
        weight.copy_(weight.std() * one @ other.T)
    return bundle.save(folder)


@contextmanager
def embedded_archive(folder: Path) -> Iterator[tuple[Settings, Catalogue, Bundle]]:
    """An archive and its champion in ``folder``, on an embedded database that runs as long as this. The key is fixed:
    the same patients are held out in every run."""
    home, champion = folder / "home", toy_champion(folder / "champion")
    settings = Settings(home=home, models=(str(folder / "champion"),), device="cpu", torch_threads=1)
    home.mkdir()
    (home / "pseudonym.key").write_bytes(bytes(range(32)))
    start_embedded(home)
    try:
        with Catalogue.open(settings) as catalogue:
            Registry(catalogue, settings).adopt()
            data = toy_set(STUDIES, 2)
            fill_archive(catalogue, champion, data, list(data.reports))
            yield settings, catalogue, champion
    finally:
        stop_embedded(home)


def fill_archive(
    catalogue: Catalogue,
    champion: Bundle,
    studies: StudySet,
    reports: Sequence[str],
    blobs: BlobStore | None = None,
) -> None:
    """Studies with their reports and image tokens, as an encode worker leaves them; pixels only of radiographs, into
    ``blobs``."""
    assert isinstance(champion.network, RadirNetwork)
    with torch.inference_mode():
        images = torch.from_numpy(studies.images.astype(np.float32))
        views = torch.from_numpy(studies.views)
        tokens = champion.network.kept_tokens(images, views, studies.kind).half().numpy()
    encoder = encoder_id(champion)
    assert encoder is not None
    changes: dict[str, Any] = {"modality": "CT", "sop_class_uid": CT} if studies.kind is ImageKind.CT else {}
    for number, report in enumerate(reports, start=1):
        sex, age = ("F", "M")[number % 2], 25.0 + number % 60
        given = header(number, patient_sex=sex, patient_age_years=age, **changes)
        if blobs is None:
            add(catalogue, given)
        else:
            store(catalogue, blobs, given, studies.images[number - 1, 0])
        catalogue.studies.complete_now(given.study_uid)
        receive(catalogue, given.study_uid, report)
        revision = catalogue.studies.revision_of(given.study_uid)[1]
        kept = ImageTokens(encoder=encoder, kind=studies.kind, lateral=False, values=tokens[number - 1])
        catalogue.image_tokens.keep(
            [
                KeptTokens(
                    study_uid=given.study_uid,
                    series_uid=given.series_uid,
                    sop_uid=given.sop_uid,
                    revision=revision,
                    tokens=kept,
                )
            ]
        )


def store(catalogue: Catalogue, blobs: BlobStore, given: InstanceHeader, image: F16) -> None:
    """A radiograph of this picture, 96 x 96."""
    grey = np.clip(1000 + 400 * image.astype(np.float32), 0, 4095).astype(np.uint16)
    content = BytesIO()
    radiograph(
        StudyInstanceUID=given.study_uid,
        SeriesInstanceUID=given.series_uid,
        SOPInstanceUID=given.sop_uid,
        PatientID=given.patient_id,
        Rows=96,
        Columns=96,
        PixelData=grey.repeat(3, axis=0).repeat(3, axis=1).tobytes(),
    ).save_as(content, enforce_file_format=True)
    sha256, size_bytes = blobs.put(content.getvalue())
    catalogue.instances.add(
        read_header(blobs.path(sha256)), content_sha256=sha256, size_bytes=size_bytes, source="TEST"
    )


def begin(
    catalogue: Catalogue,
    plan: Plan = PLAN,
    *,
    started_by: str = "test",
    least_days: float = 0,
    at_once: bool = False,
    stored: dict[str, Any] | None = None,
) -> int:
    """A run whose champion is the model that serves; unless ``at_once``, as if nobody had begun another just now.

    ``stored``: the plan as an earlier version stored it.
    """
    if not at_once:
        with psycopg.connect(catalogue.conninfo) as connection:
            connection.execute(
                "UPDATE retraining_run SET created_at = created_at - interval '2 minutes' WHERE state = 'PENDING'"
            )
    champion = catalogue.models.serving(ImageKind.CXR)
    assert champion is not None
    return catalogue.retraining.start(
        kind=ImageKind.CXR,
        depth=plan.depth,
        plan=stored or plan.as_json(),
        plan_sha256=sha256_of(stored) if stored else plan.sha256,
        champion=champion.model_id,
        started_by=started_by,
        steps=STEPS,
        least_days=least_days,
    )


def shuffled(reports: Sequence[str], seed: int = 5) -> list[str]:
    """Every report with somebody else's image."""
    order = np.random.default_rng(seed).permutation(len(reports))
    return [reports[row] for row in order]


__all__ = [
    "PLAN",
    "STUDIES",
    "begin",
    "embedded_archive",
    "fill_archive",
    "shuffled",
    "toy_champion",
    "toy_ct_set",
    "toy_set",
]
