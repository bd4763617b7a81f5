"""A network with weights in int8 and products computed in int8, in which each token is quantised by itself.

Of a weight matrix each output has a scale of its own, found once. Of what is multiplied with it each token has one,
found when it is computed: its largest size / 127. So no rows are needed to find ranges in, an outlier costs its own
token only, and, other than where one scale serves a whole batch (ONNX Runtime's ``quantize_dynamic``), a text is
answered alone as among others. See decision 22.

Embedding tables have a scale for each entry. Attention, normalisation and the product that gives the outputs, the last
one of the head, stay in single precision.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

WEIGHT_TOP, TOKEN_TOP = 63, 127
"""Largest sizes in int8. Products are summed in pairs of 16 bits by processors without VNNI: with weights in 7 bits the
sums fit, so that all processors give the same."""
_TINY = 1e-20
_CONTRIBUTED = "com.microsoft"
"""Operations of ONNX Runtime that are no part of the standard; it has them on every platform, browsers included."""
_LEAST_ROWS = 64
"""Smaller tables, such as that of the two segments, are not worth it."""
_MOVES = frozenset(
    (
        "Flatten",
        "Gather",
        "GatherND",
        "Identity",
        "Reshape",
        "Slice",
        "Split",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    )
)
"""Operations between the last product and the outputs that choose and arrange numbers, and compute none."""


def quantise(source: Path, target: Path) -> float:
    """Write the quantised form of a network; return the share of its weights, by entries, that is in int8.

    Args:
        source: in single precision.
        target: to be written.
    """
    import onnx  # of the extra [onnx]

    model = onnx.load(source)
    graph = model.graph
    weights = {
        each.name: math.prod(each.dims)
        for each in graph.initializer
        if each.data_type == onnx.TensorProto.FLOAT and len(each.dims) > 1
    }
    quantiser = _Quantiser(graph)
    nodes: list[Any] = []
    for node in graph.node:
        nodes += quantiser.replaced(node)
    del graph.node[:]
    graph.node.extend(nodes)
    if all(each.domain != _CONTRIBUTED for each in model.opset_import):
        model.opset_import.append(onnx.helper.make_opsetid(_CONTRIBUTED, 1))
    read = {name for node in nodes for name in node.input}
    kept = [each for each in graph.initializer if each.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    # Shapes of what is not there any more.
    del graph.value_info[:]
    onnx.save(model, target)
    return 1.0 - sum(size for name, size in weights.items() if name in read) / max(1, sum(weights.values()))


def _products_of_outputs(graph: Any, constants: set[str]) -> set[str]:
    """Return the names of products from which a network has its outputs as they are, but for a bias and their order."""
    makers = {name: node for node in graph.node for name in node.output}
    found: set[str] = set()
    waiting = [each.name for each in graph.output]
    while waiting:
        name = waiting.pop()
        node = makers.get(name)
        if node is None:
            continue
        if node.op_type in ("MatMul", "Gemm"):
            found.add(name)
        elif node.op_type in _MOVES:
            waiting.append(node.input[0])
        elif node.op_type == "Add" and constants & set(node.input):
            waiting += set(node.input) - constants
    return found


class _Quantiser:
    """Replaces the nodes of a graph one by one, in their order."""

    def __init__(self, graph: Any) -> None:
        from onnx import TensorProto, helper, numpy_helper

        self._helper, self._types, self._numpy = helper, TensorProto, numpy_helper
        self._graph = graph
        self._constants = {each.name: each for each in graph.initializer}
        self._heads = _products_of_outputs(graph, set(self._constants))
        self._tokens: dict[str, tuple[str, str]] = {}
        self._weights: dict[str, tuple[str, str]] = {}
        for name, value in (
            ("int8_top", np.float32(TOKEN_TOP)), ("int8_tiny", np.float32(_TINY)), ("int8_axis", np.array([-1])),
            ("int8_one", np.float32(1.0)), ("int8_zero", np.uint8(128)),
        ):  # fmt: skip
            self._constant(name, np.asarray(value))

    def replaced(self, node: Any) -> list[Any]:
        """Return the nodes that stand for one of the original."""
        set_to = {each.name: self._helper.get_attribute_value(each) for each in node.attribute}
        if node.op_type in ("MatMul", "Gemm") and self._is_table(node.input[1]):
            plain = (
                set_to.get("transA", 0) == 0 and set_to.get("alpha", 1.0) == set_to.get("beta", 1.0) == 1.0
            )
            if plain and node.output[0] not in self._heads:
                return self._product(node, turned=bool(set_to.get("transB", 0)))
        if (
            node.op_type == "Gather"
            and set_to.get("axis", 0) == 0
            and self._is_table(node.input[0], _LEAST_ROWS)
        ):
            return self._entries(node)
        return [node]

    def _product(self, node: Any, turned: bool) -> list[Any]:
        """Tokens times weights: in integers, both scales, the bias of `Gemm`. ``turned``: weights transposed."""
        source, weight, *added = node.input
        (output,) = node.output
        product = f"{output}_product" if added else output
        nodes: list[Any] = []
        if source not in self._tokens:
            nodes += self._quantised_tokens(source)
        tokens, scales = self._tokens[source]
        integers, weight_scales = self._quantised(weight, axis=0, top=WEIGHT_TOP, turned=turned)
        nodes += [
            self._node(
                "MatMulIntegerToFloat", [tokens, integers, "int8_one", weight_scales, "int8_zero"], f"{output}_steps",
                domain=_CONTRIBUTED,
            ),
            self._node("Mul", [f"{output}_steps", scales], product),
        ]  # fmt: skip
        return [*nodes, self._node("Add", [product, *added], output)] if added else nodes

    def _quantised_tokens(self, source: str) -> list[Any]:
        def name(what: str) -> str:
            return f"{source}_{what}"

        self._tokens[source] = name("int8"), name("scale")
        return [
            self._node("Abs", [source], name("sizes")),
            self._node("ReduceMax", [name("sizes"), "int8_axis"], name("largest"), keepdims=1),
            self._node("Max", [name("largest"), "int8_tiny"], name("positive")),
            self._node("Div", [name("positive"), "int8_top"], name("scale")),
            self._node("Div", [source, name("scale")], name("steps")),
            self._node("QuantizeLinear", [name("steps"), "int8_one", "int8_zero"], name("int8")),
        ]

    def _entries(self, node: Any) -> list[Any]:
        """Entries of a table: looked up in integers, beside their scales."""
        table, places = node.input
        (output,) = node.output
        integers, scales = self._quantised(table, axis=1, top=TOKEN_TOP)
        return [
            self._node("Gather", [integers, places], f"{output}_int8"),
            self._node("Cast", [f"{output}_int8"], f"{output}_float", to=self._types.FLOAT),
            self._node("Gather", [scales, places], f"{output}_scale"),
            self._node("Mul", [f"{output}_float", f"{output}_scale"], output),
        ]

    def _quantised(self, name: str, axis: int, top: int, turned: bool = False) -> tuple[str, str]:
        """Return the names of a constant in int8 and of its scales, one along ``axis``; ``turned``: transposed."""
        if (key := f"{name}_{axis}{'_turned' * turned}") not in self._weights:
            values: NDArray[np.float32] = self._numpy.to_array(self._constants[name])
            values = np.ascontiguousarray(values.T) if turned else values
            scales = np.maximum(np.abs(values).max(axis=axis, keepdims=True) / top, _TINY).astype(np.float32)
            integers = np.clip(np.rint(values / scales), -top, top).astype(np.int8)
            self._constant(f"{key}_int8", integers)
            self._constant(f"{key}_scale", scales if axis == 1 else scales[0])
            self._weights[key] = f"{key}_int8", f"{key}_scale"
        return self._weights[key]

    def _is_table(self, name: str, least: int = 1) -> bool:
        found = self._constants.get(name)
        return (
            found is not None
            and found.data_type == self._types.FLOAT
            and len(found.dims) == 2
            and found.dims[0] >= least
        )

    def _node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> Any:
        return self._helper.make_node(kind, inputs, [output], **attributes)

    def _constant(self, name: str, values: NDArray[Any]) -> None:
        self._graph.initializer.append(self._numpy.from_array(values, name))
