"""Our own readers read what the phantom writes: the picture in memory equals the picture in the DICOM files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest

from radir_pacs.dicom.eligibility import assemble, plan_study
from radir_pacs.dicom.header import read_header
from radir_pacs.dicom.pixels import PixelDecoder
from radir_pacs.reports import mine
from radir_pacs.reports.sr_text import sr_text
from radir_pacs.types import ImageKind, View
from radir_training.phantoms import SIZES
from radir_training.phantoms.course import draw_course
from radir_training.phantoms.hospital import HospitalRequest, build_patient
from radir_training.phantoms.images import take_images
from radir_training.phantoms.patient import Chest

TINY = SIZES["tiny"]


@pytest.fixture(scope="module")
def order(tmp_path_factory: pytest.TempPathFactory) -> HospitalRequest:
    out = tmp_path_factory.mktemp("phantom")
    return HospitalRequest(out=out, patients=1, seed=8, size=TINY, kinds=frozenset(ImageKind))


def test_both_readers_return_the_painted_picture(order: HospitalRequest) -> None:
    course = draw_course(order.seed, 0, order.kinds)
    for visit, study in zip(course.visits, build_patient(order, 0), strict=True):
        paths = [order.out / name for name in study["files"]]
        headers = [read_header(path) for path in paths]
        with PixelDecoder() as decoder:
            (volume,) = assemble(
                plan_study(headers), {h.sop_uid: p for h, p in zip(headers, paths, strict=True)}, decoder
            )
        rng = np.random.default_rng([order.seed, 0, 4, visit.number])
        flat = visit.kind is ImageKind.CXR
        painted = take_images(Chest.of(course.patient, visit.findings), TINY, rng, radiographs=flat, ct=not flat)
        assert volume.kind is visit.kind and not volume.warnings
        if flat:
            assert volume.view is View.FRONTAL
            np.testing.assert_allclose(volume.voxels, painted.frontal, atol=2e-3)
        else:
            np.testing.assert_allclose(volume.voxels, painted.ct, atol=0.51)
            np.testing.assert_allclose(volume.spacing_mm, painted.ct_spacing_mm, atol=1e-3)
            np.testing.assert_allclose(volume.affine[:3, 3], painted.ct_origin_mm, atol=1e-3)


def test_the_miner_hears_every_finding_at_its_region(tmp_path: Path) -> None:
    """Devices are left out, since their sentences describe where the tip lies."""
    heard = told = 0
    order = HospitalRequest(out=tmp_path, patients=8, seed=8, size=TINY, kinds=frozenset({ImageKind.CXR}))
    for index in range(order.patients):
        for study in build_patient(order, index):
            text = sr_text(pydicom.dcmread(tmp_path / study["files"][-1]).to_json_dict())
            said = {region for finding in mine(text).findings if finding.asserted for region in finding.regions}
            for finding in study["findings"]:
                if not finding["concept"].endswith(("tube", "line", "pacemaker")):
                    told += 1
                    heard += finding["region"] in said
    assert told > 8 and heard >= 0.95 * told
