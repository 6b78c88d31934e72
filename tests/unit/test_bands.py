"""Windows and fine details beside the image: what a blur removes, at the contrast of the image itself."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from radir_pacs.encode.bands import Bands, blur_matrix
from radir_pacs.encode.config import CONFIGS, MEDIASTINUM, NetworkConfig, StemConfig
from radir_pacs.types import ImageKind


def ramp(shape: tuple[int, ...]) -> torch.Tensor:
    """One image brighter from side to side."""
    return torch.linspace(-2, 2, shape[-1]).expand(1, 1, *shape).clone()


@pytest.mark.parametrize("shape", [(12, 16), (8, 10, 12)])
def test_a_blur_is_the_mean_of_the_neighbours(shape: tuple[int, ...]) -> None:
    images = torch.rand(2, 1, *shape)
    pool = functional.avg_pool2d if len(shape) == 2 else functional.avg_pool3d
    expected = pool(functional.pad(images, [2] * (2 * len(shape)), mode="replicate"), 5, 1)
    torch.testing.assert_close(Bands(shape, (5,))._blurred(images, 5), expected)
    torch.testing.assert_close(blur_matrix(9, 3).sum(1), torch.ones(9))


@pytest.mark.parametrize("shape", [(64, 64), (24, 24, 24)])
def test_a_faint_line_is_as_loud_as_the_lungs(shape: tuple[int, ...]) -> None:
    """A line of a hundredth of the image's range stands out of its band ten times as far as out of the image."""
    images = ramp(shape) + 0.002 * torch.randn(1, 1, *shape, generator=torch.Generator().manual_seed(0))
    images[..., shape[-1] // 2] += 0.04
    shown = Bands(shape, (3, 7))(images)
    assert shown.shape == (1, 3, *shape)
    torch.testing.assert_close(shown[:, :1], images)
    line, beside = shown[0, 1, ..., shape[-1] // 2].mean(), shown[0, 1, ..., shape[-1] // 2 + 4].mean()
    assert line - beside > 10 * 0.04


def test_a_flat_image_has_no_details() -> None:
    shown = Bands((16, 16), (3, 7))(torch.full((2, 1, 16, 16), 3.0))
    assert shown[:, 1:].abs().max() < 1e-3
    assert torch.isfinite(shown).all()


def test_bands_are_exact_under_autocast() -> None:
    images, bands = ramp((32, 32)), Bands((32, 32), (3,))
    with torch.autocast("cpu", torch.bfloat16):
        halved = bands(images)
    torch.testing.assert_close(halved, bands(images), rtol=0, atol=0)


def test_without_bands_the_network_sees_the_image() -> None:
    images = ramp((16, 16))
    assert Bands((16, 16), ())(images) is images


def test_a_network_from_before_there_were_bands_is_refused() -> None:
    """It computed something else from the same weights."""
    told = CONFIGS["tiny"].to_json()
    assert NetworkConfig.from_json(told) == CONFIGS["tiny"]
    del told["stems"]["CXR"]["bands"]
    with pytest.raises(ValueError, match="train it anew"):
        NetworkConfig.from_json(told)


@pytest.mark.parametrize("bands", [(4,), (1,), (33,), (3, 5, 7, 9, 11), (7, 3), (3, 3)])
def test_blurs_that_make_no_sense_are_refused(bands: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="blur"):
        StemConfig(shape=(32, 32), patch=(4, 4), first_width=8, bands=bands)


def test_no_manifest_asks_for_a_blur_that_fills_the_memory() -> None:
    with pytest.raises(ValueError, match="voxels a side"):
        StemConfig(shape=(2**22, 32), patch=(2**9, 8), first_width=1, bands=(3,))


def test_a_window_spreads_what_differs_little() -> None:
    """A lymph node and fat, 140 HU apart, differ five times as much in a mediastinal window; air and metal end it."""
    hu = torch.tensor([-1000.0, -100.0, 40.0, 3000.0])
    shown = Bands((2, 2), (), (MEDIASTINUM,))((hu / 1000).reshape(1, 1, 2, 2)).flatten(2)[0]
    torch.testing.assert_close(shown[0], hu / 1000)
    torch.testing.assert_close(shown[1], torch.tensor([-1.0, -0.7, 0.0, 1.0]))


def test_windows_come_before_bands_and_travel_in_the_manifest() -> None:
    stem = CONFIGS["tiny"].stems[ImageKind.CT]
    assert isinstance(stem, StemConfig) and stem.windows and stem.bands
    image = ramp((8, 8, 8))
    shown = Bands((8, 8, 8), stem.bands, stem.windows)(image)
    torch.testing.assert_close(shown[:, 1:2], Bands((8, 8, 8), (), stem.windows)(image)[:, 1:])
    torch.testing.assert_close(shown[:, 2:], Bands((8, 8, 8), stem.bands)(image)[:, 1:])
    told = CONFIGS["tiny"].to_json()
    assert NetworkConfig.from_json(told) == CONFIGS["tiny"]
    del told["stems"]["CT"]["windows"]
    earlier = NetworkConfig.from_json(told).stems[ImageKind.CT]
    assert isinstance(earlier, StemConfig) and earlier.windows == (), "one from before there were windows"


@pytest.mark.parametrize("windows", [((0.0, 0.0),), ((0.0, -1.0),), ((float("nan"), 1.0),), ((0.0, 1.0),) * 5])
def test_windows_that_make_no_sense_are_refused(windows: tuple[tuple[float, float], ...]) -> None:
    with pytest.raises(ValueError, match="windows"):
        StemConfig(shape=(32, 32), patch=(4, 4), first_width=8, windows=windows)
