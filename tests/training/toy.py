"""Toy pictures: discs at five places, larger and brighter with severity, on noise; reports are short sentences."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from radir_pacs.encode import Bundle, NetworkConfig
from radir_pacs.encode.config import StemConfig
from radir_pacs.encode.network import view_index
from radir_pacs.types import ImageKind
from radir_training.data.statements import mined
from radir_training.data.studies import StudySet

TOY = NetworkConfig(
    name="toy",
    stems={ImageKind.CXR: StemConfig(shape=(32, 32), patch=(2, 2), first_width=16, stages=((32, 2), (48, 2)))},
    width=48,
    blocks=1,
    heads=4,
    decoder_blocks=1,
    text_blocks=1,
    embedding_dim=48,
)
TOY_CT = replace(
    TOY,
    name="tiny",  # whose spacing of voxels it has
    stems={ImageKind.CT: StemConfig(shape=(8, 32, 32), patch=(1, 2, 2), first_width=8, stages=((24, 2), (48, 2)))},
)
PLACES = {
    "nodule in the right upper lobe": (8, 8),
    "nodule in the left upper lobe": (8, 24),
    "right pleural effusion": (25, 7),
    "left pleural effusion": (25, 25),
    "cardiomegaly": (18, 17),
}
SEVERITIES = ("mild", "moderate", "severe")


def toy_set(studies: int, seed: int) -> StudySet:
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:32, :32]
    images, reports = [], []
    for _ in range(studies):
        image, sentences = rng.normal(0, 0.15, (32, 32)), []
        for words, (y, x) in PLACES.items():
            severity = int(rng.choice(4, p=(0.7, 0.1, 0.1, 0.1)))
            if severity:
                distance = np.hypot(rows - y - rng.normal(), columns - x - rng.normal())
                image += (0.5 + 0.5 * severity) * (distance < 1.5 + severity)
                sentences.append(f"{SEVERITIES[severity - 1]} {words}.".capitalize())
        images.append((image - image.mean()) / image.std())
        reports.append(f"FINDINGS: {' '.join(sentences) or 'The lungs are clear. The heart is normal in size.'}")
    return StudySet(
        kind=ImageKind.CXR,
        images=np.stack(images)[:, None].astype(np.float16),
        views=np.zeros(studies, np.int64),
        patients=np.arange(studies),
        reports=tuple(reports),
        said=mined(reports, ImageKind.CXR),
    )


def toy_ct_set(studies: int, seed: int) -> StudySet:
    """The same as volumes: each disc goes through all slices."""
    flat = toy_set(studies, seed)
    noise = np.random.default_rng(seed).normal(0, 0.15, (studies, 1, *TOY_CT.stems[ImageKind.CT].shape))
    return replace(
        flat,
        kind=ImageKind.CT,
        images=(flat.images[:, :, None] + noise).astype(np.float16),
        views=np.full(studies, view_index(ImageKind.CT, None)),
        said=mined(flat.reports, ImageKind.CT),
    )


def fingerprint(model: Bundle | Mapping[str, torch.Tensor]) -> str:
    """SHA-256 of all weights."""
    weights = model.network.state_dict() if isinstance(model, Bundle) else model
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode() + weights[name].contiguous().numpy().tobytes())
    return digest.hexdigest()


def folder_of(data: StudySet, folder: Path) -> Path:
    """Pictures and the table of their reports."""
    folder.mkdir()
    with (folder / "table.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "patient", "view", "report"])
        for number, (image, report) in enumerate(zip(data.images[:, 0], data.reports, strict=True)):
            grey = np.clip(60 + 40 * image.astype(np.float32), 0, 255).astype(np.uint8)
            Image.fromarray(grey.repeat(4, axis=0).repeat(4, axis=1)).save(folder / f"{number}.png")
            table.writerow([f"{number}.png", f"patient {data.patients[number]}", "PA", report])
    return folder
