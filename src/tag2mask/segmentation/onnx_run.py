"""Segmentation networks in ONNX, as `tag2mask export --format onnx` writes them, run by onnxruntime on the CPU."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tag2mask.core.errors import ConfigError, DataError, WeightsError

ENTRY = "tag2mask"
"""Key of the file's metadata that holds settings and class names as JSON."""
SCHEMA = 1
MISSING = "{what}, which the extra 'onnx' brings: pip install 'tag2mask[onnx]'"


class OnnxSegmenter:
    """A segmentation network in ONNX.

    Args:
        path: the file.

    Attributes:
        classes: C names, without the background.
        max_side: longest side of the photos that it was trained on, where larger ones were shrunk to it; else None.
        mean: 0 for each channel: the colours are normalised inside.
        std: 1 for each channel.

    Raises:
        ConfigError: onnxruntime is not installed.
        WeightsError: the file is missing, damaged, of another network or of a later version.
    """

    mean = (0.0, 0.0, 0.0)
    std = (1.0, 1.0, 1.0)

    def __init__(self, path: Path) -> None:
        if importlib.util.find_spec("onnxruntime") is None:
            raise ConfigError(MISSING.format(what=f"{path} needs onnxruntime"))
        self.path = path
        self._session = _session(path)
        about = _about(self._session.get_modelmeta().custom_metadata_map, path)
        self.classes = tuple(str(name) for name in about["classes"])
        self.max_side: int | None = about["max_side"]
        _check_form(self._session, len(self.classes) + 1, path)

    def __call__(self, images: Tensor) -> Tensor:
        """Scores of every pixel.

        Args:
            images: (N, 3, H, W) RGB in [0, 1], which is what ``mean`` and ``std`` make of it, of any size.

        Returns:
            Logits (N, C + 1, H, W) on the CPU, background first.

        Raises:
            DataError: images of another shape, or of a size that the network does not take.
        """
        if images.ndim != 4 or images.shape[1] != 3 or not images.numel():
            raise DataError(f"images have shape {tuple(images.shape)}: expected (N, 3, H, W) with at least one pixel")
        values = np.ascontiguousarray(images.detach().cpu().numpy(), dtype=np.float32)
        try:
            (logits,) = self._session.run(["logits"], {"images": values})
        except Exception as error:  # onnxruntime's own kinds share no base of their own
            raise DataError(
                f"{self.path} cannot segment images of {images.shape[3]} x {images.shape[2]} pixels: "
                f"{str(error).strip()}. Give larger ones, or fewer at once where memory is short"
            ) from error
        return torch.from_numpy(logits)


def _session(path: Path) -> Any:
    import onnxruntime

    if not path.is_file():
        raise WeightsError(f"{path} does not exist: expected a network that 'tag2mask export --format onnx' wrote")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # not errors, which are raised as well
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own kinds share no base of their own
        raise WeightsError(f"{path} cannot be read as ONNX: {str(error).strip()}. Copy or export it again") from error


def _about(metadata: dict[str, str], path: Path) -> dict[str, Any]:
    if ENTRY not in metadata:
        raise WeightsError(
            f"{path} is an ONNX file of another network: its metadata has no entry '{ENTRY}', so its colours and "
            f"classes are not known. Write one: tag2mask export RUN --format onnx --out FILE.onnx"
        )
    try:
        about: dict[str, Any] = json.loads(metadata[ENTRY])
        if about["schema"] != SCHEMA:
            raise WeightsError(f"{path} has schema {about['schema']}, expected {SCHEMA}: export it again")
        if about["max_side"] is not None and (not isinstance(about["max_side"], int) or about["max_side"] < 1):
            raise TypeError(f"max_side {about['max_side']}")
        if not isinstance(about["classes"], list) or not about["classes"]:
            raise TypeError("no class names")
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(
            f"{path}: the entry '{ENTRY}' of its metadata is damaged ({error}); export it again"
        ) from error
    return about


def _check_form(session: Any, n_labels: int, path: Path) -> None:
    """See that input and output are those of the metadata."""
    inputs, outputs = ([(i.name, i.shape[1:2]) for i in ends] for ends in (session.get_inputs(), session.get_outputs()))
    if inputs != [("images", [3])] or outputs != [("logits", [n_labels])]:
        raise WeightsError(
            f"{path} does not fit its metadata: expected an input 'images' of 3 channels and an output 'logits' of "
            f"{n_labels} labels, found {inputs} and {outputs}. Export it again"
        )
