"""A network with weights in int8 and products computed in int8, in which each token is quantised by itself.

Of a weight matrix each output has a scale of its own, found once. Of what is multiplied with it each token has one,
found when it is computed: its largest size / 127. So no rows are needed to find ranges in, an outlier costs its own
token only, and, other than where one scale serves a whole batch (ONNX Runtime's ``quantize_dynamic``), a text is
answered alone as among others. See decision 22.

Embedding tables have a scale for each entry. Attention, normalisation, pooler and head stay in single precision.
"""

from __future__ import annotations

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


def quantise(source: Path, target: Path) -> None:
    """Write the quantised form of a network.

    Args:
        source: in single precision.
        target: to be written.
    """
    import onnx  # of the extra [onnx]

    model = onnx.load(source)
    graph = model.graph
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


class _Quantiser:
    """Replaces the nodes of a graph one by one, in their order."""

    def __init__(self, graph: Any) -> None:
        from onnx import TensorProto, helper, numpy_helper

        self._helper, self._types, self._numpy = helper, TensorProto, numpy_helper
        self._graph = graph
        self._constants = {each.name: each for each in graph.initializer}
        self._tokens: dict[str, tuple[str, str]] = {}
        self._weights: dict[str, tuple[str, str]] = {}
        for name, value in (
            ("int8_top", np.float32(TOKEN_TOP)), ("int8_tiny", np.float32(_TINY)), ("int8_axis", np.array([-1])),
            ("int8_one", np.float32(1.0)), ("int8_zero", np.uint8(128)),
        ):  # fmt: skip
            self._constant(name, np.asarray(value))

    def replaced(self, node: Any) -> list[Any]:
        """Return the nodes that stand for one of the original."""
        if node.op_type == "MatMul" and self._is_table(node.input[1]):
            return self._product(node)
        axis = next((each.i for each in node.attribute if each.name == "axis"), 0)
        if node.op_type == "Gather" and axis == 0 and self._is_table(node.input[0], _LEAST_ROWS):
            return self._entries(node)
        return [node]

    def _product(self, node: Any) -> list[Any]:
        """Tokens times weights: in integers, then both scales."""
        source, weight = node.input
        (output,) = node.output
        nodes: list[Any] = []
        if source not in self._tokens:
            nodes += self._quantised_tokens(source)
        tokens, scales = self._tokens[source]
        integers, weight_scales = self._quantised(weight, axis=0, top=WEIGHT_TOP)
        nodes += [
            self._node(
                "MatMulIntegerToFloat", [tokens, integers, "int8_one", weight_scales, "int8_zero"], f"{output}_steps",
                domain=_CONTRIBUTED,
            ),
            self._node("Mul", [f"{output}_steps", scales], output),
        ]  # fmt: skip
        return nodes

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

    def _quantised(self, name: str, axis: int, top: int) -> tuple[str, str]:
        """Return the names of a constant in int8 and of its scales, one along ``axis``."""
        if (key := f"{name}_{axis}") not in self._weights:
            values: NDArray[np.float32] = self._numpy.to_array(self._constants[name])
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
