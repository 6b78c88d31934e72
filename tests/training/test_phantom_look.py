"""The appearance of synthetic patients has a version, `phantom_set.LOOK`, to be raised when it or a report changes.

``python -m tests.training.test_phantom_look`` writes the pictures of the present look anew.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from radir_pacs.encode import CONFIGS, Preprocessing
from radir_pacs.encode.preprocess import preprocess
from radir_pacs.types import ImageKind
from radir_training.data import phantom_set
from radir_training.data.phantom_set import LOOK
from radir_training.phantoms import CATALOGUE, SIZES, sample, skeleton
from radir_training.phantoms.course import draw_patient

PICTURES = Path(__file__).parent / "phantom_look.npz"
SEED = 1
# Together they show every finding in every severity.
PATIENTS = (13, 14, 15, 24, 45, 48, 57, 60, 62, 64, 72, 96, 134, 141, 145, 161, 188, 204, 246, 247, 258, 274, 292)
TOLERANCE = 2e-3  # of the range of the pictures: processors differ by less, a finding by more


def blocks(picture: npt.NDArray[np.float32], side: int) -> npt.NDArray[np.float32]:
    """Means over a grid of ``side`` x ``side``; what does not divide evenly is left out at the end."""
    rows, columns = (size // side for size in picture.shape)
    whole = picture[: rows * side, : columns * side].reshape(side, rows, side, columns)
    return np.asarray(whole.mean(axis=(1, 3)), np.float32)


def look() -> dict[str, npt.NDArray[np.float32]]:
    """What the patients look like, small, the network's inputs of the last of them, and a hash of their reports."""
    frontal, mean, brightest, reports = [], [], [], hashlib.sha256()
    for index in PATIENTS:
        study = sample(SEED, index, size=SIZES["tiny"], radiographs=True, ct=True)
        frontal.append(blocks(study.frontal[0], 32))
        mean.append(blocks(study.ct.mean(axis=1), 16))
        brightest.append(blocks(study.ct.max(axis=1), 16))
        reports.update(f"{study.radiograph_report}\n{study.ct_report}\n".encode())
    inputs = [
        blocks(preprocess(volume, Preprocessing.of(CONFIGS["tiny"], kind)).reshape(-1, 128), 32)
        for kind in ImageKind
        for volume in phantom_set._volumes(study, kind, lateral=True)
    ]
    texts = np.frombuffer(reports.digest(), np.uint8).astype(np.float32)
    return {
        "frontal": np.array(frontal),
        "mean": np.array(mean),
        "brightest": np.array(brightest),
        "inputs": np.array(inputs),
        "reports": texts,
    }


def changed() -> list[str]:
    """What differs from the stored pictures of this version."""
    with np.load(PICTURES, allow_pickle=False) as kept:
        assert int(kept["look"]) == LOOK, "write the pictures anew: python -m tests.training.test_phantom_look"
        return [
            name
            for name, now in look().items()
            if np.abs(now - kept[name]).max() > TOLERANCE * max(1.0, float(np.ptp(kept[name])))
        ]


def test_the_patients_show_every_finding_in_every_severity() -> None:
    shown = {(finding.concept, finding.severity) for index in PATIENTS for finding in draw_patient(SEED, index)[1]}
    assert shown == {(concept, severity) for concept in CATALOGUE for severity in (1, 2, 3)}


def test_patients_look_as_their_version_says() -> None:
    assert changed() == [], "synthetic patients have changed: raise phantom_set.LOOK and write the pictures anew"


@pytest.mark.parametrize("constant", ["HAEMATOMA_HU", "CALLUS_HU"])
def test_the_look_of_one_finding_is_noticed(constant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(skeleton, constant, -400.0)
    assert changed()


if __name__ == "__main__":
    np.savez_compressed(PICTURES, look=LOOK, **look())  # type: ignore[arg-type]  # numpy's stub
