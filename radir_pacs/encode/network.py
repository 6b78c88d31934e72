"""The RadIR network: an image and the names of regions in, one unit vector per region out.

Image tokens come from a 2D or a 3D stem and pass blocks that both kinds of image share. The name of a region, read by
a small text encoder, is the query of a cross-attention decoder over those tokens (anatomy-conditioned retrieval,
arXiv 2503.04653, section 2). Queries do not attend to one another, so a vector does not depend on the other queries.

Most regions of most patients are normal, and plain vectors then collapse onto what all patients share; the last layer
therefore measures from each region's own mean (``RegionHead``).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from radir_pacs.types import ImageKind, View

from .appearance import Appearance, reduced
from .bands import Bands
from .config import VIEWS, NetworkConfig, ProgramConfig, StemConfig
from .folder import StoredFile
from .positions import grid_coordinates, sine_positions
from .program import ProgramStem
from .tokenizer import PAD

GLOBAL_REGION = "chest"
RARE_LOGIT = -3.0  # most findings are absent from most regions: training need not begin by learning that
LEAST_SPREAD = 0.5  # of a region's raw vectors, whose norm is about the root of their length
TEXT_TOKENS = 256  # longest text the text encoder reads


def view_index(kind: ImageKind, view: View | None) -> int:
    """The row of the modality embedding; a radiograph that does not say counts as frontal."""
    if kind is ImageKind.CT:
        return VIEWS.index("ct")
    return VIEWS.index("lateral" if view is View.LATERAL else "frontal")


class ResidualStage(nn.Module):
    """Two 3-wide convolutions with group normalisation around a strided shortcut."""

    def __init__(self, axes: int, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        conv = nn.Conv2d if axes == 2 else nn.Conv3d
        self.first = conv(width_in, width, 3, stride=stride, padding=1, bias=False)
        self.first_norm = nn.GroupNorm(_groups(width), width)
        self.second = conv(width, width, 3, padding=1, bias=False)
        self.second_norm = nn.GroupNorm(_groups(width), width)
        self.shortcut = conv(width_in, width, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        inner = functional.relu(self.first_norm(self.first(x)))
        return functional.relu(self.shortcut(x) + self.second_norm(_convolved(inner, self.second)))


def _convolved(x: Tensor, conv: nn.Module) -> Tensor:
    """``conv``, 3 wide with stride 1, of ``x``; in single precision over volumes [batch, channels, 2, y, x] on a CPU.

    Where the kernel reaches over the whole depth, oneDNN reads its bfloat16 gradient of the weights from memory that
    nothing has written (torch 2.13, processors with avx512_bf16): any number, or none.
    """
    exact = x.ndim == 5 and x.shape[2] == 2 and not x.is_cuda
    with torch.autocast(x.device.type, enabled=False) if exact else contextlib.nullcontext():
        out: Tensor = conv(x.float() if exact else x)
    return out


def _groups(width: int) -> int:
    return next(n for n in (8, 4, 2, 1) if width % n == 0)


class Stem(nn.Module):
    """Image [batch, 1, *shape] to tokens [batch, tokens, width], positions added."""

    positions: Tensor
    plane_positions: Tensor

    def __init__(self, config: StemConfig, width: int) -> None:
        super().__init__()
        axes = len(config.shape)
        margin = 1 if config.overlap else 0
        conv: Callable[..., nn.Module] = nn.Conv2d if axes == 2 else nn.Conv3d
        kernel = tuple(p + 2 * margin for p in config.patch)
        shown = 1 + len(config.windows) + len(config.bands)
        layers = [conv(shown, config.first_width, kernel, stride=config.patch, padding=margin)]
        if config.stages:
            layers += [nn.GroupNorm(_groups(config.first_width), config.first_width), nn.ReLU()]
        last = config.first_width
        for stage_width, stride in config.stages:
            layers.append(ResidualStage(axes, last, stage_width, stride))
            last = stage_width
        self.shape, self.grid = config.shape, config.grid
        self.bands = Bands(config.shape, config.bands, config.windows)
        self.layers = nn.Sequential(*layers)
        self.to_width = nn.Sequential(nn.Linear(last, width), nn.LayerNorm(width))  # as large as the positions
        plane = (config.grid[0], config.grid[-1])  # the coronal one of a volume
        for name, grid in (("positions", config.grid), ("plane_positions", plane)):
            self.register_buffer(name, sine_positions(grid_coordinates(grid), width), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        if tuple(images.shape[1:]) != (1, *self.shape):
            raise ValueError(f"images are {tuple(images.shape)}, the stem takes [batch, 1, *{self.shape}]")
        tokens: Tensor = self.to_width(self.layers(self.bands(images)).flatten(2).transpose(1, 2))
        return tokens + self.positions


class Attention(nn.Module):
    """Multi-head attention of ``queries`` [batch, q, width] over ``memory`` [batch, m, width]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_query, self.to_out = nn.Linear(width, width), nn.Linear(width, width)
        self.to_key_value = nn.Linear(width, 2 * width)
        for part in (self.to_query, self.to_key_value, self.to_out):
            nn.init.xavier_uniform_(part.weight)  # with torch's default the image would hardly change its query

    def forward(self, queries: Tensor, memory: Tensor, keep: Tensor | None = None) -> Tensor:
        """``keep``: bool [batch, m], False where memory is padding."""
        batch, q, width = queries.shape

        def split(x: Tensor) -> Tensor:
            return x.reshape(batch, -1, self.heads, width // self.heads).transpose(1, 2)

        key, value = (split(part) for part in self.to_key_value(memory).chunk(2, dim=-1))
        mask = None if keep is None else keep[:, None, None, :]
        if queries.is_cuda:
            mixed = functional.scaled_dot_product_attention(split(self.to_query(queries)), key, value, attn_mask=mask)
        else:  # on a CPU and with this few tokens, torch's fused kernel takes three times as long
            weights: Tensor = split(self.to_query(queries)) @ key.transpose(2, 3) * (width // self.heads) ** -0.5
            if mask is not None:
                weights = weights.masked_fill(~mask, float("-inf"))
            mixed = weights.softmax(-1) @ value
        out: Tensor = self.to_out(mixed.transpose(1, 2).reshape(batch, q, width))
        return out


class Block(nn.Module):
    """A pre-norm transformer block; ``cross`` attends to a memory of its own norm instead of to itself."""

    def __init__(self, width: int, heads: int, dropout: float, *, cross: bool = False) -> None:
        super().__init__()
        self.norm, self.feed_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.memory_norm = nn.LayerNorm(width) if cross else None
        self.attention = Attention(width, heads)
        self.feed = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, memory: Tensor | None = None, keep: Tensor | None = None) -> Tensor:
        own = self.norm(x)
        if self.memory_norm is None:
            memory = own
        elif memory is not None:
            memory = self.memory_norm(memory)
        x = x + self.drop(self.attention(own, memory, keep))
        out: Tensor = x + self.drop(self.feed(self.feed_norm(x)))
        return out


class CoronalPlanes(nn.Module):
    """A volume's tokens to those of one coronal plane, in which a radiograph lies already.

    Blocks within each plane, then from front to back, then the mean over depth: what the 13,824 tokens of a full-size
    CT cost is then linear in its depth (a CT-ViT as in arXiv 2503.04653, which goes by axial slices; the mean over
    height would forget the lobes, and these planes share their geometry with radiographs).
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()

        def blocks(count: int) -> nn.ModuleList:
            return nn.ModuleList(Block(config.width, config.heads, config.dropout) for _ in range(count))

        deep = any(len(stem.shape) == 3 for stem in config.stems.values())
        self.within, self.through = blocks(config.plane_blocks), blocks(config.depth_blocks if deep else 0)

    def forward(self, x: Tensor, grid: tuple[int, ...]) -> Tensor:
        """Tokens [batch, z * y * x, width] of ``grid`` (z, y, x), or (z, x), to [batch, z * x, width]."""
        height, depth, across = grid if len(grid) == 3 else (grid[0], 1, grid[1])
        batch, _, width = x.shape
        plane = height * across
        x = x.reshape(batch, height, depth, across, width).transpose(1, 2).reshape(batch * depth, plane, width)
        for block in self.within:
            x = block(x)
        if depth == 1:
            return x
        x = x.reshape(batch, depth, plane, width).transpose(1, 2).reshape(batch * plane, depth, width)
        for block in self.through:
            x = block(x)
        return x.mean(1).reshape(batch, plane, width)


class TextEncoder(nn.Module):
    """Token ids [texts, length] to one vector per text [texts, width]: region names, finding phrases, reports."""

    positions: Tensor

    def __init__(self, vocabulary_size: int, config: NetworkConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, config.width, padding_idx=PAD)
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads, config.dropout) for _ in range(config.text_blocks)
        )
        self.norm = nn.LayerNorm(config.width)
        line = torch.arange(TEXT_TOKENS, dtype=torch.float32)[:, None] / TEXT_TOKENS
        self.register_buffer("positions", sine_positions(line, config.width), persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        if ids.shape[1] > TEXT_TOKENS:
            raise ValueError(f"a text has at most {TEXT_TOKENS} tokens")
        keep = ids != PAD
        x = self.embedding(ids) + self.positions[: ids.shape[1]]
        for block in self.blocks:
            x = block(x, keep=keep)
        weight = keep[:, :, None].to(x.dtype)
        pooled: Tensor = self.norm((x * weight).sum(1) / weight.sum(1).clamp(min=1))
        return pooled


def spread(raw: Tensor, mean: Tensor) -> Tensor:
    """Root mean square distance from ``mean`` [q, dim] over the batch of ``raw`` [batch, q, dim], not under a floor.

    Without the floor, a region of which the network still says little would have unbounded gradients, which drown all
    other losses.
    """
    return (raw - mean).square().sum(-1).mean(0).add(LEAST_SPREAD**2).sqrt()


class RegionHead(nn.Module):
    """Region-centred unit vectors: minus the region's mean, over its scale, a constant appended, normalised.

    Without the centring, vectors of one region differ in the third decimal of their cosine. The constant gives an
    unremarkable image (near its region's mean) a direction of its own: normal is similar to normal.
    ``mean`` [regions, dim - 1] and ``scale`` [regions] are running averages, kept with the weights.
    """

    mean: Tensor
    scale: Tensor
    seen: Tensor
    MOMENTUM = 0.05

    def __init__(self, width: int, dim: int, regions: int, *, centred: bool = True) -> None:
        super().__init__()
        self.centred = centred
        self.project = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, dim - 1))
        self.register_buffer("mean", torch.zeros(regions, dim - 1))
        self.register_buffer("scale", torch.ones(regions))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(self, features: Tensor, regions: Tensor) -> tuple[Tensor, Tensor]:
        """Features [batch, q, width] of region rows ``regions`` [q] to (stated, unit vectors).

        ``stated`` [batch, q, 2 * (dim - 1)] is what the severity head reads: the centred vector at unit variance,
        where the image speaks, beside the raw one, which says what region it is.

        In training the batch's own mean and scale are used, with their gradient: a loss then gains nothing from
        shrinking all vectors of a region together.
        """
        raw = self.raw(features)
        if self.training:
            mean = raw.mean(0)
            scale = spread(raw, mean)
            self._follow(mean.detach(), scale.detach(), regions)
        else:
            mean, scale = self.mean[regions], self.scale[regions]
        return self.measured_from(mean, scale, raw)

    def raw(self, features: Tensor) -> Tensor:
        """Vectors [batch, q, dim - 1] before centring."""
        with torch.autocast(features.device.type, enabled=False):  # bfloat16 would round away what tells images apart
            raw: Tensor = self.project(features.float())
        return raw

    def measured_from(self, mean: Tensor, scale: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        """As ``forward``, of ``raw`` vectors under any means [q, dim - 1] and scales [q]."""
        if not self.centred:  # the published head: a linear map and a norm
            return torch.cat([raw, raw], dim=-1), functional.normalize(functional.pad(raw, (0, 1)), dim=-1)
        centred = (raw - mean) / scale[:, None]
        stated = torch.cat([centred * math.sqrt(raw.shape[-1]), raw], dim=-1)
        return stated, functional.normalize(functional.pad(centred, (0, 1), value=1.0), dim=-1)

    @torch.no_grad()
    def _follow(self, mean: Tensor, scale: Tensor, regions: Tensor) -> None:
        momentum = max(self.MOMENTUM, 1.0 / (1 + int(self.seen)))  # a true mean of the first batches
        self.mean[regions] += momentum * (mean - self.mean[regions])
        self.scale[regions] += momentum * (scale - self.scale[regions])
        self.seen += 1


@dataclass(frozen=True)
class Output:
    """An image's answer to each of q queries.

    vectors: unit, [batch, q, vector_dim]. severity: logits that each finding is present, at least moderate, and
    severe, [batch, q, findings, 3]. described: logits that a report says anything about it, [batch, q].
    """

    vectors: Tensor
    severity: Tensor
    described: Tensor


class RadirNetwork(nn.Module):
    """``regions`` and ``findings`` name the rows of the head's statistics and the columns of the severity head.

    ``text`` takes the place of our own text encoder (``local_text``); ``program`` is the ONNX file of a configuration
    that has one in place of a stem (``program``).
    """

    def __init__(
        self,
        config: NetworkConfig,
        *,
        vocabulary_size: int,
        regions: Sequence[str],
        findings: Sequence[str],
        text: nn.Module | None = None,
        program: bytes | StoredFile = b"",
    ) -> None:
        super().__init__()
        self.config, self.regions, self.findings = config, tuple(regions), tuple(findings)
        width = config.width
        self.stems = nn.ModuleDict(
            {
                kind.value: ProgramStem(stem, width, program) if isinstance(stem, ProgramConfig) else Stem(stem, width)
                for kind, stem in config.stems.items()
            }
        )
        self.view = nn.Embedding(len(VIEWS), width)
        nn.init.normal_(self.view.weight, std=0.02)
        self.planes = CoronalPlanes(config) if config.plane_blocks else None
        self.blocks = nn.ModuleList(Block(width, config.heads, config.dropout) for _ in range(config.blocks))
        self.memory_norm = nn.LayerNorm(width)
        self.text = TextEncoder(vocabulary_size, config) if text is None else text
        self.decoder = nn.ModuleList(
            Block(width, config.heads, config.dropout, cross=True) for _ in range(config.decoder_blocks)
        )
        self.head = RegionHead(width, config.embedding_dim, len(self.regions), centred=config.centred_head)
        self.severity = nn.Linear(2 * (config.embedding_dim - 1), 3 * len(self.findings))
        nn.init.constant_(self.severity.bias, RARE_LOGIT)
        self.described = nn.Linear(2 * (config.embedding_dim - 1), 1)
        self.asked = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 1))
        self.report = nn.Linear(width, config.embedding_dim)
        self.appearance = Appearance(config.appearance, self.regions) if config.appearance else None

    def image_tokens(self, images: Tensor, views: Tensor, kind: ImageKind) -> Tensor:
        """Images [batch, 1, *shape] seen as ``views`` [batch] (``view_index``) to tokens [batch, tokens, width].

        A network that reads a program takes that one's features of the images as well (``ProgramStem``)."""
        stem = self.stems[kind.value]
        if self.appearance is not None:
            images = reduced(images, self.config.stems[kind].shape)
        seen = stem(images, views) if isinstance(stem, ProgramStem) else stem(images)
        x, positions = seen + self.view(views)[:, None], stem.positions
        if self.planes is not None:
            x, positions = self.planes(x, stem.grid), stem.plane_positions
        for block in self.blocks:
            x = block(x)
        tokens: Tensor = self.memory_norm(x) + positions  # added again: a region's name first looks for a place
        return tokens

    @property
    def program(self) -> ProgramStem | None:
        """The program from elsewhere whose features it reads, where there is one."""
        return next((stem for stem in self.stems.values() if isinstance(stem, ProgramStem)), None)

    def use_threads(self, threads: int) -> None:
        """How many threads such a program uses; torch's own are the whole process's."""
        if self.program is not None:
            self.program.file.use_threads(threads)

    def decode(self, tokens: Tensor, queries: Tensor) -> Tensor:
        """Query vectors [q, width] (from ``text``) asked of each image: features [batch, q, width]."""
        tokens = tokens[:, : self._own_tokens]
        x = queries.expand(len(tokens), -1, -1)
        for block in self.decoder:
            x = block(x, tokens)
        return x - queries  # what the image added: the query itself would drown it

    def forward(self, images: Tensor, views: Tensor, kind: ImageKind, queries: Tensor, regions: Tensor) -> Output:
        """``queries`` [q, width] are encoded region names, ``regions`` [q] their rows in ``self.regions``."""
        out = self.answer(self.decode(self.image_tokens(images, views, kind), queries), regions)
        return out if self.appearance is None else self._joined(out, self._seen(images, views), regions)

    def kept_tokens(self, images: Tensor, views: Tensor, kind: ImageKind) -> Tensor:
        """``image_tokens``, and behind them what a backbone sees, in as many more rows as that takes: all that
        ``from_kept`` needs to answer as ``forward`` does."""
        tokens = self.image_tokens(images, views, kind)
        if self.appearance is None:
            return tokens
        seen = self._seen(images, views).flatten(1)
        rows = functional.pad(seen, (0, -seen.shape[1] % self.config.width)).reshape(len(seen), -1, self.config.width)
        return torch.cat([tokens, rows.to(tokens.dtype)], dim=1)

    def from_kept(self, tokens: Tensor, queries: Tensor, regions: Tensor) -> Output:
        """As ``forward``, of ``kept_tokens``."""
        out = self.answer(self.decode(tokens, queries), regions)
        if self.appearance is None:
            return out
        count, dim = len(self.appearance.keys), self.appearance.config.dim
        seen = tokens[:, self._own_tokens :].flatten(1)[:, : count * dim].reshape(-1, count, dim)
        return self._joined(out, seen, regions)

    @property
    def _own_tokens(self) -> int | None:
        """How many of the kept tokens are the image's; None: all."""
        return None if self.appearance is None else math.prod(self.config.stems[ImageKind.CXR].grid)

    def _seen(self, images: Tensor, views: Tensor) -> Tensor:
        assert self.appearance is not None
        seen: Tensor = self.appearance(images, views == VIEWS.index("lateral"))
        return seen

    def _joined(self, out: Output, seen: Tensor, regions: Tensor) -> Output:
        assert self.appearance is not None
        vectors = self.appearance.beside(out.vectors.float(), seen.float(), regions)
        return Output(vectors, out.severity, out.described)

    def answer(self, features: Tensor, regions: Tensor) -> Output:
        """From decoded features [batch, q, width]; these vectors lack what a backbone adds."""
        stated, vectors = self.head(features, regions)
        severity = self.severity(stated).unflatten(-1, (len(self.findings), 3))
        return Output(vectors, severity, self.described(stated).squeeze(-1))

    def presence(self, features: Tensor) -> Tensor:
        """Logits [batch, q] that what each query asks for is present, such as "effusion in the left lung"."""
        out: Tensor = self.asked(features).squeeze(-1)
        return out

    def report_vectors(self, ids: Tensor) -> Tensor:
        """Token ids of reports [n, length] to unit vectors [n, vector_dim], in the space of the region "chest".

        A report says nothing of appearance."""
        return functional.pad(self.own_report_vectors(ids), (0, self.config.vector_dim - self.config.embedding_dim))

    def own_report_vectors(self, ids: Tensor) -> Tensor:
        """As ``report_vectors``, [n, embedding_dim]: to be compared with what ``answer`` gives."""
        out: Tensor = functional.normalize(self.report(self.text(ids)).float(), dim=-1)
        return out
