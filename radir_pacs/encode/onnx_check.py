"""What an ONNX file may hold before a runtime opens it: one graph of standard operators, finite and deterministic.

ONNX is data, but not harmless data: a file may name other files as its weights, call operators from outside, loop for
ever or answer by chance. Such a file is refused with a line that says what to do.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from radir_pacs.errors import BundleRefused

if TYPE_CHECKING:
    import onnx

MOST_ONNX_BYTES = 2**31 - 1  # of one protobuf message: larger models keep their weights in other files
MOST_NODES = 200_000
MISSING = "a model in ONNX needs the extra 'onnx': pip install -e '.[onnx]' in the clone"
_ENDLESS = frozenset({"Loop", "Scan"})
_BY_CHANCE = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
_STANDARD = frozenset({"", "ai.onnx"})


def check_onnx(content: bytes) -> None:
    """Raises BundleRefused with what is wrong with the file, or when the extra ``onnx`` is missing."""
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError:
        raise BundleRefused(MISSING) from None
    if len(content) > MOST_ONNX_BYTES:
        raise BundleRefused("the ONNX file is larger than 2 GiB: store its weights in half precision")
    try:
        model = onnx.load_model_from_string(content)
    except (DecodeError, ValueError, RecursionError):
        raise BundleRefused("the file is not ONNX: export the model again") from None
    if not model.graph.node:
        raise BundleRefused("the ONNX file holds no graph: export the model again")
    if model.functions:
        raise BundleRefused("the ONNX graph calls functions of its own: inline them (onnx.inliner) and import again")
    nodes = 0
    for graph in _graphs(model.graph):
        nodes += len(graph.node)
        if nodes > MOST_NODES:
            raise BundleRefused(f"the ONNX graph has more than {MOST_NODES:,} nodes: simplify it and import again")
        _check_graph(graph)


def _check_graph(graph: onnx.GraphProto) -> None:
    for node in graph.node:
        if node.domain not in _STANDARD:
            raise BundleRefused(
                f"the operator {_shown(node.op_type)} of {_shown(node.domain)} is not served: export with standard "
                "ONNX operators alone"
            )
        if node.op_type in _ENDLESS:
            raise BundleRefused(f"the operator {node.op_type} might never end: unroll the loop before the export")
        if node.op_type in _BY_CHANCE:
            raise BundleRefused(f"the operator {node.op_type} answers by chance: export the model in evaluation mode")
    if any(_lies_outside(tensor) for tensor in _tensors(graph)):
        raise BundleRefused("weights lie in other files: save the ONNX model as one file and import again")


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph and those inside its nodes (branches); the parser bounds how deep they are nested."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.node:
                    yield from _graphs(inner)


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)


def _lies_outside(tensor: onnx.TensorProto) -> bool:
    return bool(tensor.external_data) or tensor.data_location == tensor.EXTERNAL


def _shown(text: str) -> str:
    """A name from a file, fit for one line."""
    return "".join(c for c in text if c.isprintable())[:60] or "(no name)"
