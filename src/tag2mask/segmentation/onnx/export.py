"""A network as one ONNX file for images of any size, which counts once onnxruntime gives the network's own logits."""

from __future__ import annotations

import copy
import importlib.util
import io
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from tag2mask.core.errors import ConfigError, DataError, StageError, WeightsError
from tag2mask.core.files import atomic_path
from tag2mask.segmentation.networks.base import Segmenter
from tag2mask.segmentation.onnx.runtime import ENTRY, MISSING, SCHEMA, OnnxSegmenter
from tag2mask.segmentation.onnx.traceable import recordable

LIBRARIES = ("onnx", "onnxruntime")
TOLERANCE = 1e-4
"""Largest difference to the network itself, as a share of the largest logit where that is above 1."""
CHECKED = ((3, 33, 50), (1, 129, 200), (2, 224, 150), (1, 161, 257))
"""Batch, height and width at which a file is compared with its network before it counts."""
_RECORDED = (2, 160, 224)
_OPSET = 18
_ENOUGH = 3

_Node = tuple[str, list[str], str, dict[str, Any]]
"""Operator, names of inputs, name of the output, attributes."""
_BEFORE: tuple[_Node, ...] = (
    ("Sub", ["images", "mean"], "centred", {}),
    ("Div", ["centred", "std"], "normal", {}),
    ("Shape", ["images"], "size", {"start": 2, "end": 4}),
    ("Neg", ["size"], "minus", {}),
    ("Mod", ["minus", "multiple"], "rest", {}),  # takes the divisor's sign, so it is not negative
    ("Sub", ["least", "size"], "lacking", {}),
    ("Max", ["rest", "lacking"], "missing", {}),
    ("Concat", ["nothing", "missing"], "pads", {"axis": 0}),
    ("Pad", ["normal", "pads", "zero"], "padded", {}),
)
_BEHIND: tuple[_Node, ...] = (
    ("Add", ["size", "missing"], "whole", {}),
    ("Shape", ["scores"], "outer", {"start": 0, "end": 2}),
    ("Concat", ["outer", "whole"], "sizes", {"axis": 0}),
    ("Resize", ["scores", "", "", "sizes"], "resized", {"mode": "linear"}),  # by half pixels, as torch's
    ("Slice", ["resized", "first", "size", "sides"], "logits", {}),
)
_OUTER = {"images", "padded", "scores", "logits", ""}
"""Names that others know; those of ours have a prefix, so that they are none of the network's."""


def framed(model: Any, mean: Sequence[float], std: Sequence[float], multiple: int, least: int = 1) -> Any:
    """Put a network into its frame: colours and padding before it, resizing and cutting behind.

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

    def named(name: str) -> str:
        return name if name in _OUTER else f"frame_{name}"

    before, behind = (
        [
            helper.make_node(kind, [named(i) for i in ins], [named(out)], named(out), **more)
            for kind, ins, out, more in part
        ]
        for part in (_BEFORE, _BEHIND)
    )
    whole = [*before, *graph.node, *behind]
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend(whole)
    graph.initializer.extend(numpy_helper.from_array(v, named(k)) for k, v in constants.items())
    for ends, name, channels in ((graph.input, "images", 3), (graph.output, "logits", labels)):
        shape = ["batch", channels, "height", "width"]
        ends.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    return model


class _Core(nn.Module):
    """The part of a network that is recorded."""

    def __init__(self, net: Segmenter) -> None:
        super().__init__()
        self.net = net

    def forward(self, padded: Tensor) -> Tensor:
        """Normalised images, sides multiples of the network's, to logits."""
        return self.net.logits(padded)


def check_request(path: Path) -> None:
    """See that a network can be written to ``path``, before anything is loaded."""
    if path.suffix.lower() != ".onnx":
        raise ConfigError(f"--out {path}: a network becomes one file that ends in .onnx")
    absent = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    if absent:
        raise ConfigError(MISSING.format(what=f"writing ONNX needs {', '.join(absent)}"))
    if path.exists():
        raise StageError(f"--out {path} exists; remove it or name another file")


def export_onnx(net: Segmenter, classes: tuple[str, ...], path: Path) -> None:
    """Write a network for the C classes as ONNX; the file appears only once `compare` finds nothing."""
    check_request(path)
    import onnx

    own = copy.deepcopy(net).cpu().eval()
    model = framed(_recorded(own), net.mean, net.std, net.multiple, net.least)
    settings = net.settings.model_copy(update={"weights": "none", "pretrained": None})
    about = {
        "schema": SCHEMA, "network": settings.model_dump(mode="json"), "initial": net.initial, "max_side": net.max_side,
        "classes": list(classes),
    }  # fmt: skip
    onnx.helper.set_model_props(model, {ENTRY: json.dumps(about, ensure_ascii=False, sort_keys=True)})
    with atomic_path(path) as temporary:
        onnx.save(model, temporary)
        try:
            compare(own, OnnxSegmenter(temporary))
        except (WeightsError, DataError) as error:
            raise _refusal(net, f"onnxruntime refuses it ({error})") from error


@torch.no_grad()
def compare(net: Segmenter, found: OnnxSegmenter) -> None:
    """See that a file gives its network's logits at each of the sizes `CHECKED` that the network itself takes."""
    generator = torch.Generator().manual_seed(0)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (net.mean, net.std))
    compared = 0
    for batch, height, width in CHECKED:
        images = torch.rand(batch, 3, height, width, generator=generator)
        try:
            logits = net((images - mean) / std)
        except RuntimeError:  # some decoders halve small images to nothing
            continue
        logits = F.interpolate(logits, (height, width), mode="bilinear", align_corners=False)
        off = float((found(images) - logits).abs().max())
        if not off <= TOLERANCE * max(1.0, float(logits.abs().max())):
            what = f"at {width} x {height} pixels onnxruntime's logits differ by {off:.1e} from the network's"
            raise _refusal(net, f"{what}, more than {TOLERANCE}")
        compared += 1
    if compared < _ENOUGH:
        raise _refusal(net, f"the network itself takes {compared} of {len(CHECKED)} sizes that it was tried with")


def _recorded(net: Segmenter) -> Any:
    """The graph of the network between padding and cutting, an ``onnx.ModelProto``."""
    import onnx

    batch, height, width = _RECORDED
    file = io.BytesIO()
    try:
        with recordable(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of branches, which `compare` checks
            torch.onnx.export(
                _Core(net).eval(),  # the exporter leaves it and all in it in the mode that it came in
                (torch.zeros(batch, 3, height, width),),
                cast(Any, file),  # which it takes, though its types do not say so
                input_names=["padded"],
                output_names=["scores"],
                dynamic_axes={"padded": {0: "batch", 2: "rows", 3: "columns"}},
                opset_version=_OPSET,
                dynamo=False,  # the other way reasons about sizes, for minutes, and gives up on those of DeepLabV2
            )
    except Exception as error:  # of many kinds, all of which say that this network cannot be recorded
        said = str(error).strip()
        raise _refusal(net, said.splitlines()[0] if said else type(error).__name__) from error
    return onnx.load_from_string(file.getvalue())


def _refusal(net: Segmenter, why: str) -> ConfigError:
    return ConfigError(
        f"'{net.settings.kind}' on '{net.settings.encoder}' cannot be written as ONNX for all image sizes: {why}. "
        f"Nothing was written; use its own weights, or train another network, such as fpn on efficientnet_lite0"
    )


def export_network(source: str, out: Path, *, stage: str | None = None) -> tuple[str, ...]:
    """Write a segmentation network as one ONNX file.

    Args:
        source: whatever `tag2mask.load` takes, but ONNX.
        out: the file, ending in .onnx.
        stage: of a run with several networks, which.

    Returns:
        Its class names.

    Raises:
        ConfigError: an unknown stage, another ending, ONNX already, or the extra ``onnx`` is not installed.
        StageError: the run has no finished network, or the file cannot be written or is there already.
        WeightsError: there is no such network.
    """
    from tag2mask.segmentation.find_model import find_network

    check_request(out)
    found = find_network(source, stage)
    if found.segmenter is None:
        raise ConfigError(f"{source} is in ONNX already; copy it")
    export_onnx(found.segmenter, found.network.classes, out)
    return found.network.classes
