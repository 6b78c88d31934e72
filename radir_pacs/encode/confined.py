"""The child process in which a stranger's model is opened for the first time; its parent is ``import_model``.

Run by ``radir_pacs.confine`` with a task (JSON) and the administrator's consent (0 or 1), the model on standard input.
The answer on standard output is a line of JSON, ``{"error": reason}`` or what was measured; after it, for a conversion
and for regions made of features, an ONNX file. A child taken over by its model can answer any ONNX file, which is
checked like any other, and nothing else: it gave up writing, sockets and processes before it read a byte.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from typing import IO, Any

GIVES_NO_MORE = "this system cannot confine a program (it takes Linux with Landlock and seccomp)"
MOST_OFF = 1e-3  # between the answers of a program and of its ONNX, as unit vectors


def main(confined: bool, arguments: list[str]) -> None:
    task, consent = json.loads(arguments[0]), arguments[1] == "1"
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # since libraries print
    tempfile.tempdir = os.environ["TORCHINDUCTOR_CACHE_DIR"] = "/"  # torch wants names of folders and writes nothing
    if task["do"] == "convert" and not confined and not consent:
        _answer(answers, {"error": GIVES_NO_MORE, "unconfined": True})
        return
    content = sys.stdin.buffer.read()
    try:
        if task["do"] == "convert":
            onnx = _converted(content, task)
            _answer(answers, {"confined": confined}, onnx)
        elif task["do"] == "pool":
            _answer(answers, {}, _pooled(content, task))
        elif task["do"] == "place":
            _answer(answers, *_placed(content, task))
        elif task["do"] == "try features":
            _answer(answers, _tried_features(content, task))
        else:
            _answer(answers, _tried(content, task))
    except MemoryError:
        _answer(answers, {"error": "the model needs more memory than an import allows"})
    except Exception as error:  # the edge of the process: any library may raise anything over a stranger's file
        _answer(answers, {"error": _one_line(error)})


def _answer(answers: IO[bytes], said: dict[str, Any], onnx: bytes = b"") -> None:
    answers.write(json.dumps(said).encode() + b"\n" + onnx)
    answers.flush()


def _converted(content: bytes, task: dict[str, Any]) -> bytes:
    """The program as ONNX, which answers a made-up image as the program does. Raises ValueError."""
    import io

    import torch

    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    from radir_pacs.encode.golden import golden_image

    image = torch.from_numpy(golden_image(task["shape"]))[None]
    view = torch.tensor([int(task["view"])])
    file = io.BytesIO(content)
    if task["format"] == "torchscript":
        load: Any = torch.jit.load  # not typed
        program: Any = load(file, map_location="cpu").eval()
        count = len(program.forward.schema.arguments) - 1
    else:
        exported = torch.export.load(file)
        program, count = exported.module(), len(exported.graph_signature.user_inputs)
    if count not in (1, 2):
        raise ValueError(f"the model takes {count} inputs: export it with image and, if it wants one, view")
    given = (image, view)[:count]
    try:
        expected = program(*given)
    except Exception as error:  # whatever its own code raises
        raise ValueError(f"the model fails on an image of {list(image.shape)}: {_one_line(error)}") from None
    if not isinstance(expected, torch.Tensor):
        raise ValueError(f"the model answers a {type(expected).__name__}: export it with one tensor of vectors")
    target: Any = io.BytesIO()
    try:
        if task["format"] == "torchscript":
            torch.onnx.export(program, given, target, dynamo=False, opset_version=18)
            target = _without_dead_nodes(target.getvalue())  # size checks leave unused loops
        else:
            done = torch.onnx.export(exported, dynamo=True, verbose=False)
            assert done is not None
            target.write(done.model_proto.SerializeToString())
    except Exception as error:  # an operator that has no ONNX equivalent
        instead = "with torch.export or as ONNX" if task["format"] == "torchscript" else "as ONNX"
        raise ValueError(f"it cannot be turned into ONNX ({_one_line(error)}): export it {instead}") from None
    onnx: bytes = target.getvalue()
    _compare(onnx, given, expected)
    return onnx


def _without_dead_nodes(content: bytes) -> IO[bytes]:
    import io

    import onnx
    from onnxscript import optimizer

    return io.BytesIO(optimizer.optimize(onnx.load_model_from_string(content)).SerializeToString())


def _compare(onnx: bytes, given: tuple[Any, ...], expected: Any) -> None:
    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    (found,) = session.run(None, dict(zip(names, (x.numpy() for x in given), strict=False)))
    wanted = expected.float().numpy()
    if found.shape != wanted.shape or np.isfinite(wanted).all() != np.isfinite(found).all():
        raise ValueError("turned into ONNX it answers otherwise: export it as ONNX yourself")
    off = float(np.abs(found - wanted).max() / max(float(np.abs(wanted).max()), 1e-12))
    if off > MOST_OFF:  # a NaN passes here and is refused by the trial, which says so
        raise ValueError(f"turned into ONNX it answers otherwise (off by {off:.2g}): export it as ONNX yourself")


def _pooled(content: bytes, task: dict[str, Any]) -> bytes:
    """The ONNX with a vector for each region in place of features. Raises ValueError."""
    from radir_pacs.encode.onnx_regions import Features, by_region

    features, shape = Features(task["features"]), tuple(task["shape"])
    return by_region(content, features, prefix=int(task["prefix"]), shape=shape, keys=task["regions"])


def _placed(content: bytes, task: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """The grid of places, and the ONNX that answers [1, places, c]. Raises ValueError."""
    from radir_pacs.encode.onnx_regions import Features, by_place

    onnx, grid = by_place(content, Features(task["features"]), prefix=int(task["prefix"]), shape=tuple(task["shape"]))
    return {"grid": grid}, onnx


def _tried_features(content: bytes, task: dict[str, Any]) -> dict[str, Any]:
    from radir_pacs.encode.trial import measure_features

    return measure_features(content, task)


def _tried(content: bytes, task: dict[str, Any]) -> dict[str, Any]:
    from radir_pacs.encode.trial import measure

    return measure(content, task)


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return "".join(c for c in text if c.isprintable())[:300]
