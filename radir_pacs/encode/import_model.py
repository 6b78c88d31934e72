"""An image encoder from elsewhere becomes a bundle: TorchScript, ``torch.export`` (.pt2) or ONNX in, ONNX inside.

TorchScript and .pt2 are programs (the latter holds pickles too). They are opened once, in a child process that can
harm nothing, to be turned into ONNX; what serves is the ONNX, which is data. See docs/adr/0008-external-encoders.md.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from radir_pacs.errors import BundleRefused
from radir_pacs.types import ImageKind, Region

from .bundle import Bundle, ModelRegion
from .confined import GIVES_NO_MORE
from .external import ExternalNetwork
from .external_config import ExternalConfig
from .network import GLOBAL_REGION, view_index
from .onnx_check import MISSING, MOST_ONNX_BYTES, check_onnx
from .onnx_regions import Features
from .preprocess import Preprocessing
from .tokenizer import SPECIAL, Tokenizer

MEMORY_BYTES = 32 * 2**30  # of addresses, most of which torch only reserves
CONVERT_S, OPEN_S = 600.0, 120.0  # a conversion; opening a model for its trial
TRIAL_RUNS = 12
MOST_ENTRIES = 100_000  # of an archive
MOST_LINE_BYTES = 10_000


@dataclass(frozen=True, kw_only=True)
class ImportRequest:
    """What the file itself does not say.

    ``regions`` in the order of its output; or, of a model that answers ``features`` of places behind ``prefix_tokens``,
    those whose vectors are made of them. ``training`` and ``metrics`` go to the model card as they are. ``slowest_s``:
    seconds an image may take here with ``threads`` (0: torch's choice). ``trust_code``: go on where this system cannot
    confine a program."""

    name: str
    kind: ImageKind
    preprocessing: Preprocessing
    regions: Sequence[Region]
    features: Features = Features.VECTORS
    prefix_tokens: int = 0
    training: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    slowest_s: float = 5.0
    threads: int = 0
    trust_code: bool = False


def import_model(file: Path, request: ImportRequest) -> Bundle:
    """The bundle, not yet saved. Raises BundleRefused with the reason and what to do, OSError."""
    keys = [region.key for region in request.regions]
    if len(set(keys)) != len(keys) or GLOBAL_REGION not in keys:
        raise BundleRefused(f"the regions repeat one, or leave out {GLOBAL_REGION!r}, which answers for all others")
    if request.features is not Features.VECTORS and (request.kind is not ImageKind.CXR or len(keys) < 2):
        raise BundleRefused("features of places are served of radiographs, for regions that --regions names")
    if request.prefix_tokens < 0:
        raise BundleRefused("--prefix-tokens is a number of tokens")
    task = {
        "name": request.name,
        "shape": request.preprocessing.shape,
        "view": view_index(request.kind, None),
        "regions": keys,
        "slowest_s": request.slowest_s,
        "threads": request.threads or torch.get_num_threads(),
    }
    source, content = as_onnx(file, task, request.trust_code)
    deadline_s = OPEN_S + TRIAL_RUNS * request.slowest_s
    if request.features is not Features.VECTORS:
        pool = {**task, "do": "pool", "features": request.features.value, "prefix": request.prefix_tokens}
        said, content = asked(file.name, content, pool, deadline_s, request.trust_code)
        check_onnx(content)
    said, _ = asked(file.name, content, {**task, "do": "try"}, deadline_s, request.trust_code)
    try:
        config = ExternalConfig(name=request.name, shape=request.preprocessing.shape, embedding_dim=int(said["dim"]))
        network = ExternalNetwork(config, content, keys)
        seconds = float(said["seconds_per_image"])
    except (KeyError, TypeError, ValueError) as error:
        raise BundleRefused(f"{file.name}: {error}") from None
    return Bundle(
        kind=request.kind,
        network=network,
        tokenizer=Tokenizer(SPECIAL),
        preprocessing=request.preprocessing,
        regions=tuple(
            ModelRegion(key=region.key, name=region.name, sided=region.laterality is not None)
            for region in request.regions
        ),
        training={
            "imported_from": source,
            "features": request.features.value,
            "seconds_per_image": seconds,
            **request.training,
        },
        metrics=dict(request.metrics),
    )


def as_onnx(file: Path, task: Mapping[str, Any], trust_code: bool) -> tuple[str, bytes]:
    """What format the file is of, and an ONNX file of the same network that may be opened. Raises BundleRefused,
    OSError."""
    if not all(find_spec(name) for name in ("onnx", "onnxruntime", "onnxscript")):
        raise BundleRefused(MISSING)
    if file.stat().st_size > MOST_ONNX_BYTES:
        raise BundleRefused(f"{file.name} is larger than 2 GiB: store its weights in half precision")
    content = file.read_bytes()
    source = format_of(content)
    if source != "onnx":
        convert = {**task, "do": "convert", "format": source}
        _, content = asked(file.name, content, convert, CONVERT_S, trust_code)
    try:
        check_onnx(content)
    except BundleRefused as error:
        raise BundleRefused(f"{file.name}: {error}") from None
    return source, content


def format_of(content: bytes) -> str:
    """``torchscript``, ``pt2`` or ``onnx``, by what the file holds. Raises BundleRefused for another archive."""
    if not content.startswith(b"PK"):
        return "onnx"
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OverflowError):
        raise BundleRefused("the archive is damaged: copy or export the model again") from None
    if len(names) > MOST_ENTRIES:
        raise BundleRefused("the archive has too many entries for a model")
    inside = {name.partition("/")[2] for name in names}
    if any(name.startswith("code/") for name in inside) and "constants.pkl" in inside:
        return "torchscript"
    if "archive_format" in inside or "serialized_exported_program.json" in names:
        return "pt2"
    raise BundleRefused(
        "the archive holds neither TorchScript nor torch.export: weights alone are no model (and pickles are never "
        "opened); export it with torch.onnx.export, torch.export.save or torch.jit.save"
    )


def asked(
    name: str, content: bytes, task: Mapping[str, Any], deadline_s: float, trust_code: bool
) -> tuple[dict[str, Any], bytes]:
    """What the confined child says, and the bytes after it. Raises BundleRefused."""
    limits = [str(MEMORY_BYTES), str(MOST_ONNX_BYTES)]
    arguments = ["radir_pacs.encode.confined", *limits, json.dumps(task), str(int(trust_code))]
    with tempfile.TemporaryFile() as model, tempfile.TemporaryFile() as answer:
        model.write(content)
        model.seek(0)
        child = subprocess.Popen(
            [sys.executable, "-I", "-B", "-m", "radir_pacs.confine", *arguments],
            stdin=model,
            stdout=answer,
            stderr=subprocess.DEVNULL,
            env={"PATH": os.defpath, "LANG": "C.UTF-8"},  # no setting, no password
            start_new_session=True,
        )
        try:
            child.wait(deadline_s)
        except subprocess.TimeoutExpired:
            raise BundleRefused(
                f"{name}: the model did not answer within {deadline_s:.0f} s: export a smaller one"
            ) from None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        answer.seek(0)
        line, rest = answer.readline(MOST_LINE_BYTES), answer.read(MOST_ONNX_BYTES + 1)
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise BundleRefused(f"{name}: the process that opened the model ended ({child.returncode}): export it again")
    if said.get("unconfined"):
        raise BundleRefused(
            f"{name}: TorchScript and torch.export files are programs, and {GIVES_NO_MORE}: export the model as ONNX, "
            "or, if you trust whoever made the file, give --trust-code"
        )
    if "error" in said:
        raise BundleRefused(f"{name}: {_printable(said['error'])}")
    return said, rest


def _printable(text: object) -> str:
    return "".join(c for c in str(text) if c.isprintable())[:400]
