"""Every file of the open test collections is read, decoded or refused with a reason; none hangs or kills a process."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from radir_pacs.dicom.eligibility import assemble, plan_study
from radir_pacs.dicom.file_head import head_for, needs_head
from radir_pacs.dicom.header import read_header
from radir_pacs.dicom.limits import DecodeLimits
from radir_pacs.dicom.pixels import PixelDecoder
from radir_pacs.errors import DicomRefused, Quarantined, Skipped
from radir_pacs.types import ImageKind, InstanceHeader
from tests.services import data_dir

Headers = dict[Path, InstanceHeader]
TRANSFER_SYNTAXES_DECODED = {
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.51",
    "1.2.840.10008.1.2.4.57",
    "1.2.840.10008.1.2.4.70",
    "1.2.840.10008.1.2.4.80",
    "1.2.840.10008.1.2.4.81",
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.4.91",
    "1.2.840.10008.1.2.5",
    "1.2.840.10008.1.2.8.1",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """All files, each as the intake would keep it: completed with a head where it lacks one."""
    folder = tmp_path_factory.mktemp("headed")
    return [_headed(path, folder / f"{number}.dcm") for number, path in enumerate(_found())]


def _found() -> list[Path]:
    return sorted(p for p in data_dir("dicom").rglob("*") if p.is_file() and p.name != "manifest.csv")


def _headed(path: Path, target: Path) -> Path:
    try:
        header = read_header(path)
    except DicomRefused:
        return path
    if not needs_head(header):
        return path
    head, data_set_at = head_for(header, path)
    target.write_bytes(head + path.read_bytes()[data_set_at:])
    return target


@pytest.fixture(scope="module")
def headers(files: list[Path]) -> Headers:
    """The headers of all files that have a readable one."""
    found, refused, slowest_s = {}, Counter[str](), 0.0
    for path in files:
        start = time.process_time()
        try:
            found[path] = read_header(path)
        except DicomRefused as error:
            assert error.dimse_status in {0xA700, 0xA900, 0xC000}
            assert 0 < len(str(error)) < 200
            refused[str(error)] += 1
        slowest_s = max(slowest_s, time.process_time() - start)
    print(f"{len(found)} headers read, {refused.total()} refused: {dict(refused)}; slowest {slowest_s * 1000:.0f} ms")
    assert slowest_s < 1
    return found


def test_headers_are_read_or_refused_with_a_reason(files: list[Path], headers: Headers) -> None:
    assert len(files) >= 500
    assert len(headers) >= 0.8 * len(files)
    for header in headers.values():
        texts = (header.patient_id, header.patient_name, header.study_description, header.series_description)
        assert all(text is None or text.isprintable() for text in texts)


def test_pixels_are_decoded_or_refused_with_a_reason(files: list[Path], headers: Headers) -> None:
    decoded, refused = Counter[str](), Counter[str]()
    start = time.perf_counter()
    with PixelDecoder(DecodeLimits(wall_s=60)) as decoder:
        for path in files:
            header = headers.get(path)
            try:
                frames = decoder.decode(path)
            except DicomRefused as error:
                assert 0 < len(str(error)) < 250
                if header is not None:
                    refused[str(error)] += 1
            else:
                if header is not None:
                    decoded[header.transfer_syntax_uid] += 1
                    assert frames.pixels.shape[:3] == (header.frames, header.rows_px, header.columns_px)
    rate = len(files) / (time.perf_counter() - start)
    print(f"{decoded.total()} decoded {dict(decoded)}, refused {dict(refused)}; {rate:.0f} files/s")
    assert set(decoded) >= TRANSFER_SYNTAXES_DECODED
    images = sum(header.rows_px is not None for header in headers.values())
    assert decoded.total() >= images - refused["the object has no pixel data"] - 4


def test_every_study_is_assembled_skipped_or_quarantined(headers: Headers) -> None:
    studies: dict[str, dict[str, Path]] = defaultdict(dict)
    for path, header in headers.items():
        studies[header.study_uid][header.sop_uid] = path
    outcomes = Counter[str]()
    with PixelDecoder() as decoder:
        for paths in studies.values():
            try:
                volumes = assemble(plan_study(headers[path] for path in paths.values()), paths, decoder)
            except (Skipped, Quarantined) as error:
                outcomes[f"{type(error).__name__}: {error}"] += 1
            else:
                outcomes.update(f"assembled: {volume.kind}" for volume in volumes)
                assert all(np.isfinite(volume.voxels).all() for volume in volumes)
    print(dict(outcomes))
    assert outcomes[f"assembled: {ImageKind.CXR}"] >= 2
    assert outcomes[f"assembled: {ImageKind.CT}"] >= 1
