"""A network from elsewhere that answers features of places becomes one that answers a vector for each region.

Operators are appended to its graph: as in ``Appearance``, mean and spread of the features where the region lies on a
frontal view, and of the whole picture on a lateral one, where no region lies in that place. So the bundle holds an
ONNX file like any other, places included, and serving knows nothing of feature maps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from .config import VIEWS
from .golden import golden_image
from .places import place

LEAST_OPSET = 13
MOST_CELLS = 128 * 128
_SLICED = ("first", "end", "axis")  # of the tokens of the grid


class Features(StrEnum):
    """What a network answers: vectors, [1, dim] or [1, regions, dim]; or features of places, [1, c, h, w] as a map or
    [1, prefix + h * w, c] as tokens, row by row from the patient's head and right side; of a volume, [1, c, z, y, x] or
    as many tokens, slice by slice from the feet."""

    VECTORS = "vectors"
    MAP = "map"
    TOKENS = "tokens"


@dataclass(frozen=True)
class _Rows:
    """A model that answers, under the name ``rows``, [1, places, c]; ``view`` is its second input."""

    model: Any
    new: _Names
    rows: str
    view: str
    grid: tuple[int, ...]

    def serialized(self, output: str) -> bytes:
        """With ``output`` alone as its answer."""
        from onnx import TensorProto, helper

        del self.model.graph.output[:]
        self.model.graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, None))
        made: bytes = self.model.SerializeToString()
        return made


def by_place(content: bytes, features: Features, *, prefix: int, shape: Sequence[int]) -> tuple[bytes, tuple[int, ...]]:
    """The ONNX file ``content`` answering [1, places, c], and the grid of these places.

    Arguments and errors are those of ``by_region``; the image may be a volume.
    """
    made = _with_rows(content, features, prefix, shape)
    return made.serialized(made.rows), made.grid


def by_region(content: bytes, features: Features, *, prefix: int, shape: Sequence[int], keys: Sequence[str]) -> bytes:
    """The ONNX file ``content`` answering [1, regions, 2 c] for the regions ``keys``.

    prefix: tokens before those of the grid, such as a class token, which are left out. shape: of the image.
    Raises ValueError with what to do about a file that does not answer so.
    """
    from onnx import helper

    made = _with_rows(content, features, prefix, shape)
    graph, new, rows, view = made.model.graph, made.new, made.rows, made.view
    places = np.stack([place(key, made.grid) for key in keys])
    everywhere = np.full_like(places, 1 / places.shape[1])
    # The spread is that of the distances from the picture's mean: squares of features far from zero would leave none.
    graph.node.extend(
        [
            _constant(new["places"], places.astype(np.float32)),
            _constant(new["everywhere"], everywhere.astype(np.float32)),
            _constant(new["picture"], everywhere[:1].astype(np.float32)),
            _constant(new["lateral"], np.array(VIEWS.index("lateral"), np.int64)),
            helper.make_node("MatMul", [new["picture"], rows], [new["centre"]]),
            helper.make_node("Sub", [rows, new["centre"]], [new["distances"]]),
            helper.make_node("Equal", [view, new["lateral"]], [new["is_lateral"]]),
            helper.make_node("Where", [new["is_lateral"], new["everywhere"], new["places"]], [new["share"]]),
            helper.make_node("MatMul", [new["share"], new["distances"]], [new["distance"]]),
            helper.make_node("Add", [new["distance"], new["centre"]], [new["mean"]]),
            helper.make_node("Mul", [new["distances"], new["distances"]], [new["squares"]]),
            helper.make_node("MatMul", [new["share"], new["squares"]], [new["square"]]),
            helper.make_node("Mul", [new["distance"], new["distance"]], [new["of_mean"]]),
            helper.make_node("Sub", [new["square"], new["of_mean"]], [new["difference"]]),
            helper.make_node("Relu", [new["difference"]], [new["variance"]]),
            helper.make_node("Sqrt", [new["variance"]], [new["spread"]]),
            helper.make_node("Concat", [new["mean"], new["spread"]], [new["vectors"]], axis=-1),
        ]
    )
    return made.serialized(new["vectors"])


def _with_rows(content: bytes, features: Features, prefix: int, shape: Sequence[int]) -> _Rows:
    import onnx
    from onnx import TensorProto, helper

    model = onnx.load_model_from_string(content)
    graph = model.graph
    version = max((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), default=0)
    if version < LEAST_OPSET:
        raise ValueError(f"the file is of opset {version}: export it with opset {LEAST_OPSET} or newer")
    if len(graph.output) != 1:
        raise ValueError(f"the model has {len(graph.output)} outputs: export it with the features alone")
    grid = _grid(_answer(content, shape), features, prefix, shape)
    new = _Names(graph)
    weights = {value.name for value in graph.initializer}
    for at in reversed(range(len(graph.input))):  # older exporters list the weights as well
        if graph.input[at].name in weights:
            del graph.input[at]
    model.ir_version = max(model.ir_version, 4)  # the first in which weights need not be listed
    if len(graph.input) == 1:
        graph.input.append(helper.make_tensor_value_info(new["view"], TensorProto.INT64, [1]))
    rows = graph.output[0].name
    if features is Features.MAP:
        graph.node.extend(
            [
                _constant(new["flat"], np.array([0, 0, -1], np.int64)),
                helper.make_node("Reshape", [rows, new["flat"]], [new["columns"]]),
                helper.make_node("Transpose", [new["columns"]], [new["rows"]], perm=[0, 2, 1]),
            ]
        )
        rows = new["rows"]
    elif prefix:
        ends = (prefix, np.iinfo(np.int64).max, 1)
        graph.node.extend(_constant(new[name], np.array([n], np.int64)) for name, n in zip(_SLICED, ends, strict=True))
        graph.node.append(helper.make_node("Slice", [rows, *(new[name] for name in _SLICED)], [new["rows"]]))
        rows = new["rows"]
    return _Rows(model, new, rows, graph.input[1].name, grid)


def _constant(name: str, value: np.ndarray[Any, Any]) -> Any:
    from onnx import helper, numpy_helper

    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value))


class _Names:
    """Names of values that the graph does not use yet."""

    def __init__(self, graph: Any) -> None:
        given = [value.name for value in (*graph.input, *graph.output, *graph.initializer)]
        used = {*given, *(name for node in graph.node for name in node.output)}
        self._mark = "by_region"
        while any(name.startswith(self._mark) for name in used):
            self._mark += "_"

    def __getitem__(self, name: str) -> str:
        return f"{self._mark}.{name}"


def _answer(content: bytes, shape: Sequence[int]) -> np.ndarray[Any, Any]:
    """What the file answers to a made-up image. Raises ValueError."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    fed = (golden_image(shape)[None], np.zeros(1, np.int64))
    names = [value.name for value in session.get_inputs()]
    try:
        (out,) = session.run(None, dict(zip(names, fed, strict=False)))
    except Exception as error:  # the runtime's errors share no other base
        raise ValueError(f"the model fails on an image of {[1, 1, *shape]}: {str(error).splitlines()[0]}") from None
    found = np.asarray(out)
    if found.dtype != np.float32:
        raise ValueError(f"the model answers {found.dtype}: export it with float32 features")
    return found


def _grid(out: np.ndarray[Any, Any], features: Features, prefix: int, shape: Sequence[int]) -> tuple[int, ...]:
    """Places along each axis; those of tokens have the proportions of the image. Raises ValueError."""
    if features is Features.MAP:
        if out.ndim != 2 + len(shape) or out.shape[0] != 1:
            axes = "[1, c, h, w]" if len(shape) == 2 else "[1, c, z, y, x]"
            raise ValueError(f"the model answers {list(out.shape)}, not a map {axes}")
        if prefix:
            raise ValueError("only tokens have some before those of the grid")
        grid = tuple(int(n) for n in out.shape[2:])
    else:
        if out.ndim != 3 or out.shape[0] != 1:
            raise ValueError(f"the model answers {list(out.shape)}, not tokens [1, n, c]")
        count = out.shape[1] - prefix
        step = (math.prod(shape) / count) ** (1 / len(shape)) if count > 0 else max(shape)
        grid = tuple(max(1, round(n / step)) for n in shape)
        if math.prod(grid) != count or max(abs(n * step - size) for n, size in zip(grid, shape, strict=True)) >= step:
            raise ValueError(
                f"{out.shape[1]} tokens less {prefix} are no grid of the image's proportions: --prefix-tokens says how "
                "many stand before the grid (a class token: 1; with four registers: 5)"
                + ("; of places that are no cubes, export a map" if len(shape) == 3 else "")
            )
    if math.prod(grid) > MOST_CELLS:
        raise ValueError(f"a grid of {' x '.join(map(str, grid))} places is not served: pool it first")
    return grid
