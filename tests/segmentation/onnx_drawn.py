"""Small ONNX files made by hand, without recording a network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tag2mask.segmentation.onnx.runtime import ENTRY


def identity(channels: int = 3, inputs: str = "padded", outputs: str = "scores") -> Any:
    """A network whose output is its input."""
    from onnx import TensorProto, helper

    shape: list[str | int | None] = ["batch", channels, "height", "width"]
    graph = helper.make_graph(
        [helper.make_node("Identity", [inputs], [outputs])],
        "identity",
        [helper.make_tensor_value_info(inputs, TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(outputs, TensorProto.FLOAT, shape)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def saved(model: Any, path: Path, about: Any = None) -> Path:
    """Write a model with our entry in its metadata: an object as JSON, a text as it is, none for None."""
    import onnx

    if about is not None:
        onnx.helper.set_model_props(model, {ENTRY: about if isinstance(about, str) else json.dumps(about)})
    onnx.save(model, path)
    return path
