"""Small networks from elsewhere: ONNX written node by node, and the same as TorchScript and ``torch.export``."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

SHAPE = (128, 128)
DIM = 8


def onnx_toy(
    regions: int = 0,
    *,
    after: tuple[tuple[str, dict[str, Any]], ...] = (),
    shape: tuple[int, ...] = SHAPE,
    view: bool = False,
    element: int = 1,
    domain: str = "",
) -> Any:
    """Averages over tiles, then a linear map. ``regions`` 0: one vector for the whole chest.

    ``after``: operators with their attributes; each takes the vectors and the constants named under ``fed``.
    """
    from onnx import TensorProto, helper, numpy_helper

    rows = max(regions, 1)
    tile = [n // 4 for n in shape]
    weights = np.random.default_rng(7).standard_normal((4 ** len(shape), rows * DIM)).astype(np.float32)
    out_shape = [1, rows, DIM] if regions else [1, DIM]
    constants = {
        "flat": np.array([1, -1]),
        "to": np.array(out_shape),
        "weights": weights,
        "zero": np.float32(0),
        "one": np.float32(1),
        "nan": np.float32("nan"),
        "half": np.float32(0.5),
        "yes": np.array(True),
    }
    nodes = [
        helper.make_node("AveragePool", ["image"], ["tiles"], kernel_shape=tile, strides=tile),
        helper.make_node("Reshape", ["tiles", "flat"], ["row"]),
        helper.make_node("MatMul", ["row", "weights"], ["all"]),
        helper.make_node("Reshape", ["all", "to"], ["v0"]),
    ]
    for i, (kind, attributes) in enumerate(after):
        fed = attributes.pop("fed", ()) if attributes else ()
        nodes.append(helper.make_node(kind, [f"v{i}", *fed], [f"v{i + 1}"], domain=domain, **attributes))
    last = f"v{len(after)}"
    inputs = [helper.make_tensor_value_info("image", element, [1, 1, *shape])]
    if view:
        inputs.append(helper.make_tensor_value_info("view", TensorProto.INT64, [1]))
        nodes += [
            helper.make_node("Cast", ["view"], ["cast"], to=TensorProto.FLOAT),
            helper.make_node("Add", [last, "cast"], ["viewed"]),
        ]
        last = "viewed"
    graph = helper.make_graph(
        nodes,
        "toy",
        inputs,
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


class TorchToy(nn.Module):
    """Convolution, group normalisation (whose script checks sizes in a loop), one vector per region, unit."""

    def __init__(self, regions: int = 1) -> None:
        super().__init__()
        self.regions, self.dim = regions, DIM
        self.layers = nn.Sequential(
            nn.Conv2d(1, 4, 9, stride=8), nn.GroupNorm(2, 4), nn.GELU(), nn.AdaptiveAvgPool2d(3)
        )
        self.linear = nn.Linear(36, DIM * regions)

    def forward(self, image: Tensor) -> Tensor:
        vectors = self.linear(self.layers(image).flatten(1)).reshape(1, self.regions, self.dim)
        return nn.functional.normalize(vectors, dim=-1)


def torch_toy(regions: int = 1) -> TorchToy:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return TorchToy(regions).eval()
