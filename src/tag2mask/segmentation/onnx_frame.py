"""What surrounds a recorded network in its ONNX file: colours and padding before it, resizing and cutting behind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_Node = tuple[str, list[str], str, dict[str, Any]]
"""Operator, names of inputs, name of the output, attributes."""


def framed(model: Any, mean: Sequence[float], std: Sequence[float], multiple: int, least: int = 1) -> Any:
    """Put a network into its frame.

    Args:
        model: ``onnx.ModelProto`` from ``padded`` (normalised, sides multiples of ``multiple``) to ``scores``.
        mean: per channel of RGB in [0, 1].
        std: per channel.
        multiple: of the sides.
        least: smallest sides, a multiple of ``multiple`` or 1.

    Returns:
        The same model, from ``images`` in [0, 1] of any size to ``logits`` of that size.
    """
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    labels = graph.output[0].type.tensor_type.shape.dim[1].dim_value
    constants: dict[str, NDArray[Any]] = {
        "mean": np.array(mean, np.float32).reshape(1, 3, 1, 1),
        "std": np.array(std, np.float32).reshape(1, 3, 1, 1),
        "multiple": np.array([multiple], np.int64),
        "least": np.array([least], np.int64),
        "nothing": np.zeros(6, np.int64),
        "zero": np.array(0, np.float32),
        "first": np.zeros(2, np.int64),
        "sides": np.array([2, 3], np.int64),
    }
    before: list[_Node] = [
        ("Sub", ["images", "mean"], "centred", {}),
        ("Div", ["centred", "std"], "normal", {}),
        ("Shape", ["images"], "size", {"start": 2, "end": 4}),
        ("Neg", ["size"], "minus", {}),
        ("Mod", ["minus", "multiple"], "rest", {}),  # takes the divisor's sign, so it is not negative
        ("Sub", ["least", "size"], "lacking", {}),
        ("Max", ["rest", "lacking"], "missing", {}),
        ("Concat", ["nothing", "missing"], "pads", {"axis": 0}),
        ("Pad", ["normal", "pads", "zero"], "padded", {}),
    ]
    behind: list[_Node] = [
        ("Add", ["size", "missing"], "whole", {}),
        ("Shape", ["scores"], "outer", {"start": 0, "end": 2}),
        ("Concat", ["outer", "whole"], "sizes", {"axis": 0}),
        ("Resize", ["scores", "", "", "sizes"], "resized", {"mode": "linear"}),  # by half pixels, as torch's
        ("Slice", ["resized", "first", "size", "sides"], "logits", {}),
    ]
    own = {name for line in (*before, *behind) for name in (line[2], *constants)} - {"padded"}

    def named(name: str) -> str:
        return f"frame_{name}" if name in own - {"logits"} else name

    def nodes(lines: Sequence[_Node]) -> list[Any]:
        return [
            helper.make_node(kind, [named(i) for i in inputs], [named(output)], named(output), **attributes)
            for kind, inputs, output, attributes in lines
        ]

    whole = [*nodes(before), *graph.node, *nodes(behind)]
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend(whole)
    graph.initializer.extend(numpy_helper.from_array(v, named(k)) for k, v in constants.items())
    shape = ["batch", "height", "width"]
    graph.input.append(helper.make_tensor_value_info("images", TensorProto.FLOAT, [shape[0], 3, *shape[1:]]))
    graph.output.append(helper.make_tensor_value_info("logits", TensorProto.FLOAT, [shape[0], labels, *shape[1:]]))
    return model
