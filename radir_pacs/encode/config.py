"""The sizes of the network: ``tiny`` for a CPU, ``small`` for one GPU, ``base`` the size of the RadIR paper."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from radir_pacs.types import ImageKind

MOST_TOKENS, MOST_WIDTH, MOST_BLOCKS, MOST_BANDS, MOST_VOXELS = 32768, 2048, 48, 4, 2**28
MOST_BLURRED = 1024  # voxels a side: a blur is a matrix of side x side
EXTERNAL_ENGINE = "onnx"  # what runs a network that is not ours (`external`)
BACKBONES = {  # scales of width and depth (``efficientnet``)
    "efficientnet-lite0": (1.0, 1.0),
    "efficientnet-lite1": (1.0, 1.1),
    "efficientnet-lite2": (1.1, 1.2),
}
BACKBONE_STRIDE = 16
VIEWS = ("frontal", "lateral", "ct")  # rows of the modality embedding
MEDIASTINUM = (0.04, 0.2)  # level 40 HU, width 400 HU, in units of 1000 HU


@dataclass(frozen=True, kw_only=True)
class StemConfig:
    """How an image becomes tokens.

    shape: input voxels, (rows, columns) or (z, y, x). patch: stride of the first convolution, per axis.
    overlap: whether that convolution sees a margin around its patch. stages: (width, stride) of the residual
    convolution stages that follow; none makes a plain patch embedding, as in a vision transformer. bands: widths of
    the blurs between which details are taken out and shown beside the image, each at its contrast (``bands``). windows:
    (centre, half width) of ranges of the input's values that are shown beside it, spread over [-1, 1].
    """

    shape: tuple[int, ...]
    patch: tuple[int, ...]
    first_width: int
    overlap: bool = True
    stages: tuple[tuple[int, int], ...] = ()
    bands: tuple[int, ...] = ()
    windows: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        if len(self.shape) not in (2, 3) or len(self.patch) != len(self.shape):
            raise ValueError("a stem is 2D or 3D")
        if any(value < 1 for value in (*self.shape, *self.patch, self.first_width)):
            raise ValueError("a stem's sizes are positive")
        if any(width < 1 or stride < 1 for width, stride in self.stages) or len(self.stages) > MOST_BLOCKS:
            raise ValueError("a stem's stages are positive and few")
        if len(self.windows) > MOST_BANDS or not all(abs(c) < 1e6 and 1e-6 < half < 1e6 for c, half in self.windows):
            raise ValueError("windows are few, each a centre and a half width")
        widening = list(self.bands) == sorted(set(self.bands))
        if len(self.bands) > MOST_BANDS or any(n % 2 == 0 or not 3 <= n <= min(self.shape) for n in self.bands):
            raise ValueError("blurs are odd, few and no wider than the image")
        if not widening or (self.bands and max(self.shape) > MOST_BLURRED):
            raise ValueError(f"each blur is wider than the last, of images of at most {MOST_BLURRED} voxels a side")
        if math.prod(self.shape) > MOST_VOXELS or max([self.first_width, *(w for w, _ in self.stages)]) > MOST_WIDTH:
            raise ValueError("a stem this large is not served")
        if any(n % p for n, p in zip(self.shape, self.total_stride, strict=True)):
            raise ValueError("a stem's strides divide its shape")

    @property
    def total_stride(self) -> tuple[int, ...]:
        factor = math.prod(stride for _, stride in self.stages)
        return tuple(p * factor for p in self.patch)

    @property
    def grid(self) -> tuple[int, ...]:
        """Tokens along each axis."""
        return tuple(n // p for n, p in zip(self.shape, self.total_stride, strict=True))

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> StemConfig:
        if "bands" not in value:
            raise ValueError("a network of an earlier release: train it anew")
        return cls(
            shape=tuple(int(n) for n in value["shape"]),
            patch=tuple(int(n) for n in value["patch"]),
            first_width=int(value["first_width"]),
            overlap=bool(value["overlap"]),
            stages=tuple((int(width), int(stride)) for width, stride in value["stages"]),
            bands=tuple(int(width) for width in value["bands"]),
            windows=tuple((float(centre), float(half)) for centre, half in value.get("windows", ())),
        )


@dataclass(frozen=True, kw_only=True)
class ProgramConfig:
    """Features of a program from elsewhere in place of a stem (``program``).

    shape: of the image that it takes; spacing_mm, clip, repeats: how that is prepared (``Preprocessing``). grid: places
    along each axis, which are its tokens; channels: numbers of each. sha256: of the ONNX file.
    """

    shape: tuple[int, ...]
    clip: tuple[float, float]
    grid: tuple[int, ...]
    channels: int
    sha256: str
    spacing_mm: tuple[float, ...] = ()
    repeats: bool = False

    def __post_init__(self) -> None:
        if len(self.shape) not in (2, 3) or len(self.grid) != len(self.shape) or min(*self.shape, *self.grid) < 1:
            raise ValueError("a program takes images of two or three axes, and has places along each")
        if math.prod(self.shape) > MOST_VOXELS:
            raise ValueError("an image this large is not served")
        if not 2 <= self.channels <= MOST_WIDTH:
            raise ValueError(f"a place has 2 to {MOST_WIDTH} numbers, not {self.channels}")
        if len(self.sha256) != 64 or not set(self.sha256) <= set("0123456789abcdef"):
            raise ValueError("a program is named by its SHA-256")

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ProgramConfig:
        low, high = value["clip"]
        return cls(
            shape=tuple(int(n) for n in value["shape"]),
            clip=(float(low), float(high)),
            grid=tuple(int(n) for n in value["grid"]),
            channels=int(value["channels"]),
            sha256=str(value["sha256"]),
            spacing_mm=tuple(float(mm) for mm in value["spacing_mm"]),
            repeats=bool(value["repeats"]),
        )


@dataclass(frozen=True, kw_only=True)
class AppearanceConfig:
    """A part of each region's vector that does not come from our own network (``appearance``).

    backbone: one of BACKBONES. shape: (rows, columns) of the radiograph that it sees, a multiple of the
    stem's. dim: numbers that it adds to a vector. share: its share of a cosine, the rest being our own network's.
    regions: the keys where it counts, () being all; elsewhere its numbers are 0 and the cosine is our own network's.
    """

    backbone: str
    shape: tuple[int, ...]
    dim: int
    share: float
    regions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.backbone not in BACKBONES:
            raise ValueError(f"no backbone is called {self.backbone!r}: known are {', '.join(BACKBONES)}")
        if len(self.shape) != 2 or not all(0 < n <= MOST_BLURRED and n % BACKBONE_STRIDE == 0 for n in self.shape):
            raise ValueError(
                f"a backbone sees two axes, each a multiple of {BACKBONE_STRIDE} and at most {MOST_BLURRED}"
            )
        if not 2 <= self.dim <= MOST_WIDTH or not 0 < self.share < 1:
            raise ValueError("a backbone adds at least 2 numbers and has a share between 0 and 1")
        if len(set(self.regions)) != len(self.regions):
            raise ValueError("a region of a backbone is named twice")


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Sizes of one network. ``embedding_dim`` is the length of its own region vectors, ``vector_dim`` that of those it
    answers.

    plane_blocks, depth_blocks: transformer blocks within the coronal planes of tokens and, of a volume, from front to
    back through them, whose mean ``blocks`` then read (``CoronalPlanes``); 0 and 0 leave all tokens to ``blocks``.
    """

    name: str
    stems: Mapping[ImageKind, StemConfig | ProgramConfig]
    width: int
    blocks: int
    heads: int
    decoder_blocks: int
    text_blocks: int
    embedding_dim: int
    dropout: float = 0.0
    centred_head: bool = True  # False: the published head, for comparison
    plane_blocks: int = 0
    depth_blocks: int = 0
    appearance: AppearanceConfig | None = None

    def __post_init__(self) -> None:
        sizes = (self.width, self.heads, self.embedding_dim)
        if min(sizes) < 1 or max(sizes) > MOST_WIDTH or self.width % self.heads or self.width < 6:
            raise ValueError("width is a multiple of the heads, and sizes are in bounds")
        if self.embedding_dim < 2 or not 0 <= self.dropout < 1:
            raise ValueError("embedding_dim is at least 2, dropout in [0, 1)")
        if not min(self.blocks, self.text_blocks) >= 0 or self.decoder_blocks < 1:
            raise ValueError("a network has at least one decoder block")
        depths = (self.blocks, self.decoder_blocks, self.text_blocks, self.plane_blocks, self.depth_blocks)
        if max(depths) > MOST_BLOCKS:
            raise ValueError("a network this deep is not served")
        if min(self.plane_blocks, self.depth_blocks) < 0 or bool(self.plane_blocks) != bool(self.depth_blocks):
            raise ValueError("a network has both plane_blocks and depth_blocks or neither")
        for stem in self.stems.values():
            if math.prod(stem.grid) > MOST_TOKENS:
                raise ValueError("an image makes too many tokens")
        if self.appearance is not None:
            if tuple(self.stems) != (ImageKind.CXR,) or self.vector_dim > MOST_WIDTH:
                raise ValueError("a backbone belongs to a network of radiographs alone")
            if isinstance(self.stems[ImageKind.CXR], ProgramConfig):
                raise ValueError("a network that reads a program's features has no backbone beside them")
            factors = {n / own for n, own in zip(self.appearance.shape, self.stems[ImageKind.CXR].shape, strict=True)}
            if len(factors) > 1 or not factors.pop().is_integer():
                raise ValueError("what a backbone sees is a whole multiple of what the stem sees")

    @property
    def vector_dim(self) -> int:
        return self.embedding_dim + (0 if self.appearance is None else self.appearance.dim)

    def input_shape(self, kind: ImageKind) -> tuple[int, ...]:
        """Of the images that the network takes."""
        return self.stems[kind].shape if self.appearance is None else self.appearance.shape

    def only(self, kind: ImageKind) -> NetworkConfig:
        """The same network with the stem of one kind of image."""
        return NetworkConfig(**{**vars(self), "stems": {kind: self.stems[kind]}})

    def to_json(self) -> dict[str, Any]:
        written = {**asdict(self), "stems": {kind.value: asdict(stem) for kind, stem in self.stems.items()}}
        if self.appearance is None:
            del written["appearance"]  # as releases before there were backbones wrote it, and can read it
        return written

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> NetworkConfig:
        """Raises ValueError, TypeError or KeyError on anything but what ``to_json`` writes, a network from before there
        were bands included: it was another function."""
        stems: dict[ImageKind, StemConfig | ProgramConfig] = {
            ImageKind(kind): ProgramConfig.from_json(stem) if "sha256" in stem else StemConfig.from_json(stem)
            for kind, stem in value["stems"].items()
        }
        seen = value.get("appearance")
        appearance = None
        if seen is not None:
            shape, regions = tuple(int(n) for n in seen["shape"]), tuple(str(key) for key in seen.get("regions", ()))
            appearance = AppearanceConfig(**{**seen, "shape": shape, "regions": regions})
        return cls(**{**value, "stems": stems, "appearance": appearance})


TINY = NetworkConfig(
    name="tiny",
    stems={
        ImageKind.CXR: StemConfig(
            shape=(128, 128), patch=(4, 4), first_width=64, stages=((64, 2), (128, 2)), bands=(3, 7)
        ),
        ImageKind.CT: StemConfig(
            shape=(64, 48, 64),
            patch=(4, 4, 4),
            first_width=32,
            stages=((64, 2), (128, 2)),
            bands=(5,),
            windows=(MEDIASTINUM,),
        ),
    },
    width=128,
    blocks=2,
    heads=4,
    decoder_blocks=2,
    text_blocks=1,
    embedding_dim=128,
)
SMALL = NetworkConfig(
    name="small",
    stems={
        ImageKind.CXR: StemConfig(
            shape=(256, 256), patch=(2, 2), first_width=48, stages=((64, 2), (128, 2), (256, 2)), bands=(3, 7)
        ),
        ImageKind.CT: StemConfig(
            shape=(128, 96, 128),
            patch=(2, 2, 2),
            first_width=32,
            stages=((64, 2), (128, 2), (256, 2)),
            bands=(5,),
            windows=(MEDIASTINUM,),
        ),
    },
    width=256,
    blocks=6,
    heads=8,
    decoder_blocks=3,
    text_blocks=2,
    embedding_dim=256,
)
BASE = NetworkConfig(
    name="base",
    stems={
        ImageKind.CXR: StemConfig(shape=(480, 480), patch=(20, 20), first_width=512, overlap=False),
        ImageKind.CT: StemConfig(shape=(240, 480, 480), patch=(10, 20, 20), first_width=512, overlap=False),
    },
    width=512,
    plane_blocks=8,
    depth_blocks=6,
    blocks=4,
    heads=8,
    decoder_blocks=4,
    text_blocks=6,
    embedding_dim=512,
)
CONFIGS = {config.name: config for config in (TINY, SMALL, BASE)}
