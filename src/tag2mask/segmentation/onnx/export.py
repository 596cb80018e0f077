"""A network as one ONNX file for images of any size, which counts once onnxruntime gives the network's own logits.

A recording follows what is computed with sizes, as long as it is computed by operators. Adaptive pooling to a grid has
no operator in ONNX but for one cell, and a roll becomes two slices, which are wrong where it is longer than the side.
The stand-ins in `recordable` give the same numbers by computing with positions.
"""

from __future__ import annotations

import copy
import importlib.util
import io
import json
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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

_RECORDING = threading.RLock()


@contextmanager
def recordable() -> Iterator[None]:
    """Within it, this thread has `pooled` and `rolled` in the place of torch's functions; one recording at a time.

    What a failed recording logs, the whole graph on the standard output, is left out.
    """
    places: tuple[tuple[Any, str, Any], ...] = (
        (F, "adaptive_avg_pool2d", pooled), (torch, "roll", rolled), (torch._C, "_jit_onnx_log", lambda *_: None),
    )  # fmt: skip
    with _RECORDING:
        before = [(owner, name, getattr(owner, name)) for owner, name, _ in places]
        try:
            for (owner, name, stand_in), (*_, own) in zip(places, before, strict=True):
                setattr(owner, name, _in_this_thread(stand_in, own))
            yield
        finally:
            for owner, name, own in before:
                setattr(owner, name, own)


def _in_this_thread(stand_in: Any, own: Any) -> Any:
    """A function that is ``stand_in`` in this thread and ``own`` in all others."""
    thread = threading.get_ident()

    def chosen(*arguments: Any, **words: Any) -> Any:
        return (stand_in if threading.get_ident() == thread else own)(*arguments, **words)

    return chosen


def pooled(input: Tensor, output_size: int | Sequence[int | None]) -> Tensor:
    """Adaptive average pooling of (N, C, H, W) to a grid, as `F.adaptive_avg_pool2d` does, by two matrix products.

    Cell i of n takes the pixels from floor(i L / n) up to, without, ceil((i + 1) L / n) of L, and each weighs the same.
    """
    height, width = input.shape[-2:]
    rows, columns = (output_size, output_size) if isinstance(output_size, int) else output_size
    down = _weights(height, height if rows is None else rows, input)
    across = _weights(width, width if columns is None else columns, input)
    return torch.matmul(torch.matmul(down, input), across.T)


def rolled(input: Tensor, shifts: int | Sequence[int], dims: int | Sequence[int]) -> Tensor:
    """Values moved along some axes, as `torch.roll` does; those that pass the end come in at the begin."""
    places, axes = ((value,) if isinstance(value, int) else value for value in (shifts, dims))
    for shift, axis in zip(places, axes, strict=True):
        length = input.shape[axis]
        input = input.index_select(axis, (torch.arange(length, device=input.device) - shift) % length)
    return input


def _weights(length: int, cells: int, like: Tensor) -> Tensor:
    """(cells, length), each row the mean over the pixels of its cell."""
    cell = torch.arange(cells, device=like.device)[:, None]
    pixel = torch.arange(length, device=like.device)[None]
    # Nothing negative is divided: a recording rounds towards 0, not down.
    begin, end = cell * length // cells, ((cell + 1) * length + cells - 1) // cells
    inside = ((pixel >= begin) & (pixel < end)).to(like.dtype)
    return inside / (end - begin).to(like.dtype)


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

    ``model`` is an ``onnx.ModelProto`` from ``padded`` (normalised, sides multiples of ``multiple`` and ``least`` or
    more) to ``scores``; the result takes ``images`` in [0, 1] of any size and gives ``logits`` of that size.
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
        "schema": SCHEMA, "network": settings.model_dump(mode="json"), "initial": net.initial, **net.sides(),
        "classes": list(classes),
    }  # fmt: skip
    if not net.background:
        about["background"] = False
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
    """Write a segmentation network, of what `tag2mask.load` takes but ONNX, as one .onnx file; gives its classes."""
    from tag2mask.segmentation.find_model import find_network

    check_request(out)
    found = find_network(source, stage)
    if found.segmenter is None:
        raise ConfigError(f"{source} is in ONNX already; copy it")
    export_onnx(found.segmenter, found.network.classes, out)
    return found.network.classes
