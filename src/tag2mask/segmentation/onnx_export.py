"""A segmentation network as one ONNX file for images of any size, colours and padding inside.

The file's input ``images`` is (batch, 3, height, width), float32 RGB in [0, 1]; its output ``logits`` is
(batch, C + 1, height, width), background first. Settings and class names are in its metadata, under `ENTRY`.

The network itself is recorded for sides that are multiples of its ``multiple``, where all sizes inside follow by
exact divisions. What comes before it (colours, padding) and behind (resizing, cutting) is added as ONNX operators.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tag2mask.core.errors import ConfigError, StageError, WeightsError
from tag2mask.core.files import atomic_path
from tag2mask.segmentation.exportable import exportable
from tag2mask.segmentation.onnx_frame import framed
from tag2mask.segmentation.onnx_run import ENTRY, MISSING, SCHEMA, OnnxSegmenter
from tag2mask.segmentation.segmenter import Segmenter

LIBRARIES = ("onnx", "onnxscript", "onnxruntime")
TOLERANCE = 1e-4
"""Largest difference to the network itself, as a share of the largest logit where that is above 1."""
CHECKED = ((1, 65, 97), (2, 128, 34), (1, 47, 150))
"""Batch, height and width at which a file is compared with its network before it counts."""
_RECORDED = (2, 96, 160)
_MOST = 1 << 14  # multiples along a side


class _Core(nn.Module):
    """The part of a network that is recorded."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, padded: Tensor) -> Tensor:
        """Normalised images, sides multiples of the network's, to logits."""
        logits: Tensor = self.net.logits(padded)  # type: ignore[operator]
        return logits


def check_request(path: Path) -> None:
    """See that a network can be written to ``path``, before anything is loaded.

    Raises:
        ConfigError: another ending, the extra is not installed.
        StageError: the file is there already.
    """
    if path.suffix.lower() != ".onnx":
        raise ConfigError(f"--out {path}: a network becomes one file that ends in .onnx")
    absent = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    if absent:
        raise ConfigError(MISSING.format(what=f"writing ONNX needs {', '.join(absent)}"))
    if path.exists():
        raise StageError(f"--out {path} exists; remove it or name another file")


def export_onnx(net: Segmenter, classes: tuple[str, ...], path: Path) -> None:
    """Write a network as ONNX; the file appears only once onnxruntime gives the network's own logits from it.

    Args:
        net: the network.
        classes: C names.
        path: the .onnx file.

    Raises:
        ConfigError: the network cannot be recorded for all sizes, or the extra is not installed.
        StageError: the file cannot be written.
        WeightsError: onnxruntime gives other logits.
    """
    check_request(path)
    import onnx

    model = framed(_recorded(net), net.mean, net.std, net.multiple)
    settings = net.settings.model_copy(update={"weights": "none", "pretrained": None})
    about = {
        "schema": SCHEMA, "network": settings.model_dump(mode="json"), "initial": net.initial, "classes": list(classes),
    }  # fmt: skip
    onnx.helper.set_model_props(model, {ENTRY: json.dumps(about, ensure_ascii=False, sort_keys=True)})
    onnx.checker.check_model(model)
    with atomic_path(path) as temporary:
        onnx.save(model, temporary)
        compare(net, OnnxSegmenter(temporary), path)


@torch.no_grad()
def compare(net: Segmenter, found: OnnxSegmenter, path: Path) -> None:
    """See that a file gives its network's logits at each of the sizes `CHECKED`.

    Raises:
        WeightsError: it does not.
    """
    generator = torch.Generator().manual_seed(0)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (net.mean, net.std))
    own = exportable(net, even=False)
    for size in CHECKED:
        images = torch.rand(size[0], 3, *size[1:], generator=generator)
        logits = own((images - mean) / std)
        logits = F.interpolate(logits, size[1:], mode="bilinear", align_corners=False)
        off = float((found(images) - logits).abs().max())
        if not off <= TOLERANCE * max(1.0, float(logits.abs().max())):
            raise WeightsError(
                f"{path} was not written: at {size[2]} x {size[1]} pixels onnxruntime's logits differ by {off:.1e} "
                f"from the network's ('{net.settings.kind}' on '{net.settings.encoder}'), more than {TOLERANCE}"
            )


def _recorded(net: Segmenter) -> Any:
    """The graph of the network between padding and cutting, an ``onnx.ModelProto``.

    Raises:
        ConfigError: a layer computes with sizes in a way that cannot be recorded.
    """
    multiple = net.multiple
    dim = torch.export.Dim
    sides = {2: dim("rows", max=_MOST), 3: dim("columns", max=_MOST)}
    shapes: dict[int, Any] = {0: dim("batch", max=_MOST), **{k: multiple * v for k, v in sides.items()}}
    batch, height, width = _RECORDED
    core = _Core(exportable(net, even=multiple > 1))
    images = torch.zeros(batch, 3, height, width)
    with _quiet(), torch.no_grad():
        try:
            program = torch.export.export(core, (images,), dynamic_shapes=(shapes,), strict=False)
            found = torch.onnx.export(
                program, (images,), input_names=["padded"], output_names=["scores"], dynamo=True, verbose=False
            )
        except Exception as error:  # of many kinds, all of which say that this network cannot be recorded
            raise ConfigError(
                f"'{net.settings.kind}' on '{net.settings.encoder}' cannot be written as ONNX for all image sizes: "
                f"{str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__}"
            ) from error
    assert found is not None
    return found.model_proto


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter says of itself."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "torch.export")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
